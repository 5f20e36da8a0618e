// SPDX-License-Identifier: MIT
/// @file
/// Remote files as C++ streams.
#pragma once

#include <cstdint>
#include <istream>
#include <streambuf>
#include <vector>

#include "remofile/file.hpp"

namespace libremofile {

/// Reads and writes a File through a buffer, with one position for both. One thread at a time.
class LIBREMOFILE_PUBLIC StreamBuffer : public std::streambuf {
public:
    explicit StreamBuffer(File file);
    StreamBuffer(const StreamBuffer&) = delete;
    StreamBuffer& operator=(const StreamBuffer&) = delete;
    /// As close(), but an error is lost.
    ~StreamBuffer() override;

    /// Writes what is buffered and closes the file.
    Result<> close();
    /// What made the stream bad, last.
    const Error& error() const { return error_; }

protected:
    int_type underflow() override;
    int_type overflow(int_type character) override;
    int sync() override;
    pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode which) override;
    pos_type seekpos(pos_type position, std::ios_base::openmode which) override;

private:
    bool write_out();
    std::uint64_t position() const;
    void forget_buffer(std::uint64_t position);
    bool failed(Error error);

    File file_;
    std::vector<char> buffer_;
    std::uint64_t buffer_offset_ = 0;  // in the file, of the buffer's first byte
    Error error_;
};

/// A std::iostream over a remote file. An error sets badbit; error() says what it was.
class LIBREMOFILE_PUBLIC Stream : public std::iostream {
public:
    explicit Stream(File file);
    ~Stream() override;

    /// Writes what is buffered and closes the file; sets badbit if either fails.
    Result<> close();
    const Error& error() const { return buffer_.error(); }

private:
    StreamBuffer buffer_;
};

}  // namespace libremofile
