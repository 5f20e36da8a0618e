// SPDX-License-Identifier: MIT
#include "remofile/stream.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace libremofile {
namespace {

// A buffer is filled or emptied by one call. After a seek it begins small, since little may be wanted there, and
// doubles as long as the work is sequential: eight requests at once keep a long link busy.
constexpr std::size_t min_buffer_bytes = 64U << 10;
constexpr std::size_t max_buffer_bytes = 8U << 20;

}  // namespace

// The buffer holds either bytes read (eback() is set), whose first is that at buffer_offset_, or bytes to be written
// there (pbase() is set), or nothing.

StreamBuffer::StreamBuffer(File file) : file_(std::move(file)) {}

StreamBuffer::~StreamBuffer() {
    write_out();
}

bool StreamBuffer::failed(Error error) {
    error_ = std::move(error);
    return false;
}

bool StreamBuffer::lost_data(const Error& error) {
    if (outcome_)
        outcome_ = std::unexpected(error);
    return failed(error);
}

std::uint64_t StreamBuffer::position() const {
    const auto within = pbase() != nullptr ? pptr() - pbase() : gptr() - eback();
    return buffer_offset_ + static_cast<std::uint64_t>(within);
}

// The next buffer's memory: twice the last one's.
std::span<char> StreamBuffer::larger_buffer() {
    next_bytes_ = std::clamp(next_bytes_ * 2, min_buffer_bytes, max_buffer_bytes);
    if (buffer_.size() < next_bytes_)
        buffer_ = std::vector<char>(next_bytes_);
    return std::span(buffer_).first(next_bytes_);
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
    return written ? true : lost_data(written.error());
}

// An iostream catches what its buffer throws and sets badbit: the one way to tell an error from the end of the file.
StreamBuffer::int_type StreamBuffer::underflow() {
    if (gptr() != nullptr && gptr() < egptr())
        return traits_type::to_int_type(*gptr());
    if (!write_out())
        throw std::ios_base::failure(error_.message);
    forget_buffer(position());
    const auto got = file_.pread(std::as_writable_bytes(larger_buffer()), buffer_offset_);
    if (!got) {
        lost_data(got.error());
        throw std::ios_base::failure(error_.message);
    }
    if (*got == 0)
        return traits_type::eof();
    setg(buffer_.data(), buffer_.data(), buffer_.data() + *got);
    return traits_type::to_int_type(*gptr());
}

StreamBuffer::int_type StreamBuffer::overflow(int_type character) {
    if (!file_.is_open()) {
        lost_data({ErrorCode::bad_handle, "the file is not open"});
        return traits_type::eof();
    }
    if (!write_out())
        return traits_type::eof();
    forget_buffer(position());
    const auto room = larger_buffer();
    setp(room.data(), room.data() + room.size());
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
    next_bytes_ = 0;
    return target;
}

StreamBuffer::pos_type StreamBuffer::seekpos(pos_type position, std::ios_base::openmode which) {
    return seekoff(off_type(position), std::ios_base::beg, which);
}

Result<> StreamBuffer::close() {
    write_out();
    forget_buffer(position());
    if (const auto closed = file_.close(); !closed)
        lost_data(closed.error());
    return outcome_;
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
