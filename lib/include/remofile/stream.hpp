// SPDX-License-Identifier: MIT
/// @file
/// Remote files as C++ streams.
#pragma once

#include <cstdint>
#include <istream>
#include <span>
#include <streambuf>
#include <vector>

#include "remofile/file.hpp"

namespace libremofile {

/// Reads and writes a File through a buffer of up to 8 MiB, with one position for both. One thread at a time.
///
/// An iostream over it sets badbit on an error. Used without one (by std::istreambuf_iterator, say), reading throws
/// std::ios_base::failure on an error, so that it is not mistaken for the end of the file.
class LIBREMOFILE_PUBLIC StreamBuffer : public std::streambuf {
public:
    /// Takes the file over. The position is its start.
    explicit StreamBuffer(File file);
    StreamBuffer(const StreamBuffer&) = delete;
    StreamBuffer& operator=(const StreamBuffer&) = delete;
    /// As close(), but an error is lost.
    ~StreamBuffer() override;

    /// Writes what is buffered, closes the file, and says whether all that was ever read and written through the buffer
    /// arrived: if not, what went wrong first.
    Result<> close();
    /// What made the stream bad, last.
    const Error& error() const { return error_; }

    /// @cond what std::streambuf asks for
protected:
    int_type underflow() override;
    int_type overflow(int_type character) override;
    int sync() override;
    pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode which) override;
    pos_type seekpos(pos_type position, std::ios_base::openmode which) override;
    /// @endcond

private:
    bool write_out();
    std::span<char> larger_buffer();
    std::uint64_t position() const;
    void forget_buffer(std::uint64_t position);
    bool failed(Error error);
    bool lost_data(const Error& error);

    File file_;
    std::vector<char> buffer_;
    std::uint64_t buffer_offset_ = 0;  // in the file, of the buffer's first byte
    std::size_t next_bytes_ = 0;       // how much the last buffer since a seek held
    Error error_;
    Result<> outcome_;  // of all reading and writing so far
};

/// A std::iostream over a remote file. An error sets badbit; error() says what it was. What was written is the server's
/// after std::flush, seeking or close(); call close() to hear of an error, since the destructor cannot say.
class LIBREMOFILE_PUBLIC Stream : public std::iostream {
public:
    /// Takes the file over. The position is its start.
    explicit Stream(File file);
    ~Stream() override;

    /// As StreamBuffer::close(), and sets badbit if the answer is an error.
    Result<> close();
    /// What made the stream bad, last.
    const Error& error() const { return buffer_.error(); }

private:
    StreamBuffer buffer_;
};

}  // namespace libremofile
