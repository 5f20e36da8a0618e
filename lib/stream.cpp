// SPDX-License-Identifier: MIT
#include "remofile/stream.hpp"

#include <utility>

namespace libremofile {
namespace {

// A round trip a buffer: large enough that a fast link is used, small enough to be thrown away by a seek.
constexpr std::size_t buffer_bytes = 1U << 20;

}  // namespace

// The buffer holds either bytes read (eback() is set), whose first is that at buffer_offset_, or bytes to be written
// there (pbase() is set), or nothing.

StreamBuffer::StreamBuffer(File file) : file_(std::move(file)), buffer_(buffer_bytes) {}

StreamBuffer::~StreamBuffer() {
    write_out();
}

bool StreamBuffer::failed(Error error) {
    error_ = std::move(error);
    return false;
}

std::uint64_t StreamBuffer::position() const {
    const auto within = pbase() != nullptr ? pptr() - pbase() : gptr() - eback();
    return buffer_offset_ + static_cast<std::uint64_t>(within);
}

void StreamBuffer::forget_buffer(std::uint64_t position) {
    setg(nullptr, nullptr, nullptr);
    setp(nullptr, nullptr);
    buffer_offset_ = position;
}

bool StreamBuffer::write_out() {
    if (pbase() == nullptr)
        return true;
    const auto size = static_cast<std::size_t>(pptr() - pbase());
    const auto data = std::as_bytes(std::span<const char>(pbase(), size));
    const std::uint64_t offset = buffer_offset_;
    forget_buffer(position());
    const auto written = file_.pwrite(data, offset);
    return written ? true : failed(written.error());
}

// An iostream catches what its buffer throws and sets badbit: the one way to tell an error from the end of the file.
StreamBuffer::int_type StreamBuffer::underflow() {
    if (gptr() != nullptr && gptr() < egptr())
        return traits_type::to_int_type(*gptr());
    if (!write_out())
        throw std::ios_base::failure(error_.message);
    forget_buffer(position());
    const auto got = file_.pread(std::as_writable_bytes(std::span(buffer_)), buffer_offset_);
    if (!got) {
        failed(got.error());
        throw std::ios_base::failure(error_.message);
    }
    if (*got == 0)
        return traits_type::eof();
    setg(buffer_.data(), buffer_.data(), buffer_.data() + *got);
    return traits_type::to_int_type(*gptr());
}

StreamBuffer::int_type StreamBuffer::overflow(int_type character) {
    if (!file_.is_open()) {
        failed({ErrorCode::bad_handle, "the file is not open"});
        return traits_type::eof();
    }
    if (!write_out())
        return traits_type::eof();
    forget_buffer(position());
    setp(buffer_.data(), buffer_.data() + buffer_.size());
    if (!traits_type::eq_int_type(character, traits_type::eof())) {
        *pptr() = traits_type::to_char_type(character);
        pbump(1);
    }
    return traits_type::not_eof(character);
}

int StreamBuffer::sync() {
    return write_out() ? 0 : -1;
}

StreamBuffer::pos_type StreamBuffer::seekoff(off_type offset, std::ios_base::seekdir from,
                                             std::ios_base::openmode /*which*/) {
    if (from == std::ios_base::cur && offset == 0)
        return static_cast<off_type>(position());
    if (!write_out())
        return pos_type(off_type(-1));
    off_type base = 0;
    if (from == std::ios_base::cur) {
        base = static_cast<off_type>(position());
    } else if (from == std::ios_base::end) {
        const auto attributes = file_.stat();
        if (!attributes) {
            failed(attributes.error());
            return pos_type(off_type(-1));
        }
        base = static_cast<off_type>(attributes->size);
    }
    off_type target = 0;
    if (__builtin_add_overflow(base, offset, &target) || target < 0) {
        failed({ErrorCode::invalid, "seek: before the start of the file"});
        return pos_type(off_type(-1));
    }
    forget_buffer(static_cast<std::uint64_t>(target));
    return target;
}

StreamBuffer::pos_type StreamBuffer::seekpos(pos_type position, std::ios_base::openmode which) {
    return seekoff(off_type(position), std::ios_base::beg, which);
}

Result<> StreamBuffer::close() {
    const bool written = write_out();
    auto closed = file_.close();
    if (!written)
        return std::unexpected(error_);
    if (!closed)
        failed(closed.error());
    return closed;
}

// The base is given the buffer before it exists, as std::fstream does; nothing is read or written until it does.
Stream::Stream(File file) : std::iostream(nullptr), buffer_(std::move(file)) {
    init(&buffer_);
}

Stream::~Stream() = default;

Result<> Stream::close() {
    auto closed = buffer_.close();
    if (!closed)
        setstate(std::ios_base::badbit);
    return closed;
}

}  // namespace libremofile
