// SPDX-License-Identifier: MIT
#include "base/result.hpp"
#include "base/status.hpp"

#include <cerrno>
#include <cstring>
#include <set>

#include "catch.hpp"

using namespace remofile;

namespace {

constexpr int last_errno = 133;  // EHWPOISON, the largest that Linux has on every architecture but a few

// The errnos that have a status of their own, as docs/PROTOCOL.md lists them.
const std::set<int> listed{EPERM,        ENOENT,    EIO,        ENXIO,   EBADF,  EAGAIN,    ENOMEM,   EACCES,
                           EBUSY,        EEXIST,    EXDEV,      ENOTDIR, EISDIR, EINVAL,    EMFILE,   ENFILE,
                           EFBIG,        ENOSPC,    EROFS,      EMLINK,  ERANGE, EDEADLK,   ENOLCK,   ENOSYS,
                           ENAMETOOLONG, ENOTEMPTY, ELOOP,      ENODATA, ESPIPE, EOVERFLOW, ESTALE,   EDQUOT,
                           E2BIG,        ETXTBSY,   EOPNOTSUPP, EINTR,   ENOTTY, EILSEQ,    ETIMEDOUT};

}  // namespace

TEST_CASE("every errno of this system has a status, and the listed ones come back") {
    for (int number = 1; number <= last_errno; ++number) {
        INFO(number << " " << std::strerror(number));
        const Status status = from_errno(number);
        CHECK(is_known(static_cast<std::uint32_t>(status)));
        CHECK(static_cast<std::uint32_t>(status) < 200);
        if (!listed.contains(number)) {
            CHECK(status == Status::io_error);
            CHECK(to_errno(status) == EIO);
        } else if (number == EMFILE) {
            CHECK(to_errno(status) == ENFILE);
        } else {
            CHECK(to_errno(status) == number);
        }
    }
}

TEST_CASE("every status has an errno and a phrase of its own") {
    std::set<std::string_view> phrases;
    int known = 0;
    for (std::uint32_t number = 0; number < 1000; ++number) {
        if (!is_known(number))
            continue;
        ++known;
        const auto status = static_cast<Status>(number);
        INFO(number);
        CHECK((to_errno(status) == 0) == (status == Status::ok));
        CHECK(phrases.insert(describe(status)).second);
    }
    CHECK(known == 52);
}

TEST_CASE("a status that is not known counts as an input/output error") {
    for (const std::uint32_t number : {39U, 199U, 213U, 0x80000000U, 0xffffffffU}) {
        CHECK_FALSE(is_known(number));
        CHECK(to_errno(static_cast<Status>(number)) == EIO);
        CHECK(describe(static_cast<Status>(number)) == "unknown error");
    }
}

TEST_CASE("statuses between client and server have the errno that the mount shows") {
    CHECK(to_errno(Status::no_session) == ESTALE);
    CHECK(to_errno(Status::unreachable) == EHOSTUNREACH);
    CHECK(to_errno(Status::shutting_down) == EIO);
    CHECK(to_errno(Status::export_needed) == ENOENT);
}

TEST_CASE("the status of a call that has no value is its result") {
    CHECK(Result<>(Status::ok).has_value());
    Result<> result = Status::no_entry;
    CHECK(result.status() == Status::no_entry);
    result = Status::ok;
    CHECK(result.has_value());
}
