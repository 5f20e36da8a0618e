// SPDX-License-Identifier: MIT
#include "server/files/inode_table.hpp"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <span>
#include <unordered_map>

#include "base/assert.hpp"
#include "base/file_time.hpp"
#include "server/files/open_description.hpp"

namespace remofile::server {
namespace {

// Names remembered of one file with several links: enough to outlast the removal of the newest.
constexpr std::size_t max_places = 8;
// Sessions for which a file is kept; others that have it open lose it with the server.
constexpr std::size_t max_holders = 64;
// Directories above one another. Paths that a client can name in one system call end at 4,096 bytes, but directories
// can be nested deeper by working from within; beyond this a file whose descriptors were all given up is stale.
constexpr std::size_t max_depth = 1U << 16;

// File systems that keep what they know on disks of this machine, so that asking for a known inode's attributes never
// waits. Their numbers of statfs(2), from linux/magic.h and the sources of ZFS.
constexpr std::array<unsigned long, 7> local_file_systems{0xEF53 /* ext2 to ext4 */,
                                                          0x58465342 /* XFS */,
                                                          0x9123683E /* Btrfs */,
                                                          0xF2F52010 /* F2FS */,
                                                          0x01021994 /* tmpfs */,
                                                          0x2FC12FC1 /* ZFS */,
                                                          0xCA451A4E /* bcachefs */};

// Others whose times are of this machine's clock.
constexpr std::array<unsigned long, 11> other_file_systems_of_our_clock{0x794C7630 /* overlayfs */,
                                                                        0x858458F6 /* ramfs */,
                                                                        0x4D44 /* FAT */,
                                                                        0x2011BAB0 /* exFAT */,
                                                                        0x7366746E /* ntfs3 */,
                                                                        0x482B /* HFS+ */,
                                                                        0x3153464A /* JFS */,
                                                                        0x52654973 /* ReiserFS */,
                                                                        0x3434 /* NILFS */,
                                                                        0x15013346 /* UDF */,
                                                                        0x00011954 /* UFS */};
// Elsewhere (NFS, SMB, FUSE, …) times are another machine's, whose clock may be any time apart. What is certain is
// that as much time passes there as here. So a time counts as new until it has been seen for a step of the file
// system's, and as long as a look at it and its answer may take.
constexpr std::chrono::seconds foreign_slack(1);

bool contains(std::span<const unsigned long> list, unsigned long type) {
    return std::ranges::find(list, type) != list.end();
}

// Of statfs(2); 0 if unknown.
unsigned long file_system_of(int fd) {
    struct statfs64 about {};
    return fstatfs64(fd, &about) == 0 ? static_cast<unsigned long>(about.f_type) : 0;
}

struct IdentityHash {
    std::size_t operator()(const wire::FileIdentity& identity) const noexcept {
        const std::array<std::uint64_t, 2> key{identity.device, identity.inode};
        return XXH3_64bits(key.data(), sizeof key);
    }
};

std::chrono::nanoseconds step_of(const wire::Timestamp& time) {
    return remofile::step_of({.tv_sec = time.seconds, .tv_nsec = time.nanoseconds});
}

std::uint64_t hash_of(const wire::Attributes& attributes, std::uint64_t salt) {
    const std::array<std::uint64_t, 6> key{static_cast<std::uint64_t>(attributes.change.seconds),
                                           attributes.change.nanoseconds,
                                           static_cast<std::uint64_t>(attributes.modification.seconds),
                                           attributes.modification.nanoseconds,
                                           attributes.size,
                                           salt};
    return XXH3_64bits(key.data(), sizeof key);
}

}  // namespace

// What the table and its inodes share.
struct InodeIndex {
    using Known = std::unordered_map<wire::FileIdentity, std::weak_ptr<Inode>, IdentityHash>;
    Guarded<Known> known;

    // Inodes that hold a descriptor, in the order in which they got it: a ring for second-chance eviction.
    Guarded<std::list<Inode*>> ring;

    // A file system that takes times from this machine's clock: the root's, if it does. Constant once opened.
    std::optional<std::uint64_t> device_of_our_clock;

    // Guards every Inode::places_, has_more_places_ and the number.
    std::mutex places;
    std::uint64_t last_found = 0;

    // Parents that destroyed inodes leave behind. A chain of directories is let go by one loop, for its length is the
    // clients' choice and the stack is not.
    struct Orphans {
        std::vector<Place> waiting;
        bool draining = false;
    };
    Guarded<Orphans> orphans;

    void release(std::vector<Place> left_behind) {
        if (left_behind.empty())
            return;
        {
            auto access = orphans.lock();
            std::ranges::move(left_behind, std::back_inserter(access->waiting));
            if (access->draining)
                return;
            access->draining = true;
        }
        for (;;) {
            std::vector<Place> batch;
            {
                auto access = orphans.lock();
                if (access->waiting.empty()) {
                    access->draining = false;
                    return;
                }
                batch.swap(access->waiting);
            }
        }
    }

    // Puts the inode last; returns how many are there.
    std::size_t enter_ring(Inode& inode) {
        auto access = ring.lock();
        if (!inode.ring_position_)
            inode.ring_position_ = access->insert(access->end(), &inode);
        return access->size();
    }

    // Takes the inode out of the ring; false if it was not there.
    bool leave_ring(Inode& inode) {
        auto access = ring.lock();
        if (!inode.ring_position_)
            return false;
        access->erase(*inode.ring_position_);
        inode.ring_position_.reset();
        return true;
    }
};

// ---------------------------------------------------------------- Inode

namespace {

void set_version(wire::Attributes& attributes, std::uint64_t hash, bool is_fresh) {
    attributes.version = hash & ~wire::version_is_fresh;
    if (is_fresh)
        attributes.version |= wire::version_is_fresh;
}

}  // namespace

Inode::Inode(std::shared_ptr<InodeIndex> index, const wire::FileIdentity& identity, mode_t type)
    : index_(std::move(index)), identity_(identity), type_(type & S_IFMT) {}

Inode::~Inode() {
    index_->leave_ring(*this);
    {
        auto known = index_->known.lock();
        // Meanwhile another inode may have been made for the same file.
        const auto found = known->find(identity_);
        if (found != known->end() && found->second.expired())
            known->erase(found);
    }
    index_->release(std::move(places_));
}

void Inode::note_change() {
    state_.lock()->changed_since_stamp = true;
}

void Inode::stamp(wire::Attributes& attributes) {
    const std::uint64_t unsalted = hash_of(attributes, 0);
    auto state = state_.lock();
    if (is_kept())
        attributes.links = 0;
    else if (state->may_be_kept)
        attributes.links = std::min<std::uint32_t>(attributes.links, 1);
    if (unsalted != state->stamped) {
        state->stamped = unsalted;
        state->stamped_at = std::chrono::steady_clock::now();
        state->salt = 0;
    } else if (state->changed_since_stamp) {
        ++state->salt;
    }
    state->changed_since_stamp = false;
    bool is_fresh = (attributes.version & wire::version_is_fresh) != 0;
    if (identity_.device != index_->device_of_our_clock)
        is_fresh |= std::chrono::steady_clock::now() - state->stamped_at < step_of(attributes.change) + foreign_slack;
    set_version(attributes, state->salt == 0 ? unsalted : hash_of(attributes, state->salt), is_fresh);
}

void Inode::add_open(OpenDescription& open) {
    state_.lock()->open.push_back(&open);
}

void Inode::remove_open(OpenDescription& open) {
    Descriptor let_go;  // after the lock, as what it was counted as
    std::unique_ptr<DescriptorBudget::Slot> kept;
    std::vector<KeptFiles::LinkPtr> links;
    {
        auto state = state_.lock();
        std::erase(state->open, &open);
        if (state->open.empty() && is_kept())
            links = std::move(state->links);
        if (!state->open.empty() || !state->kept)
            return;
        kept = std::move(state->kept);
        // A directory that is still somebody's working directory goes on answering, as it does locally.
        if (!is_directory())
            let_go = std::move(state->descriptor);
    }
    if (is_directory())
        index_->enter_ring(*this);
}

bool Inode::is_open() const {
    return !state_.lock()->open.empty();
}

bool Inode::is_kept_for(const HolderTag& holder) const {
    return is_kept() && state_.with([&](const State& state) {
        return std::ranges::any_of(state.links,
                                   [&](const KeptFiles::LinkPtr& link) { return link->holder() == holder; });
    });
}

void Inode::leave(KeptFiles& kept_files, const HolderTag& holder) {
    if (!is_kept())
        return;
    std::vector<KeptFiles::LinkPtr> left;
    {
        auto state = state_.lock();
        const auto its_own = std::ranges::partition(
            state->links, [&](const KeptFiles::LinkPtr& link) { return link->holder() != holder; });
        std::ranges::move(its_own, std::back_inserter(left));
        state->links.erase(its_own.begin(), its_own.end());
    }
    for (KeptFiles::LinkPtr& link : left)
        kept_files.leave(std::move(link));
}

// A request that found it nameless was answered before, or finds this one's name.
void Inode::has_name() {
    std::vector<KeptFiles::LinkPtr> needless;  // removed after the lock
    auto state = state_.lock();
    if (!is_kept())
        return;
    is_kept_ = false;
    needless = std::move(state->links);
}

Descriptor Inode::open_descriptor() const {
    auto state = state_.lock();
    for (const OpenDescription* open : state->open)
        if (open->descriptor_)
            return open->descriptor_;
    return nullptr;
}

Descriptor Inode::held() {
    Descriptor descriptor = state_.lock()->descriptor;
    if (descriptor)
        used_.store(true, std::memory_order_relaxed);
    return descriptor;
}

// ---------------------------------------------------------------- the table

InodeTable::InodeTable(std::size_t max_descriptors, std::shared_ptr<DescriptorBudget> budget, Counters& counters)
    : index_(std::make_shared<InodeIndex>()),
      max_descriptors_(max_descriptors),
      budget_(std::move(budget)),
      reopens_(counters.at("files.descriptor_reopens")),
      evictions_(counters.at("files.descriptor_evictions")) {}

InodeTable::~InodeTable() = default;

void InodeTable::find_out_about(int root, std::uint64_t device) {
    const unsigned long type = file_system_of(root);
    root_is_local_ = contains(local_file_systems, type);
    if (root_is_local_ || contains(other_file_systems_of_our_clock, type))
        index_->device_of_our_clock = device;
    // open_by_handle_at needs CAP_DAC_READ_SEARCH, which root has as a rule, but not in every container.
    if (const auto handle = kernel_handle_of(root)) {
        root_mount_ = handle->mount;
        has_kernel_handles_ = open_kernel_handle(root, *handle).has_value();
    }
}

Result<std::unique_ptr<InodeTable>> InodeTable::open(UniqueFd root, std::size_t max_descriptors,
                                                     std::shared_ptr<DescriptorBudget> budget, Counters& counters) {
    REMOFILE_TRY(attributes, stat_descriptor(root.get()));
    std::unique_ptr<InodeTable> table(new InodeTable(max_descriptors, std::move(budget), counters));
    table->find_out_about(root.get(), attributes.identity.device);
    table->root_ = table->at(attributes);
    // Not in the ring, so never given up.
    table->root_->state_.lock()->descriptor = std::make_shared<const UniqueFd>(std::move(root));
    return table;
}

std::size_t InodeTable::descriptor_count() const {
    return index_->ring.lock()->size();
}

InodePtr InodeTable::find(const wire::FileIdentity& identity) {
    auto known = index_->known.lock();
    const auto found = known->find(identity);
    return found == known->end() ? nullptr : found->second.lock();
}

InodePtr InodeTable::at(const wire::Attributes& attributes, bool* made) {
    if (InodePtr inode = find(attributes.identity))
        return inode;
    auto fresh = std::make_shared<Inode>(index_, attributes.identity, attributes.mode);
    InodePtr winner;
    {
        auto known = index_->known.lock();
        auto& slot = (*known)[attributes.identity];
        winner = slot.lock();
        if (!winner) {
            slot = fresh;
            winner = fresh;
        }
    }
    if (made != nullptr)
        *made = winner == fresh;
    return winner;
}

InodePtr InodeTable::intern(wire::Attributes& attributes, const InodePtr& parent, const EntryName& name,
                            bool* is_news) {
    bool made = false;
    InodePtr inode = at(attributes, &made);
    const bool added = inode != root_ && remember_place(inode, parent, name);
    if (is_news != nullptr)
        *is_news = added && !made;
    inode->stamp(attributes);
    return inode;
}

InodePtr InodeTable::intern_unnamed(wire::Attributes& attributes) {
    InodePtr inode = at(attributes);
    inode->stamp(attributes);
    return inode;
}

InodeTable::Recognized InodeTable::recognize(wire::Attributes& attributes, const InodePtr& parent,
                                             const EntryName& name) {
    const InodePtr inode = find(attributes.identity);
    if (!inode) {
        // Since when a file of another clock has been as it is, nobody has seen.
        const bool is_fresh = (attributes.version & wire::version_is_fresh) != 0 ||
                              attributes.identity.device != index_->device_of_our_clock;
        set_version(attributes, hash_of(attributes, 0), is_fresh);
        return {};
    }
    const bool is_news = inode != root_ && remember_place(inode, parent, name);
    inode->stamp(attributes);
    return {inode, is_news};
}

bool InodeTable::remember_place(const InodePtr& inode, const InodePtr& parent, const EntryName& name) {
    std::vector<Place> forgotten;  // let go after the lock
    const std::lock_guard guard(index_->places);
    auto& places = inode->places_;
    const auto same = std::ranges::find_if(
        places, [&](const Place& place) { return place.parent == parent && place.name.text() == name.text(); });
    const std::uint64_t found = ++index_->last_found;
    if (same != places.end()) {
        same->found = found;
        std::rotate(places.begin(), same, same + 1);
        return false;
    }
    if (inode->is_directory()) {
        std::ranges::move(places, std::back_inserter(forgotten));
        places.clear();
        // Directories that others renamed behind our back could seem to lie within each other; whichever of the
        // remembered places contradicts the new one is out of date. One that only this request knows has nothing in it.
        const bool unknown = inode.use_count() == 1;
        for (Inode* above = unknown ? nullptr : parent.get(); above != nullptr;) {
            Inode* next = above->places_.empty() ? nullptr : above->places_.front().parent.get();
            if (next == inode.get() || above == inode.get()) {
                std::ranges::move(above->places_, std::back_inserter(forgotten));
                above->places_.clear();
                break;
            }
            above = next;
        }
        if (parent == inode)
            return false;
    } else if (places.size() == max_places) {
        forgotten.push_back(std::move(places.back()));
        places.pop_back();
        inode->has_more_places_ = true;
    }
    places.insert(places.begin(), Place{parent, name, found});
    return true;
}

void InodeTable::moved(const InodePtr& inode, const InodePtr& parent, const EntryName& name) {
    remember_place(inode, parent, name);
    inode->has_name();
}

// Somebody may have put the file back meanwhile, and others may have found it there and rely on being told of its
// changes: a place goes only if the file is not there, and was not found there since that was seen.
void InodeTable::removed(const InodePtr& inode, const InodePtr& parent, const EntryName& name) {
    const auto is_same = [&](const Place& place) { return place.parent == parent && place.name.text() == name.text(); };
    for (;;) {
        std::vector<Place> places = places_of(*inode);
        const auto known = std::ranges::find_if(places, is_same);
        if (known != places.end() && is_at(inode, *known))
            return;
        std::vector<Place> forgotten;  // let go after the lock
        const std::lock_guard guard(index_->places);
        auto& now = inode->places_;
        const auto found = std::ranges::find_if(now, is_same);
        if (found == now.end())
            break;
        if (known == places.end() || found->found != known->found)
            continue;
        forgotten.push_back(std::move(*found));
        now.erase(found);
        break;
    }
    closed(inode);
}

bool InodeTable::is_at(const InodePtr& inode, const Place& place) {
    const auto directory = directory_descriptor(place.parent);
    const auto attributes = directory ? stat_entry((*directory)->get(), place.name) : Status::no_entry;
    return attributes && attributes->identity == inode->identity();
}

InodeTable::Places InodeTable::places(const Inode& inode) const {
    const std::lock_guard guard(index_->places);
    return {.places = inode.places_, .all = !inode.has_more_places_};
}

void InodeTable::closed(const InodePtr& inode) {
    // A directory that is still somebody's working directory goes on answering, as it does locally, and so does a FIFO
    // that is open, of which we hear nothing.
    if (inode->type() != S_IFREG || inode->is_open() || !places_of(*inode).empty())
        return;
    give_up(inode);
}

std::vector<Place> InodeTable::places_of(const Inode& inode) const {
    const std::lock_guard guard(index_->places);
    return inode.places_;
}

// ---------------------------------------------------------------- descriptors

Descriptor InodeTable::adopt(const InodePtr& inode, UniqueFd opened) {
    auto descriptor = std::make_shared<const UniqueFd>(std::move(opened));
    {
        auto state = inode->state_.lock();
        if (state->descriptor)
            return state->descriptor;
        state->descriptor = descriptor;
    }
    inode->used_.store(true, std::memory_order_relaxed);
    if (index_->enter_ring(*inode) > max_descriptors_)
        give_up_idle(max_descriptors_);
    return descriptor;
}

std::size_t InodeTable::give_up_idle(std::size_t keep) {
    std::vector<InodePtr> victims;
    {
        auto ring = index_->ring.lock();
        // Each is passed over at most once.
        for (std::size_t looks = 2 * ring->size(); looks > 0 && ring->size() > keep; --looks) {
            Inode* oldest = ring->front();
            if (keep > 0 && oldest->used_.exchange(false, std::memory_order_relaxed)) {
                ring->splice(ring->end(), *ring, ring->begin());
                continue;
            }
            ring->pop_front();
            oldest->ring_position_.reset();
            // Null where the inode is being destroyed on another thread, which then closes it.
            if (InodePtr victim = oldest->weak_from_this().lock())
                victims.push_back(std::move(victim));
        }
    }
    for (const InodePtr& victim : victims)
        give_up(victim);
    evictions_.add(victims.size());
    return victims.size();
}

std::unique_ptr<KernelHandle> InodeTable::usable_kernel_handle(int descriptor) const {
    if (!has_kernel_handles_)
        return nullptr;
    auto handle = kernel_handle_of(descriptor);
    if (!handle || handle->mount != root_mount_)
        return nullptr;
    return std::make_unique<KernelHandle>(std::move(*handle));
}

// Somebody on the server removed a file whose handles have no descriptors of their own: then this one stays for them.
bool InodeTable::is_last_way_to_open_file(Inode& inode, int descriptor) {
    DescriptorBudget::Share share;
    {
        auto state = inode.state_.lock();
        if (state->open.empty() || state->kept)
            return state->kept != nullptr;
        share = state->open.front()->share_;
    }
    const auto attributes = stat_descriptor(descriptor);
    if (attributes && inode.names_of(*attributes) > 0)
        return false;
    auto slot = std::make_unique<DescriptorBudget::Slot>(budget_->take(share));
    auto state = inode.state_.lock();
    if (!state->open.empty() && !state->kept)
        state->kept = std::move(slot);
    return state->kept != nullptr;
}

void InodeTable::give_up(const InodePtr& inode) {
    if (inode == root_)
        return;
    index_->leave_ring(*inode);
    Descriptor descriptor = inode->held();
    if (!descriptor)
        return;
    if (is_last_way_to_open_file(*inode, descriptor->get()))
        return;
    auto kernel_handle = usable_kernel_handle(descriptor->get());
    auto state = inode->state_.lock();
    if (state->kept)
        return;
    state->descriptor.reset();
    state->kernel_handle = std::move(kernel_handle);
}

Result<Descriptor> InodeTable::descriptor(const InodePtr& inode) {
    if (Descriptor held = inode->held())
        return held;
    if (inode->is_directory()) {
        auto found = directory_descriptor(inode);
        if (found || found.error().status != Status::stale)
            return found;
    }
    if (Descriptor open = inode->open_descriptor()) {
        REMOFILE_TRY(path, with_room([&] { return duplicate_as_path(open->get()); }));
        return adopt(inode, std::move(path));
    }
    for (const Place& place : places_of(*inode)) {
        auto parent = directory_descriptor(place.parent);
        if (!parent)
            continue;
        if (auto opened = open_at_place(inode, place, *parent))
            return opened;
        else if (opened.error().status == Status::too_many_files)
            return opened;
    }
    if (inode->is_kept())
        return open_kept(inode);
    return open_by_kernel_handle(inode);
}

// Works its way up to the nearest directory that has a descriptor, and down again.
Result<Descriptor> InodeTable::directory_descriptor(const InodePtr& directory) {
    std::vector<std::pair<InodePtr, Place>> below;
    Descriptor found = directory->held();
    for (InodePtr next = directory; !found;) {
        auto places = places_of(*next);
        if (places.empty() || below.size() == max_depth) {
            REMOFILE_TRY(opened, open_by_kernel_handle(next));
            found = std::move(opened);
            break;
        }
        InodePtr parent = places.front().parent;
        below.emplace_back(std::move(next), std::move(places.front()));
        next = std::move(parent);
        found = next->held();
    }
    for (auto step = below.rbegin(); step != below.rend(); ++step) {
        auto opened = open_at_place(step->first, step->second, found);
        if (!opened && opened.error().status != Status::too_many_files)
            opened = open_by_kernel_handle(step->first);
        if (!opened)
            return opened;
        found = std::move(*opened);
    }
    return found;
}

Result<Descriptor> InodeTable::open_at_place(const InodePtr& inode, const Place& place, const Descriptor& parent) {
    auto opened = with_room([&] { return open_entry(parent->get(), place.name); });
    if (!opened)
        return opened.error().status == Status::too_many_files ? Status::too_many_files : Status::stale;
    REMOFILE_TRY(attributes, stat_descriptor(opened->get()));
    if (attributes.identity != inode->identity())
        return Status::stale;
    reopens_.add();
    return adopt(inode, std::move(*opened));
}

Result<Descriptor> InodeTable::open_by_kernel_handle(const InodePtr& inode) {
    std::optional<KernelHandle> handle;
    if (auto state = inode->state_.lock(); state->kernel_handle)
        handle = *state->kernel_handle;
    const Descriptor root = root_->held();
    if (!handle || !root)
        return Status::stale;
    auto opened = with_room([&] { return open_kernel_handle(root->get(), *handle); });
    if (!opened)
        return opened.error().status == Status::too_many_files ? Status::too_many_files : Status::stale;
    REMOFILE_TRY(attributes, stat_descriptor(opened->get()));
    if (attributes.identity != inode->identity() ||
        (inode->names_of(attributes) == 0 && !inode->is_directory() && !inode->is_open()))
        return Status::stale;
    reopens_.add();
    return adopt(inode, std::move(*opened));
}

// ---------------------------------------------------------------- handles without a descriptor

InodeTable::Removal::Removal(InodePtr inode) : inode_(std::move(inode)) {
    auto state = inode_->state_.lock();
    ++state->removing;
    ++state->removals;
}

InodeTable::Removal::~Removal() {
    if (!inode_)
        return;
    auto state = inode_->state_.lock();
    --state->removing;
    ++state->removals;
}

Result<InodeTable::Removal> InodeTable::begin_removal(const InodePtr& inode, const DescriptorBudget::Share& share) {
    if (!inode)
        return Removal();
    Removal removal(inode);
    // Whoever holds it without a handle of ours (a FIFO that is open, O_PATH) asks for its attributes afterwards.
    if (!inode->is_directory() && inode->type() != S_IFREG)
        (void)descriptor(inode);
    const bool needs_one = inode->state_.with([](const Inode::State& state) {
        return !state.kept &&
               std::ranges::any_of(state.open, [](const OpenDescription* open) { return !open->descriptor_; });
    });
    if (!needs_one)
        return removal;
    REMOFILE_CHECK(budget_->make_room(share));
    REMOFILE_TRY(held, descriptor(inode));
    auto slot = std::make_unique<DescriptorBudget::Slot>(budget_->take(share));
    {
        auto state = inode->state_.lock();
        // Meanwhile they may have been closed.
        if (state->open.empty() || state->kept)
            return removal;
        state->descriptor = held;
        state->kept = std::move(slot);
    }
    index_->leave_ring(*inode);
    return removal;
}

InodeTable::Keeping InodeTable::begin_keeping(const InodePtr& inode, KeptFiles& kept_files, bool& root_changed) {
    if (!inode || inode->type() != S_IFREG || inode->is_kept())
        return {};
    std::vector<HolderTag> holders = inode->state_.with([](const Inode::State& state) {
        std::vector<HolderTag> all;
        for (const OpenDescription* open : state.open)
            if (open->holder_ && all.size() < max_holders && std::ranges::find(all, *open->holder_) == all.end())
                all.push_back(*open->holder_);
        return all;
    });
    if (holders.empty())
        return {};
    const auto held = descriptor(inode);
    const auto attributes = held ? stat_descriptor((*held)->get()) : held.error();
    if (!attributes || attributes->links != 1)
        return {};
    inode->state_.lock()->may_be_kept = true;
    Keeping keeping(inode, *held);
    for (const HolderTag& holder : holders) {
        auto link = kept_files.keep((*held)->get(), inode->identity(), holder, root_changed);
        if (!link)
            break;
        inode->state_.lock()->links.push_back(std::move(*link));
    }
    return keeping;
}

InodeTable::Keeping::~Keeping() {
    if (!inode_)
        return;
    std::vector<KeptFiles::LinkPtr> needless;  // removed after the lock
    auto state = inode_->state_.lock();
    state->may_be_kept = false;
    needless = std::move(state->links);
}

// What has been given another name meanwhile, by a request that did not see this one, is not kept: either this sees
// that it has one, or who gave it sees that it is kept.
void InodeTable::Keeping::done() {
    const InodePtr inode = std::exchange(inode_, nullptr);
    if (!inode)
        return;
    std::size_t links = 0;
    std::vector<KeptFiles::LinkPtr> needless;  // removed after the lock
    {
        auto state = inode->state_.lock();
        state->may_be_kept = false;
        links = state->links.size();
        inode->is_kept_ = links > 0;
        if (state->open.empty())
            needless = std::move(state->links);
    }
    const auto attributes = stat_descriptor(descriptor_->get());
    if (attributes && attributes->links > links)
        inode->has_name();
}

InodePtr InodeTable::intern_kept(KeptFiles::LinkPtr link) {
    wire::Attributes attributes;
    attributes.identity = link->identity();
    attributes.mode = S_IFREG;
    InodePtr inode = at(attributes);
    auto state = inode->state_.lock();
    state->links.push_back(std::move(link));
    inode->is_kept_ = true;
    return inode;
}

Result<Descriptor> InodeTable::open_kept(const InodePtr& inode) {
    const KeptFiles::LinkPtr link = inode->state_.with(
        [](const Inode::State& state) { return state.links.empty() ? nullptr : state.links.front(); });
    if (!link)
        return Status::stale;
    auto opened = with_room([&] { return link->open(); });
    if (!opened)
        return opened.error().status == Status::too_many_files ? Status::too_many_files : Status::stale;
    reopens_.add();
    return adopt(inode, std::move(*opened));
}

std::vector<Descriptor> InodeTable::hold_for_change(const InodePtr& inode) {
    std::vector<OpenDescriptionPtr> all;
    // CAP_DAC_READ_SEARCH comes with CAP_DAC_OVERRIDE where anybody has it.
    if (!has_kernel_handles_) {
        auto state = inode->state_.lock();
        for (OpenDescription* open : state->open)
            if (auto shared = open->weak_from_this().lock())
                all.push_back(std::static_pointer_cast<OpenDescription>(std::move(shared)));
    }
    std::vector<Descriptor> held;
    for (const auto& open : all)
        if (auto descriptor = open->hold())
            held.push_back(std::move(*descriptor));
    return held;
}

bool InodeTable::can_find_again(const InodePtr& inode, int descriptor) {
    const auto attributes = stat_descriptor(descriptor);
    if (!attributes)
        return false;
    if (auto handle = usable_kernel_handle(descriptor)) {
        auto state = inode->state_.lock();
        state->kernel_handle = std::move(handle);
        return inode->names_of(*attributes) > 0 || state->kept;
    }
    if (inode->state_.with([](const Inode::State& state) { return state.kept != nullptr; }))
        return true;
    return inode->names_of(*attributes) > 0 && is_at_place(inode);
}

bool InodeTable::is_at_place(const InodePtr& inode) {
    if (inode == root_)
        return true;
    return std::ranges::any_of(places_of(*inode), [&](const Place& place) { return is_at(inode, place); });
}

// ---------------------------------------------------------------- attributes

Result<wire::Attributes> InodeTable::attributes(const InodePtr& inode) {
    const Descriptor open = inode->open_descriptor();
    Descriptor descriptor = open ? open : inode->held();
    auto attributes = descriptor ? stat_descriptor(descriptor->get()) : attributes_at_place(inode);
    if (!attributes)
        return attributes;
    if (inode->names_of(*attributes) == 0 && !inode->is_open() && inode->type() == S_IFREG) {
        // It was removed; the descriptor would only keep its blocks from being freed.
        descriptor.reset();
        give_up(inode);
        return Status::stale;
    }
    inode->stamp(*attributes);
    return attributes;
}

bool InodeTable::has_our_clock() const {
    return index_->device_of_our_clock == root_->identity().device;
}

bool InodeTable::knows_attributes(const InodePtr& inode) const {
    return root_is_local_ && inode->identity().device == root_->identity().device &&
           (inode->open_descriptor() != nullptr || inode->held() != nullptr);
}

// Spares files that are only looked at a descriptor.
Result<wire::Attributes> InodeTable::attributes_at_place(const InodePtr& inode) {
    for (const Place& place : places_of(*inode)) {
        const auto parent = directory_descriptor(place.parent);
        if (!parent)
            continue;
        auto attributes = stat_entry((*parent)->get(), place.name);
        if (attributes && attributes->identity == inode->identity())
            return attributes;
    }
    REMOFILE_TRY(opened, descriptor(inode));
    return stat_descriptor(opened->get());
}

}  // namespace remofile::server
