// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_channel.hpp"

#include <cerrno>

#include "catch.hpp"

using remofile::remofs::KernelChannel;
using Result = KernelChannel::ReadResult;

TEST_CASE("the channel ends for a reason, and what can be tried again is") {
    CHECK(KernelChannel::read_result(40) == Result::request);
    CHECK(KernelChannel::read_result(-EINTR) == Result::again);
    CHECK(KernelChannel::read_result(-ENOENT) == Result::again);
    CHECK(KernelChannel::read_result(-EAGAIN) == Result::nothing);
    CHECK(KernelChannel::read_result(-ENOMEM) == Result::no_memory);
    CHECK(KernelChannel::read_result(0) == Result::unmounted);
    CHECK(KernelChannel::read_result(-ENODEV) == Result::unmounted);
    CHECK(KernelChannel::read_result(-ECONNABORTED) == Result::aborted);
    for (const int error : {EIO, EBADF, EINVAL, EPERM})
        CHECK(KernelChannel::read_result(-error) == Result::broken);
}
