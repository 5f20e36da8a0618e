// SPDX-License-Identifier: MIT
#include "filesystem/changes_behind.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace remofile::filesystem {
namespace {

// Directories whose failures are remembered until somebody asks; of more, the root's tells.
constexpr std::size_t max_failures = 1024;
constexpr std::size_t max_logged_failures = 100;

}  // namespace

ChangesBehind::ChangesBehind(Counters& counters, std::size_t max_changes)
    : begun_(counters.at("changes.behind")), max_changes_(max_changes) {}

ChangesBehind::UnderWay ChangesBehind::begin(Concern concern) {
    const std::uint64_t number = ++last_;
    for (const InodeNumber inode : concern.inodes) {
        std::shared_ptr<Of>& of = of_[inode];
        if (of == nullptr)
            of = std::make_shared<Of>();
        of->under_way.insert(number);
    }
    for (const NewMeaning& name : concern.names) {
        names_[name.directory][name.name] = {name.inode, number};
        note_written(name.directory, true);
        of_names_[number].push_back({{name.directory, name.name}, name.before, name.inode});
    }
    under_way_.insert(number);
    begun_.add();
    return {*this, number, std::move(concern)};
}

void ChangesBehind::end(std::uint64_t number, const Concern& concern) {
    for (const NewMeaning& name : concern.names) {
        const auto directory = names_.find(name.directory);
        if (directory == names_.end())
            continue;
        const auto meaning = directory->second.find(name.name);
        if (meaning != directory->second.end() && meaning->second.change == number)
            directory->second.erase(meaning);
        if (directory->second.empty())
            names_.erase(directory);
    }
    under_way_.erase(number);
    of_names_.erase(number);
    requests_.erase(number);
    std::vector<std::shared_ptr<Of>> touched;
    std::vector<std::pair<InodeNumber, std::optional<Heard>>> settled;
    for (const InodeNumber inode : concern.inodes) {
        const auto of = of_.find(inode);
        if (of == of_.end() || of->second->under_way.erase(number) == 0)
            continue;
        touched.push_back(of->second);
        if (!of->second->under_way.empty())
            continue;
        settled.emplace_back(inode, of->second->heard);
        of_.erase(of);
    }
    for (const auto& [inode, heard] : settled)
        if (on_settled)
            on_settled(inode, heard);
    for (const auto& of : touched)
        of->settled.wake(Status::ok);
    ended_.wake(Status::ok);
    if (!under_way_.empty())
        return;
    if (failed_ > max_logged_failures)
        log::error("{} more changes have failed at the server after programs were told that they were done",
                   failed_ - max_logged_failures);
    failed_ = 0;
}

std::optional<InodeNumber> ChangesBehind::meaning(InodeNumber directory, std::string_view name) const {
    const auto names = names_.find(directory);
    if (names == names_.end())
        return std::nullopt;
    const auto found = names->second.find(name);
    return found == names->second.end() ? std::nullopt : std::optional(found->second.inode);
}

bool ChangesBehind::gives_meaning_in(InodeNumber directory) const {
    const auto names = names_.find(directory);
    return names != names_.end() &&
           std::ranges::any_of(names->second, [](const auto& each) { return each.second.inode != 0; });
}

void ChangesBehind::show(InodeNumber inode, const wire::Attributes& attributes) {
    of_.at(inode)->shown = attributes;
}

const wire::Attributes* ChangesBehind::shown(InodeNumber inode) const {
    const auto of = of_.find(inode);
    return of == of_.end() || !of->second->shown ? nullptr : &*of->second->shown;
}

void ChangesBehind::hide(InodeNumber inode) {
    if (const auto of = of_.find(inode); of != of_.end())
        of->second->shown.reset();
}

void ChangesBehind::note_heard(InodeNumber inode, std::optional<Heard> heard) {
    if (const auto of = of_.find(inode); of != of_.end())
        of->second->heard = std::move(heard);
}

void ChangesBehind::note_written(InodeNumber inode, bool is_written) {
    if (const auto of = of_.find(inode); of != of_.end())
        of->second->is_written = is_written;
}

bool ChangesBehind::is_written(InodeNumber inode) const {
    const auto of = of_.find(inode);
    return of != of_.end() && of->second->is_written;
}

Task<Status> ChangesBehind::settled(InodeNumber inode, client::Cancellation* cancellation) {
    const std::uint64_t last = last_;
    const auto found = of_.find(inode);
    if (found == of_.end())
        co_return Status::ok;
    const std::shared_ptr<Of> of = found->second;
    while (!of->under_way.empty() && *of->under_way.begin() <= last) {
        const Status status = co_await of->settled.wait(cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

Task<Status> ChangesBehind::all_settled(client::Cancellation* cancellation) {
    const std::uint64_t last = last_;
    while (!under_way_.empty() && *under_way_.begin() <= last) {
        const Status status = co_await ended_.wait(cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

Task<Status> ChangesBehind::room(client::Cancellation* cancellation) {
    while (under_way_.size() >= max_changes_) {
        const Status status = co_await ended_.wait(cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

bool ChangesBehind::note_failure(InodeNumber directory, Status status) {
    if (failures_.size() >= max_failures && !failures_.contains(directory))
        directory = root_inode;
    failures_.emplace(directory, status);
    return ++failed_ <= max_logged_failures;
}

Status ChangesBehind::take_failure(InodeNumber directory) {
    if (failures_.empty())
        return Status::ok;
    const auto found = directory == root_inode ? failures_.begin() : failures_.find(directory);
    if (found == failures_.end())
        return Status::ok;
    const Status status = found->second;
    if (directory == root_inode)
        failures_.clear();
    else
        failures_.erase(found);
    return status;
}

}  // namespace remofile::filesystem
