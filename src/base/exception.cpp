// SPDX-License-Identifier: MIT
#include "base/exception.hpp"

#include <exception>
#include <new>
#include <stdexcept>

#include "base/log.hpp"

namespace remofile {
namespace {

// Where there is no memory for a line, there is none.
void report(std::string_view doing, std::string_view what) noexcept {
    try {
        log::error("{} ended with an exception: {}", doing, what);
    } catch (...) {
    }
}

}  // namespace

Status status_of_exception(std::string_view doing) noexcept {
    try {
        throw;
    } catch (const std::bad_alloc&) {
        report(doing, "no memory");
        return Status::out_of_memory;
    } catch (const std::length_error& exception) {
        report(doing, exception.what());
        return Status::out_of_memory;
    } catch (const std::exception& exception) {
        report(doing, exception.what());
    } catch (...) {
        report(doing, "one of no known type");
    }
    return Status::io_error;
}

}  // namespace remofile
