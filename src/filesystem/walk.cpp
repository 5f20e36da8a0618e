// SPDX-License-Identifier: MIT
#include "filesystem/walk.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace remofile::filesystem {
namespace {

constexpr std::size_t window_growth = 4;
// A walk may pass over some entries: those that a program does not want, or has in a cache of its own.
constexpr std::size_t near_entries = 4;
// Entries of other kinds that are looked at on the way to the next ones.
constexpr std::size_t max_looks = 4096;
// Walks at a time.
constexpr std::size_t max_courses = 8;
// A tree that a server makes up might lead round in a ring.
constexpr int max_levels = 2048;

}  // namespace

bool is_directory_entry(const DirectoryCache::Entry& entry) {
    return entry.type == DT_DIR;
}

bool is_small_file_entry(const DirectoryCache::Entry& entry) {
    return S_ISREG(entry.attributes.mode) && entry.attributes.size > 0 && entry.attributes.size <= max_small_file_bytes;
}

// The next entry of any kind below `top`; 0: anywhere. False at the end of what is known.
bool Walk::advance(Order order, Target& at, InodeNumber top) const {
    if (const InodeNumber inside = at.name.empty() ? 0 : cache_.known_directory(at.parent, at.name); inside != 0) {
        if (const auto* first = cache_.next(inside, order, {}); first != nullptr) {
            at = {inside, first->name};
            return true;
        }
    }
    for (int level = 0; level < max_levels; ++level) {
        if (const auto* next = cache_.next(at.parent, order, at.name); next != nullptr) {
            at.name = next->name;
            return true;
        }
        const auto* above = cache_.place(at.parent);
        if (above == nullptr || above->parent == 0 || at.parent == top)
            return false;
        at = {above->parent, above->name};
    }
    return false;
}

bool Walk::advance_to_kind(Order order, Target& at, InodeNumber top, std::size_t& looks) const {
    while (looks > 0 && advance(order, at, top)) {
        --looks;
        if (const auto answer = cache_.peek(at.parent, at.name); answer != nullptr && is_of_kind_(*answer))
            return true;
    }
    return false;
}

// How many entries of the kind further the target comes; none if it is not near.
std::optional<std::size_t> Walk::distance(const Target& from, Order order, const Target& target) const {
    constexpr InodeNumber anywhere = 0;
    Target at = from;
    std::size_t looks = max_looks;
    for (std::size_t steps = 1; steps <= near_entries && advance_to_kind(order, at, anywhere, looks); ++steps) {
        if (at == target)
            return steps;
    }
    return std::nullopt;
}

// How far along the walk the target is, in the order in which it is nearest, which then is the walk's; 0 if it is not
// near.
std::size_t Walk::follow(Course& course, const Target& target) const {
    const Order other = course.order == Order::listing ? Order::names : Order::listing;
    const auto in_this = distance(course.at, course.order, target);
    const auto in_other = in_this == 1U ? std::nullopt : distance(course.at, other, target);
    if (in_other && (!in_this || *in_other < *in_this)) {
        course.order = other;
        return *in_other;
    }
    return in_this.value_or(0);
}

bool Walk::is_within(InodeNumber directory, InodeNumber top) const {
    for (int level = 0; level < max_levels && directory != 0; ++level) {
        if (directory == top)
            return true;
        const auto* above = cache_.place(directory);
        directory = above == nullptr ? 0 : above->parent;
    }
    return false;
}

// The walk has come to the target: what it is about may be less than was thought, or more.
void Walk::widen(Course& course, const Target& target) const {
    const InodeNumber first = cache_.known_directory(course.at.parent, course.at.name);
    if (course.at_start && first != 0 && first == target.parent)
        course.top = target.parent;
    course.at_start = false;
    while (course.top != 0 && !is_within(target.parent, course.top)) {
        const auto* above = cache_.place(course.top);
        course.top = above == nullptr ? 0 : above->parent;
    }
}

// The walk that the target belongs to becomes the latest, if there is one.
void Walk::join(const Target& target) {
    for (auto course = courses_.begin(); course != courses_.end(); ++course) {
        const bool is_latest = course == courses_.begin();
        const Order order = course->order;
        const std::size_t steps = follow(*course, target);
        // Among many entries that several walks are near to, a target is near to one of them by chance.
        if (steps == 0 || (!is_latest && steps > 1)) {
            course->order = order;
            continue;
        }
        widen(*course, target);
        course->window = std::min(max_window_, course->window == 0 ? first_window_ : course->window * window_growth);
        course->used += steps;
        course->at = target;
        courses_.splice(courses_.begin(), courses_, course);
        return;
    }
    begin(target);
}

void Walk::begin(const Target& target) {
    Course& latest = courses_.front();
    latest.window /= window_growth;
    latest.fetched = latest.used = 0;
    if (latest.window > 0) {
        if (courses_.size() == max_courses)
            courses_.pop_back();
        courses_.emplace_front();
    }
    Course& begun = courses_.front();
    begun = {.at = {target.parent, {}}, .top = target.parent};
    // The first of its kind in a directory may be the beginning of a walk.
    if (follow(begun, target) > 0)
        begun.window = std::min(max_window_, first_window_);
    begun.at = target;
}

void Walk::visit(InodeNumber parent, std::string_view name) {
    const Target target{parent, std::string(name)};
    if (target != latest().at)
        join(target);
}

std::vector<Walk::Target> Walk::ahead() const {
    const Course& course = latest();
    std::vector<Target> targets;
    Target at = course.at;
    std::size_t looks = max_looks;
    while (targets.size() < course.window && advance_to_kind(course.order, at, course.top, looks))
        targets.push_back(at);
    return targets;
}

bool Walk::is_due() const {
    const Course& course = latest();
    const std::size_t part = is_starved() ? 4 : 2;
    return course.window > course.window_then || course.used * part >= course.fetched;
}

void Walk::fetched(std::size_t count) {
    Course& course = courses_.front();
    course.fetched = count;
    course.window_then = course.window;
    course.used = 0;
}

}  // namespace remofile::filesystem
