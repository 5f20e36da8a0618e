// SPDX-License-Identifier: MIT
#include "server/sessions/answer_journal.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/log.hpp"
#include "server/file_service.hpp"

namespace remofile::server {
namespace {

constexpr std::uint64_t magic = 0x6c6e726a6f6d6572;  // "remojrnl"
constexpr std::uint32_t layout_version = 2;
constexpr std::size_t record_bytes = 256;
constexpr std::size_t header_bytes = 4096;
constexpr std::size_t file_bytes =
    header_bytes + (AnswerJournal::max_accounts + AnswerJournal::max_notes) * record_bytes;
constexpr std::size_t hash_bytes = 32;

// What a record holds is there once its state says so.
enum State : std::uint32_t { nothing = 0, in_use = 1, answered = 2 };

struct Header {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t record_bytes;
    std::uint32_t accounts;
    std::uint32_t notes;
    std::array<char, 64> machine_start;
};

struct NameRecord {
    std::uint32_t state;
    std::uint32_t number;  // the latest has the largest
    std::uint64_t session;
    std::array<std::uint8_t, hash_bytes> proof;
};

}  // namespace

struct AnswerJournal::AccountRecord {
    std::uint32_t state;
    std::uint32_t is_incomplete;  // something may have been carried out that is not noted
    std::uint64_t number;
    std::array<NameRecord, max_names> names;
    std::uint32_t has_lost_locks;  // others may have been granted what it had locked
    std::uint32_t takes_locks;     // it has been granted some
    std::array<std::uint8_t, 40> unused;
};

struct AnswerJournal::NoteRecord {
    std::uint32_t state;
    std::uint32_t opcode;
    std::uint64_t account;
    std::uint64_t request;
    std::int64_t begun_ns;  // since 1970
    std::uint32_t status;
    std::uint32_t body_bytes;
    std::uint32_t step_ns;  // by which the clock in steps was behind
    std::uint32_t unused;
    std::array<std::byte, max_body_bytes> body;
};

namespace {

using wire::Timestamp;

void put_state(std::uint32_t& state, std::uint32_t value) {
    std::atomic_ref(state).store(value, std::memory_order_release);
}
std::uint32_t state_of(std::uint32_t& state) {
    return std::atomic_ref(state).load(std::memory_order_acquire);
}

// The file need not hold the secret itself.
std::array<std::uint8_t, hash_bytes> proof_of(const AnswerJournal::Name& name) {
    std::array<std::uint8_t, hash_bytes> proof{};
    crypto_generichash_state state;
    crypto_generichash_init(&state, nullptr, 0, proof.size());
    crypto_generichash_update(&state, name.secret.data(), name.secret.size());
    if (name.key)
        crypto_generichash_update(&state, name.key->bytes.data(), name.key->bytes.size());
    crypto_generichash_final(&state, proof.data(), proof.size());
    return proof;
}

constexpr std::int64_t ns_per_s = 1'000'000'000;

// No system call.
std::int64_t ns_now(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return now.tv_sec * ns_per_s + now.tv_nsec;
}

Timestamp timestamp_of(std::int64_t ns) {
    return {.seconds = ns / ns_per_s, .nanoseconds = static_cast<std::uint32_t>(ns % ns_per_s)};
}

Result<UniqueFd> open_file(const std::filesystem::path& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!fd)
        return errno_error(path.string());
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return errno_error(path.string());
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1 || (status.st_mode & 077) != 0)
        return make_error(Status::access_denied, path.string() + " is not a file of this user's alone");
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return make_error(Status::busy, "another process has " + path.string());
    return fd;
}

// Room that is not there must be missed now and not by a store.
Status give_size(int fd) {
    if (::ftruncate(fd, 0) != 0)
        return from_errno(errno);
    const int failed = ::posix_fallocate(fd, 0, file_bytes);
    return failed == 0 ? Status::ok : from_errno(failed);
}

}  // namespace

// ---------------------------------------------------------------- the file

AnswerJournal::AnswerJournal(std::filesystem::path path, UniqueFd fd, std::byte* memory)
    : path_(std::move(path)), fd_(std::move(fd)), opened_(timestamp_of(ns_now(CLOCK_REALTIME))), memory_(memory) {}

AnswerJournal::~AnswerJournal() {
    ::munmap(memory_, file_bytes);
}

Result<std::shared_ptr<AnswerJournal>> AnswerJournal::open(std::filesystem::path file, std::string_view machine_start) {
    static_assert(sizeof(AccountRecord) == record_bytes && sizeof(NoteRecord) == record_bytes);
    REMOFILE_TRY(fd, open_file(file));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return errno_error(file.string());
    const bool was_there = status.st_size != 0;
    const bool has_size = status.st_size == static_cast<off_t>(file_bytes);
    if (!has_size) {
        if (const Status given = give_size(fd.get()); given != Status::ok)
            return make_error(given, file.string());
    }
    void* memory = ::mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED)
        return errno_error(file.string());
    std::shared_ptr<AnswerJournal> journal(
        new AnswerJournal(std::move(file), std::move(fd), static_cast<std::byte*>(memory)));
    if (!has_size || !journal->has_header(machine_start)) {
        if (was_there)
            log::warn("{} is of another version or start of the machine, and begun anew", journal->path_.string());
        journal->write_header(machine_start);
    }
    journal->read();
    return journal;
}

bool AnswerJournal::has_header(std::string_view machine_start) const {
    Header header{};
    std::memcpy(&header, memory_, sizeof header);
    std::array<char, 64> start{};
    std::ranges::copy(machine_start.substr(0, start.size()), start.begin());
    return header.magic == magic && header.version == layout_version && header.record_bytes == record_bytes &&
           header.accounts == max_accounts && header.notes == max_notes && header.machine_start == start;
}

void AnswerJournal::write_header(std::string_view machine_start) {
    std::memset(memory_, 0, file_bytes);
    Header header{.magic = magic,
                  .version = layout_version,
                  .record_bytes = record_bytes,
                  .accounts = max_accounts,
                  .notes = max_notes,
                  .machine_start = {}};
    std::ranges::copy(machine_start.substr(0, header.machine_start.size()), header.machine_start.begin());
    std::memcpy(memory_, &header, sizeof header);
}

void AnswerJournal::leave() {
    left_ = true;
}

void AnswerJournal::remove_if_unneeded() {
    if (free_.lock()->accounts.size() == max_accounts)
        ::unlink(path_.c_str());
}

AnswerJournal::AccountRecord& AnswerJournal::account(std::uint32_t index) const {
    return *reinterpret_cast<AccountRecord*>(memory_ + header_bytes + index * record_bytes);
}

AnswerJournal::NoteRecord& AnswerJournal::note(std::uint32_t index) const {
    return *reinterpret_cast<NoteRecord*>(memory_ + header_bytes + (max_accounts + index) * record_bytes);
}

// Whoever could write into the file could do more; what makes no sense is let go of all the same.
void AnswerJournal::read() {
    auto free = free_.lock();
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < max_accounts; ++i) {
        AccountRecord& record = account(i);
        const bool is_new = record.number != 0 && !free->lost.contains(record.number);
        if (state_of(record.state) == in_use && is_new) {
            free->lost.emplace(record.number,
                               Lost{.index = i, .has_locks = state_of(record.has_lost_locks) == 0, .notes = {}});
            free->last_number = std::max(free->last_number, record.number);
        } else {
            put_state(record.state, nothing);
            free->accounts.push_back(i);
        }
    }
    for (std::uint32_t i = 0; i < max_notes; ++i) {
        NoteRecord& record = note(i);
        const std::uint32_t state = state_of(record.state);
        const auto lost = state == nothing ? free->lost.end() : free->lost.find(record.account);
        const bool makes_sense = (state == in_use || state == answered) && record.request != 0 &&
                                 find_operation(static_cast<wire::Opcode>(record.opcode)) != nullptr &&
                                 record.body_bytes <= record.body.size() &&
                                 (state == in_use || is_known(record.status));
        if (lost != free->lost.end() && makes_sense &&
            lost->second.notes.emplace(RequestId{record.request}, i).second) {
            ++count;
            continue;
        }
        if (lost != free->lost.end())
            account(lost->second.index).is_incomplete = 1;
        put_state(record.state, nothing);
        free->notes.push_back(i);
    }
    // The last number is not to come again, whatever the file says.
    if (free->last_number == UINT64_MAX) {
        while (drop_oldest(*free)) {
        }
        free->last_number = 0;
    }
    if (!free->lost.empty())
        log::info("a server before this one has left {} answers of {} sessions", count, free->lost.size());
}

// ---------------------------------------------------------------- accounts

void AnswerJournal::drop(Free& free, std::uint64_t lost) {
    const auto found = free.lost.find(lost);
    put_state(account(found->second.index).state, nothing);
    free.accounts.push_back(found->second.index);
    for (const auto& [request, index] : found->second.notes) {
        put_state(note(index).state, nothing);
        free.notes.push_back(index);
    }
    free.lost.erase(found);
}

bool AnswerJournal::drop_oldest(Free& free) {
    if (free.lost.empty())
        return false;
    drop(free, free.lost.begin()->first);
    return true;
}

// In place of the oldest: the client may not have heard of the latest.
void AnswerJournal::name(std::uint32_t index, const Name& name) {
    auto& names = account(index).names;
    std::uint32_t last = 0;
    NameRecord* oldest = &names.front();
    for (NameRecord& each : names) {
        const bool is_there = state_of(each.state) == in_use;
        const bool is_older = state_of(oldest->state) == in_use && (!is_there || each.number < oldest->number);
        if (is_older)
            oldest = &each;
        if (is_there)
            last = std::max(last, each.number);
    }
    put_state(oldest->state, nothing);
    oldest->number = last + 1;
    oldest->session = name.session.value;
    oldest->proof = proof_of(name);
    put_state(oldest->state, in_use);
}

std::shared_ptr<AnswerJournal::Account> AnswerJournal::begin(const Name& name) {
    std::uint32_t index = 0;
    std::uint64_t number = 0;
    {
        auto free = free_.lock();
        if (free->accounts.empty() && !drop_oldest(*free))
            return nullptr;
        index = free->accounts.back();
        free->accounts.pop_back();
        number = ++free->last_number;
    }
    AccountRecord& record = account(index);
    record.is_incomplete = 0;
    put_state(record.has_lost_locks, 0);
    put_state(record.takes_locks, 0);
    record.number = number;
    for (NameRecord& each : record.names)
        put_state(each.state, nothing);
    this->name(index, name);
    put_state(record.state, in_use);
    return std::make_shared<Account>(shared_from_this(), index, number, false, std::map<RequestId, std::uint32_t>{});
}

std::shared_ptr<AnswerJournal::Account> AnswerJournal::take_up(const Name& lost, const Name& name) {
    const auto proof = proof_of(lost);
    const auto is_it = [&](NameRecord& each) {
        return state_of(each.state) == in_use && each.session == lost.session.value &&
               sodium_memcmp(each.proof.data(), proof.data(), proof.size()) == 0;
    };
    std::uint64_t number = 0;
    Lost taken;
    {
        auto free = free_.lock();
        const auto found = std::ranges::find_if(
            free->lost, [&](const auto& each) { return std::ranges::any_of(account(each.second.index).names, is_it); });
        if (found == free->lost.end())
            return nullptr;
        number = found->first;
        if (account(found->second.index).is_incomplete != 0) {
            drop(*free, number);
            return nullptr;
        }
        taken = std::move(found->second);
        free->lost.erase(found);
        free->without_locks.insert(taken.index);
    }
    this->name(taken.index, name);
    return std::make_shared<Account>(shared_from_this(), taken.index, number, taken.has_locks, std::move(taken.notes));
}

void AnswerJournal::give_back_account(std::uint32_t index) {
    if (left_)
        return;
    put_state(account(index).state, nothing);
    {
        auto free = free_.lock();
        free->without_locks.erase(index);
        free->accounts.push_back(index);
    }
    look_for_holders();
}

std::size_t AnswerJournal::holders_awaited(const Free& free) const {
    const auto is_awaited = [this](std::uint32_t index) {
        return state_of(account(index).takes_locks) != 0 && state_of(account(index).has_lost_locks) == 0;
    };
    const auto lost = std::ranges::count_if(free.lost, [&](const auto& each) { return is_awaited(each.second.index); });
    return static_cast<std::size_t>(lost + std::ranges::count_if(free.without_locks, is_awaited));
}

std::size_t AnswerJournal::lock_holders_awaited() const {
    return holders_awaited(*free_.lock());
}

void AnswerJournal::when_lock_holders_are_back(std::function<void()> done) {
    free_.lock()->holders_are_back = std::move(done);
    look_for_holders();
}

void AnswerJournal::look_for_holders() {
    std::function<void()> done;
    {
        auto free = free_.lock();
        if (free->holders_are_back && holders_awaited(*free) == 0)
            done = std::exchange(free->holders_are_back, nullptr);
    }
    if (done)
        done();
}

void AnswerJournal::grants_locks() {
    auto free = free_.lock();
    for (const auto& [number, lost] : free->lost)
        put_state(account(lost.index).has_lost_locks, 1);
    for (const std::uint32_t index : free->without_locks)
        put_state(account(index).has_lost_locks, 1);
}

void AnswerJournal::Account::has_locks() {
    {
        auto free = journal_->free_.lock();
        free->without_locks.erase(index_);
        put_state(journal_->account(index_).has_lost_locks, 0);
    }
    journal_->look_for_holders();
}

void AnswerJournal::Account::takes_locks() {
    put_state(journal_->account(index_).takes_locks, 1);
}

AnswerJournal::Account::Account(std::shared_ptr<AnswerJournal> journal, std::uint32_t index, std::uint64_t number,
                                bool may_have_locks_again, std::map<RequestId, std::uint32_t> before)
    : journal_(std::move(journal)),
      index_(index),
      number_(number),
      may_have_locks_again_(may_have_locks_again),
      before_(std::move(before)) {}

AnswerJournal::Account::~Account() {
    drop_below(RequestId{UINT64_MAX});
    journal_->give_back_account(index_);
}

void AnswerJournal::Account::drop_below(RequestId request) {
    while (!before_.empty() && before_.begin()->first < request) {
        journal_->give_back_note(before_.begin()->second);
        before_.erase(before_.begin());
    }
}

// ---------------------------------------------------------------- notes

std::optional<std::uint32_t> AnswerJournal::take_note() {
    auto free = free_.lock();
    while (free->notes.empty()) {
        if (!drop_oldest(*free))
            return std::nullopt;
    }
    const std::uint32_t index = free->notes.back();
    free->notes.pop_back();
    return index;
}

void AnswerJournal::give_back_note(std::uint32_t index) {
    if (left_)
        return;
    put_state(note(index).state, nothing);
    free_.lock()->notes.push_back(index);
}

std::shared_ptr<AnswerJournal::Note> AnswerJournal::Account::note(RequestId request, bool is_sent_again) {
    if (const auto found = before_.find(request); found != before_.end()) {
        const std::uint32_t index = found->second;
        before_.erase(found);
        if (!is_sent_again) {
            journal_->give_back_note(index);
        } else {
            auto note = std::make_shared<Note>(shared_from_this(), index);
            const NoteRecord& record = note->record();
            // Whatever is in the file, it is a time.
            const std::int64_t begun = std::clamp<std::int64_t>(record.begun_ns, ns_per_s * 10, INT64_MAX);
            note->before_ = Note::Before{.since = timestamp_of(begun - record.step_ns),
                                         .begun = timestamp_of(begun),
                                         .ended = journal_->opened_,
                                         .status = {},
                                         .body = {}};
            if (record.state == answered) {
                note->before_->status = static_cast<Status>(record.status);
                note->before_->body.assign(record.body.begin(), record.body.begin() + record.body_bytes);
            } else if (const auto noted =
                           wire::decode_body<wire::AttributesReply>(std::span(record.body).first(record.body_bytes))) {
                note->before_->attributes = noted->attributes;
            }
            return note;
        }
    }
    const auto index = journal_->take_note();
    if (!index) {
        put_state(journal_->account(index_).is_incomplete, 1);
        return nullptr;
    }
    return std::make_shared<Note>(shared_from_this(), *index);
}

AnswerJournal::Note::Note(std::shared_ptr<Account> account, std::uint32_t index)
    : account_(std::move(account)), index_(index) {}

AnswerJournal::Note::~Note() {
    account_->journal_->give_back_note(index_);
}

AnswerJournal::NoteRecord& AnswerJournal::Note::record() const {
    return account_->journal_->note(index_);
}

namespace {

void put_body(AnswerJournal::NoteRecord& noted, std::span<const std::byte> body) {
    noted.body_bytes = static_cast<std::uint32_t>(body.size());
    std::ranges::copy(body, noted.body.begin());
}

}  // namespace

void AnswerJournal::Note::begin(wire::Opcode opcode, RequestId request,
                                const std::optional<wire::Attributes>& attributes) {
    NoteRecord& noted = record();
    const std::int64_t since = ns_now(CLOCK_REALTIME_COARSE);
    const std::int64_t now = ns_now(CLOCK_REALTIME);
    put_state(noted.state, nothing);
    noted.opcode = static_cast<std::uint32_t>(opcode);
    noted.account = account_->number_;
    noted.request = request.value;
    noted.begun_ns = now;
    noted.step_ns = static_cast<std::uint32_t>(std::clamp<std::int64_t>(now - since, 0, UINT32_MAX));
    noted.body_bytes = 0;
    if (attributes)
        put_body(noted, wire::encode_body(wire::AttributesReply{*attributes}));
    put_state(noted.state, in_use);
}

void AnswerJournal::Note::finish(Status status, std::span<const std::byte> body) {
    NoteRecord& noted = record();
    if (body.size() > noted.body.size())
        return;
    noted.status = static_cast<std::uint32_t>(status);
    put_body(noted, body);
    put_state(noted.state, answered);
}

}  // namespace remofile::server
