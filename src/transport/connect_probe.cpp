// SPDX-License-Identifier: MIT
#include "transport/connect_probe.hpp"

#include <cerrno>

namespace remofile::transport {

ConnectProbe::ConnectProbe(Reactor& reactor, const Candidate& candidate, std::function<void(int)> on_result)
    : reactor_(reactor), on_result_(std::make_shared<std::function<void(int)>>(std::move(on_result))) {
    fd_.reset(::socket(candidate.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const bool connected = fd_ && ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&candidate.address),
                                            candidate.address_bytes) == 0;
    if (connected || !fd_ || errno != EINPROGRESS) {
        finish_soon(connected ? 0 : errno);
        return;
    }
    // Readable means failed, or that the peer has sent something.
    reactor_.watch(fd_.get(), [this, fd = fd_.get()] {
        int failure = 0;
        socklen_t size = sizeof(failure);
        if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
            failure = errno;
        reactor_.unwatch(fd);
        finish_soon(failure);
    });
}

ConnectProbe::~ConnectProbe() {
    if (fd_)
        reactor_.unwatch(fd_.get());
    reactor_.cancel(timer_);
}

void ConnectProbe::finish_soon(int errno_value) {
    timer_ = reactor_.after(Duration::zero(), [on_result = on_result_, errno_value] { (*on_result)(errno_value); });
}

}  // namespace remofile::transport
