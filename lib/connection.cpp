// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.hpp"
#include "client/open_session.hpp"

namespace libremofile::detail {

using namespace remofile;

namespace {

// A session that is lost this often while one path is looked up is not worth more patience.
constexpr int max_attempts = 3;

ErrorCode code_of(Status status) {
    switch (status) {
        case Status::not_authorized:
        case Status::bad_token:
            return ErrorCode::access_denied;
        case Status::in_use:
            return ErrorCode::busy;
        case Status::version_mismatch:
            return ErrorCode::protocol;
        case Status::shutting_down:
            return ErrorCode::closed;
        case Status::wrong_server_key:
            return ErrorCode::wrong_server_key;
        case Status::bad_usage:
            return ErrorCode::invalid;
        default:
            return static_cast<ErrorCode>(to_errno(status));
    }
}

// A library leaves standard error to its program.
void silence_log() {
    static std::once_flag once;
    std::call_once(once, [] { log::configure("libremofile", log::Level::off, log::Target::standard_error); });
}

// The program's signals are not for the threads that are started meanwhile, nor for those that they start.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_{};
};

}  // namespace

libremofile::Error to_public(const remofile::Error& error) {
    return {code_of(error.status), error.to_string()};
}

libremofile::Attributes to_public(const wire::Attributes& from) {
    const auto time = [](const wire::Timestamp& stamp) {
        return libremofile::Timestamp{stamp.seconds, stamp.nanoseconds};
    };
    return {.inode = from.identity.inode,
            .device = from.identity.device,
            .mode = from.mode,
            .links = from.links,
            .uid = from.uid,
            .gid = from.gid,
            .size = from.size,
            .blocks = from.blocks,
            .block_size = from.block_size,
            .access = time(from.access),
            .modification = time(from.modification),
            .change = time(from.change)};
}

Connection::Connection() : process_(::getpid()) {}

remofile::Result<std::shared_ptr<Connection>> Connection::open(client::SessionOptions options) {
    silence_log();
    // In a forked process the thread is not there, nor what it held: nothing of the object can be taken apart.
    std::shared_ptr<Connection> connection(new Connection(), [](Connection* object) {
        if (object->process_ == ::getpid())
            delete object;
    });
    std::promise<remofile::Result<>> promise;
    auto opened = promise.get_future();
    connection->reactor_.post(
        [object = connection.get(), options = std::move(options), promise = std::move(promise)]() mutable {
            spawn(object->begin(std::move(options), std::move(promise)));
        });
    {
        const SignalsBlocked blocked;
        connection->thread_ = std::thread([object = connection.get()] {
            pthread_setname_np(pthread_self(), "libremofile");
            object->reactor_.spin_before_sleeping(remofile::transport::usual_spin);
            object->reactor_.run();
        });
    }
    auto outcome = outcome_of(opened);
    if (!outcome)
        return outcome.error();
    return connection;
}

Task<void> Connection::begin(client::SessionOptions options, std::promise<remofile::Result<>> opened) {
    auto session = co_await client::open_session(context_, reactor_, std::move(options), counters_, nullptr);
    if (!session) {
        opened.set_value(session.error());
        co_return;
    }
    session_ = std::move(*session);
    tree_ = std::make_unique<client::RemoteTree>(*session_);
    opened.set_value({});
}

Connection::~Connection() {
    close();
}

void Connection::close() {
    if (process_ == ::getpid())
        std::call_once(end_once_, [this] { end(); });
}

void Connection::end() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    // Every request is answered now, and later ones too, so that all calls end.
    reactor_.post([this] {
        if (session_)
            session_->close();
    });
    {
        std::unique_lock lock(mutex_);
        left_.wait(lock, [this] { return inside_ == 0; });
    }
    reactor_.stop();
    if (thread_.joinable())  // it is not if it could not be started
        thread_.join();
    tree_.reset();
    session_.reset();
}

bool Connection::enter() {
    if (process_ != ::getpid())
        return false;
    const std::lock_guard lock(mutex_);
    if (!closed_)
        ++inside_;
    return !closed_;
}

void Connection::leave() {
    const std::lock_guard lock(mutex_);
    --inside_;
    left_.notify_all();
}

void Connection::post(std::move_only_function<void(client::Session&)> work) {
    if (!enter())
        return;
    reactor_.post([this, work = std::move(work)]() mutable { work(*session_); });
    leave();
}

// Calls that come while the server is being told wait for that.
Task<remofile::Result<>> Connection::act_as_caller() {
    remofile::Result<> told;
    for (int attempt = 1; session_->hello().client_identity && acting_in_epoch_ != session_->epoch(); ++attempt) {
        if (attempt > max_attempts)
            co_return remofile::Result<>(Status::no_session);
        if (telling_caller_) {
            const Status status = co_await caller_told_.wait(nullptr);
            if (status != Status::ok)
                told = status;
        } else {
            telling_caller_ = true;
            told = co_await tell_caller();
            telling_caller_ = false;
            caller_told_.wake(told.status());
        }
        if (!told && told.status() != Status::no_session)
            co_return told;
    }
    co_return remofile::Result<>();
}

Task<remofile::Result<>> Connection::tell_caller() {
    const std::uint64_t epoch = session_->epoch();
    auto acting = co_await session_->act_as_process();
    if (acting)
        acting_in_epoch_ = epoch;
    co_return acting;
}

Task<remofile::Result<client::RemoteFile>> Connection::find(std::string path, client::Symlinks symlinks) {
    for (int attempt = 1;; ++attempt) {
        auto found = co_await tree_->find(path, symlinks);
        if (found || found.status() != Status::no_session || attempt == max_attempts)
            co_return found;
        auto acting = co_await act_as_caller();
        if (!acting)
            co_return remofile::Result<client::RemoteFile>(acting.error());
    }
}

Task<remofile::Result<client::RemotePlace>> Connection::find_place(std::string path) {
    for (int attempt = 1;; ++attempt) {
        auto found = co_await tree_->find_place(path);
        if (found || found.status() != Status::no_session || attempt == max_attempts)
            co_return found;
        auto acting = co_await act_as_caller();
        if (!acting)
            co_return remofile::Result<client::RemotePlace>(acting.error());
    }
}

}  // namespace libremofile::detail
