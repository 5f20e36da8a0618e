// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <sys/stat.h>

#include <set>
#include <string>
#include <utility>

#include "catch.hpp"
#include "filesystem/directory_cache.hpp"

using namespace remofile;
using namespace remofile::filesystem;
using namespace std::chrono_literals;

namespace {

using Knowledge = DirectoryCache::Knowledge;

struct TestClock : Clock {
    TimePoint time = TimePoint{} + 1h;
    TimePoint now() const override { return time; }
};

wire::Attributes file(std::uint64_t inode, std::uint64_t size = 5, std::uint32_t links = 1) {
    wire::Attributes attributes;
    attributes.identity = {.device = 1, .inode = inode, .birth = {}};
    attributes.mode = S_IFREG | 0644;
    attributes.links = links;
    attributes.size = size;
    return attributes;
}

wire::Attributes directory(std::uint64_t inode) {
    wire::Attributes attributes = file(inode);
    attributes.mode = S_IFDIR | 0755;
    attributes.links = 7;
    return attributes;
}

DirectoryCache::Entry entry(std::string name, const wire::Attributes& attributes) {
    return {.name = std::move(name),
            .inode = attributes.identity.inode,
            .type = static_cast<std::uint8_t>(IFTODT(attributes.mode)),
            .attributes = attributes};
}

constexpr InodeNumber home = 10;
constexpr std::size_t plenty = 1U << 20;

struct Fixture {
    explicit Fixture(std::size_t limit_bytes = plenty) : cache(term, clock, counters, limit_bytes) {
        term.agree(10s);
        term.heard(clock.time);
        cache.on_name_void = [this](InodeNumber, const std::string& name, const wire::FileIdentity*) {
            taken_back_.insert(name);
        };
        cache.on_attributes_void = [this](const wire::FileIdentity& identity) {
            taken_back_.insert(std::to_string(identity.inode));
        };
    }

    DirectoryCache::Listed listing(InodeNumber number, std::vector<DirectoryCache::Entry> entries) {
        return {.directory = number,
                .place = {},
                .attributes = directory(number),
                .entries = std::move(entries),
                .complete = true,
                .asked_at = ++events,
                .asked = clock.time,
                .trust = {}};
    }
    // What a program is told of the name: the size of the file there, or a word.
    std::string told(std::string_view name, InodeNumber number = home) {
        const auto answer = cache.find(number, name);
        if (answer.knowledge == Knowledge::absent)
            return "absent";
        if (answer.knowledge == Knowledge::unknown)
            return "unknown";
        return answer.current ? std::to_string(answer.attributes->size) : "out of date";
    }
    std::string listed() {
        const auto names = cache.names(home);
        if (names == nullptr)
            return "unknown";
        std::string text;
        for (const auto& each : *names)
            text += each.name + " ";
        return text;
    }

    TestClock clock;
    Counters counters;
    LeaseTerm term{clock};
    // What was lent and is not true any more, since the last call: names, and numbers of files.
    std::set<std::string> taken_back() { return std::exchange(taken_back_, {}); }

    std::uint64_t events = 0;
    DirectoryCache cache;

private:
    std::set<std::string> taken_back_;
};

}  // namespace

TEST_CASE("a name that stands for another directory does not lead into the one before") {
    Fixture f;
    CHECK(f.cache.learn(f.listing(home, {entry("d", directory(2))})));
    constexpr InodeNumber inside = 20;
    const auto list_it = [&] {
        auto listing = f.listing(inside, {});
        listing.attributes = directory(2);
        listing.place = {home, "d"};
        CHECK(f.cache.learn(std::move(listing)));
    };
    list_it();
    CHECK(f.cache.known_directory(home, "d") == inside);
    const wire::Attributes another = directory(3);
    const std::uint64_t asked_at = ++f.events;
    f.cache.changed_here(home, "d", &another, asked_at, ++f.events);
    CHECK(f.cache.known_directory(home, "d") == 0);
    // Whoever has the one before open may list it again.
    list_it();
    CHECK(f.cache.known_directory(home, "d") == 0);
    f.cache.put(inside, {home, "d"});
    CHECK(f.cache.known_directory(home, "d") == 0);
    // What is made here is known before the server has said what it is like.
    constexpr InodeNumber made = 21;
    auto empty = f.listing(made, {});
    empty.attributes = {};
    CHECK(f.cache.learn(std::move(empty)));
    f.cache.put(made, {home, "d"});
    CHECK(f.cache.known_directory(home, "d") == made);
}

TEST_CASE("a listing under a lease answers for names, absent names and attributes") {
    Fixture f;
    CHECK(f.told("a") == "unknown");
    CHECK(f.cache.learn(f.listing(home, {entry("b", file(2, 20)), entry("a", file(1, 10))})));
    CHECK(f.told("a") == "10");
    CHECK(f.told("b") == "20");
    CHECK(f.told("c") == "absent");
    CHECK(f.listed() == "b a ");
    REQUIRE(f.cache.own_attributes(home) != nullptr);
    CHECK(f.cache.own_attributes(home)->identity.inode == home);
    CHECK(f.told("a", 11) == "unknown");
}

TEST_CASE("nothing is known once the term has passed, and a life never outlasts it") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1))}));
    CHECK(f.cache.lend(home, "a").name == 9s);
    f.clock.time += 4s;
    CHECK(f.cache.lend(home, "none").name == 5s);
    f.term.heard(f.clock.time);
    f.clock.time += 8s;
    CHECK(f.told("a") == "5");
    CHECK(f.cache.lend_own(home) == 1s);
    f.clock.time += 1s;
    CHECK(f.told("a") == "unknown");
    CHECK(f.listed() == "unknown");
    CHECK(f.cache.own_attributes(home) == nullptr);
    CHECK(f.cache.lend_own(home) == 0s);
    CHECK(f.cache.lend(home, "a").name == 0s);
}

TEST_CASE("what cannot be watched is trusted for a short time after it was asked for") {
    Fixture f;
    auto listing = f.listing(home, {entry("a", file(1))});
    listing.trust = 1s;
    f.cache.learn(std::move(listing));
    f.clock.time += 900ms;
    CHECK(f.cache.lend(home, "a").name == 100ms);
    // A single answer does not make the rest of the listing younger.
    f.cache.learn(home, "b", file(2), ++f.events);
    f.clock.time += 100ms;
    CHECK(f.told("a") == "unknown");
}

TEST_CASE("attributes of a file with several names are not covered, those of directories are") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("linked", file(1, 5, 2)), entry("below", directory(3))}));
    CHECK(f.told("linked") == "out of date");
    CHECK(f.told("below") == "5");
    f.cache.changed_here(home, "linked", nullptr, 2, 3);
    CHECK(f.told("linked") == "absent");
}

TEST_CASE("what is revoked is unknown until it has been asked for again") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1)), entry("b", file(2))}));
    f.cache.revoke_attributes(home, "a", ++f.events);
    CHECK(f.told("a") == "out of date");
    CHECK(f.told("b") == "5");
    f.cache.revoke_name(home, "b", ++f.events);
    CHECK(f.told("b") == "unknown");
    CHECK(f.listed() == "unknown");
    CHECK(f.cache.own_attributes(home) == nullptr);
    f.cache.learn(home, "a", file(1, 50), ++f.events);
    f.cache.learn_absent(home, "b", ++f.events);
    f.cache.learn_own(home, directory(home), ++f.events);
    CHECK(f.told("a") == "50");
    CHECK(f.told("b") == "absent");
    CHECK(f.listed() == "a ");
    CHECK(f.cache.own_attributes(home) != nullptr);
    f.cache.revoke_own_attributes(home, ++f.events);
    CHECK(f.cache.own_attributes(home) == nullptr);
    f.cache.revoke(home, ++f.events);
    CHECK(f.told("a") == "unknown");
}

TEST_CASE("an answer that was under way when something was revoked is not kept") {
    Fixture f;
    SECTION("of a name") {
        f.cache.learn(f.listing(home, {entry("a", file(1))}));
        const auto asked_at = ++f.events;
        f.cache.revoke_name(home, "a", ++f.events);
        f.cache.learn(home, "a", file(1), asked_at);
        f.cache.learn_absent(home, "a", asked_at);
        CHECK(f.told("a") == "unknown");
    }
    SECTION("of attributes") {
        f.cache.learn(f.listing(home, {entry("a", file(1))}));
        const auto asked_at = ++f.events;
        f.cache.revoke_attributes(home, "a", ++f.events);
        f.cache.learn(home, "a", file(1), asked_at);
        CHECK(f.told("a") == "out of date");
    }
    SECTION("of a listing of a directory of which nothing is known yet") {
        auto listing = f.listing(home, {entry("a", file(1))});
        SECTION("name") {
            f.cache.revoke_name(home, "a", ++f.events);
        }
        SECTION("attributes") {
            f.cache.revoke_attributes(home, "a", ++f.events);
        }
        SECTION("own attributes") {
            f.cache.revoke_own_attributes(home, ++f.events);
        }
        SECTION("lease") {
            f.cache.revoke(home, ++f.events);
        }
        SECTION("all") {
            f.cache.revoke_all(++f.events);
        }
        SECTION("an own change") {
            f.cache.changed_here(home, "n", nullptr, 1, ++f.events);
        }
        CHECK_FALSE(f.cache.learn(std::move(listing)));
        CHECK(f.told("a") == "unknown");
    }
}

TEST_CASE("own changes are known at once, in the order of their answers") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1))}));
    const auto made = file(2, 20);
    auto asked_at = ++f.events;
    f.cache.changed_here(home, "b", &made, asked_at, ++f.events);
    CHECK(f.told("b") == "20");
    CHECK(f.listed() == "a b ");
    CHECK(f.cache.own_attributes(home) == nullptr);
    asked_at = ++f.events;
    f.cache.changed_here(home, "a", nullptr, asked_at, ++f.events);
    CHECK(f.told("a") == "absent");
    CHECK(f.listed() == "b ");
    f.cache.attributes_changed_here(home, "b", ++f.events);
    CHECK(f.told("b") == "out of date");
}

TEST_CASE("an own change that crosses a revocation leaves the name unknown") {
    Fixture f;
    f.cache.learn(f.listing(home, {}));
    const auto made = file(2);
    const auto asked_at = ++f.events;
    // Made here and removed by another, whose change was told before our own answer came.
    f.cache.revoke_name(home, "b", ++f.events);
    f.cache.changed_here(home, "b", &made, asked_at, ++f.events);
    CHECK(f.told("b") == "unknown");
}

TEST_CASE("a listing that is not complete says nothing of other names, but those asked for are remembered") {
    Fixture f;
    auto listing = f.listing(home, {entry("a", file(1))});
    listing.complete = false;
    f.cache.learn(std::move(listing));
    CHECK(f.told("a") == "5");
    CHECK(f.told("b") == "unknown");
    CHECK(f.listed() == "unknown");
    f.cache.learn_absent(home, "b", ++f.events);
    CHECK(f.told("b") == "absent");
    const auto made = file(2);
    f.cache.changed_here(home, "b", &made, f.events, f.events + 1);
    CHECK(f.told("b") == "5");
    f.events += 2;
    f.cache.revoke_name(home, "c", ++f.events);
    f.cache.learn_absent(home, "c", ++f.events);
    f.cache.revoke_name(home, "c", ++f.events);
    CHECK(f.told("c") == "unknown");
}

TEST_CASE("what was used longest ago is given up for want of room") {
    Fixture f(24'000);
    std::vector<InodeNumber> given_up;
    f.cache.on_given_up = [&](InodeNumber number) { given_up.push_back(number); };
    const auto fill = [&](InodeNumber number) {
        std::vector<DirectoryCache::Entry> entries;
        for (int i = 0; i < 30; ++i)
            entries.push_back(entry("name" + std::to_string(i), file(100 + i)));
        f.cache.learn(f.listing(number, std::move(entries)));
    };
    fill(1);
    fill(2);
    CHECK(f.told("name1", 1) == "5");
    fill(3);
    CHECK(given_up == std::vector<InodeNumber>{2});
    CHECK(f.told("name1", 2) == "unknown");
    CHECK(f.told("name1", 1) == "5");
    CHECK(f.cache.used_bytes() <= 24'000);
    f.cache.remove(1);
    f.cache.remove(3);
    CHECK(f.cache.used_bytes() == 0);
    CHECK(f.cache.size() == 0);
}

TEST_CASE("a million revocations of unknown directories are remembered in bounded memory, and none is missed") {
    Fixture f;
    auto listing = f.listing(home, {entry("a", file(1))});
    f.cache.revoke_name(home, "a", ++f.events);
    for (InodeNumber number = 1000; number < 1'001'000; ++number)
        f.cache.revoke(number, ++f.events);
    CHECK(f.cache.size() <= 65'536);
    CHECK_FALSE(f.cache.learn(std::move(listing)));
    CHECK(f.cache.learn(f.listing(home, {entry("a", file(1))})));
}

TEST_CASE("a listing that names one thing twice names it once") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1, 10)), entry("a", file(2, 20))}));
    CHECK(f.told("a") == "10");
    CHECK(f.listed() == "a ");
}

TEST_CASE("extended attributes that a file got by another name are not missed when that one is gone") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1))}));
    f.cache.learn_absent_xattrs(home, "a", no_listed_xattrs, ++f.events);
    CHECK(f.cache.absent_xattrs(home, "a") == no_listed_xattrs);
    SECTION("a change of our own leaves them as they were") {
        const std::uint64_t asked_at = ++f.events;
        f.cache.attributes_changed_here(home, "a", ++f.events);
        f.cache.attributes_are(home, "a", file(1, 6), asked_at);
        CHECK(f.cache.absent_xattrs(home, "a") == no_listed_xattrs);
    }
    SECTION("another name") {
        // Given, used and taken away elsewhere.
        f.cache.linked_here(home, "a", ++f.events);
        SECTION("then the file is looked up") {
            f.cache.learn(home, "a", file(1), ++f.events);
        }
        SECTION("then the file is changed") {
            const std::uint64_t asked_at = ++f.events;
            f.cache.attributes_changed_here(home, "a", ++f.events);
            f.cache.attributes_are(home, "a", file(1, 6), asked_at);
        }
        CHECK(f.told("a") != "out of date");
        CHECK(f.cache.absent_xattrs(home, "a") == 0);
    }
}

TEST_CASE("what was lent is taken back when the server revokes it, and nothing else is") {
    using Set = std::set<std::string>;
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1)), entry("b", file(2)), entry("d", directory(3))}));
    CHECK(f.cache.lend(home, "a").attributes == 9s);
    CHECK(f.cache.lend(home, "d").attributes == 0s);
    CHECK(f.cache.lend(home, "none").name == 9s);
    CHECK(f.cache.lend_own(home) == 9s);
    SECTION("a name, with the directory's own attributes") {
        f.cache.revoke_name(home, "none", ++f.events);
        CHECK(f.taken_back() == Set{"none", "10"});
        CHECK(f.cache.lend(home, "none").name == 0s);
    }
    SECTION("a name, with the attributes of what it stood for") {
        f.cache.revoke_name(home, "a", ++f.events);
        CHECK(f.taken_back() == Set{"a", "1", "10"});
    }
    SECTION("attributes") {
        f.cache.revoke_attributes(home, "a", ++f.events);
        CHECK(f.taken_back() == Set{"1"});
        CHECK(f.cache.lend(home, "a").name == 9s);
        CHECK(f.cache.lend(home, "a").attributes == 0s);
    }
    SECTION("the lease") {
        f.cache.revoke(home, ++f.events);
        CHECK(f.taken_back() == Set{"a", "b", "d", "none", "1", "2", "3", "10"});
    }
    SECTION("all leases") {
        f.cache.revoke_all(++f.events);
        CHECK(f.taken_back() == Set{"a", "b", "d", "none", "1", "2", "3", "10"});
    }
    SECTION("the directory, for want of room") {
        f.cache.remove(home);
        CHECK(f.taken_back() == Set{"a", "b", "d", "none", "1", "2", "3", "10"});
    }
    SECTION("the lease, after it was listed once more") {
        f.cache.learn(f.listing(home, {entry("a", file(1))}));
        CHECK(f.taken_back() == Set{"b", "d", "2", "3"});  // whatever became of them
        f.cache.revoke(home, ++f.events);
        CHECK(f.taken_back() == Set{"a", "none", "1", "10"});
    }
    SECTION("the attributes of what was moved here from here") {
        const wire::Attributes moved = file(1);
        const std::uint64_t asked_at = ++f.events;
        ++f.events;
        f.cache.changed_here(home, "a", nullptr, asked_at, f.events);
        f.cache.changed_here(home, "z", &moved, asked_at, f.events);
        f.cache.attributes_changed_here(home, "z", ++f.events);
        CHECK(f.taken_back().empty());
        f.cache.revoke_attributes(home, "z", ++f.events);
        CHECK(f.taken_back() == Set{"1"});
    }
    // It counts from when the answer came, and that took its time.
    SECTION("what was lent just as long ago as it was lent for") {
        f.clock.time += 9s + 500ms;
        SECTION("the lease") {
            f.cache.revoke(home, ++f.events);
            CHECK(f.taken_back() == Set{"a", "b", "d", "none", "1", "2", "3", "10"});
        }
        SECTION("a name that was absent, with the directory's own attributes") {
            f.cache.revoke_name(home, "none", ++f.events);
            CHECK(f.taken_back() == Set{"none", "10"});
        }
        SECTION("attributes") {
            f.cache.revoke_attributes(home, "a", ++f.events);
            f.cache.revoke_own_attributes(home, ++f.events);
            CHECK(f.taken_back() == Set{"1", "10"});
        }
    }
    SECTION("what was lent longer ago than it was lent for, however long the answer took") {
        f.clock.time += 10s;
        f.cache.revoke(home, ++f.events);
        CHECK(f.taken_back().empty());
    }
}

TEST_CASE("what was lent of a name that another listing is too short for is taken back") {
    using Set = std::set<std::string>;
    Fixture f;
    const auto list_in_part = [&](const wire::Attributes& first) {
        auto listing = f.listing(home, {entry("a", first)});
        listing.complete = false;
        CHECK(f.cache.learn(std::move(listing)));
    };
    list_in_part(file(1));
    f.cache.learn(home, "b", file(2), ++f.events);
    CHECK(f.cache.lend(home, "a").attributes == 9s);
    CHECK(f.cache.lend(home, "b").attributes == 9s);
    list_in_part(file(1));
    CHECK(f.taken_back() == Set{"b", "2"});
    list_in_part(file(3));
    CHECK(f.taken_back() == Set{"a", "1"});
}

TEST_CASE("what is changed from here is not taken back: whoever is in front knows of it") {
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1)), entry("b", file(2))}));
    f.cache.lend(home, "a");
    f.cache.lend(home, "b");
    const std::uint64_t asked_at = ++f.events;
    f.cache.changed_here(home, "a", nullptr, asked_at, ++f.events);
    f.cache.attributes_changed_here(home, "b", ++f.events);
    CHECK(f.taken_back().empty());
}

TEST_CASE("what was lent of a name that is moved from here is taken back with the directory that has it now") {
    using Set = std::set<std::string>;
    constexpr InodeNumber other = 20;
    Fixture f;
    f.cache.learn(f.listing(home, {entry("a", file(1))}));
    f.cache.lend(home, "a");
    const auto moves = [&f] {
        const wire::Attributes moved = file(1);
        const std::uint64_t asked_at = ++f.events;
        ++f.events;
        f.cache.loan_moves(home, "a", other, "z");
        f.cache.changed_here(home, "a", nullptr, asked_at, f.events);
        f.cache.changed_here(other, "z", &moved, asked_at, f.events);
    };
    SECTION("of which nothing was lent before") {
        f.cache.learn(f.listing(other, {}));
        moves();
        CHECK(f.taken_back().empty());
        SECTION("a name") {
            f.cache.revoke_name(other, "z", ++f.events);
            CHECK(f.taken_back() == Set{"z", "1"});
        }
        SECTION("attributes") {
            f.cache.revoke_attributes(other, "z", ++f.events);
            CHECK(f.taken_back() == Set{"1"});
        }
        SECTION("the lease") {
            f.cache.revoke(other, ++f.events);
            CHECK(f.taken_back() == Set{"z", "1"});
        }
    }
    SECTION("if it loses its lease before the server has answered") {
        f.cache.learn(f.listing(other, {}));
        f.cache.loan_moves(home, "a", other, "z");
        f.cache.revoke(other, ++f.events);
        CHECK(f.taken_back() == Set{"z"});
    }
    SECTION("also within a directory") {
        f.cache.loan_moves(home, "a", home, "z");
        f.cache.revoke(home, ++f.events);
        CHECK(f.taken_back() == Set{"a", "z", "1"});
    }
    SECTION("at once if nothing is known of that one, as nothing would tell") {
        moves();
        CHECK(f.taken_back() == Set{"z", "1"});
    }
    SECTION("at once if that one cannot be trusted for as long") {
        auto listing = f.listing(other, {});
        listing.trust = 500ms;
        f.cache.learn(std::move(listing));
        moves();
        CHECK(f.taken_back() == Set{"z", "1"});
    }
    SECTION("and not at all if it is lent no more") {
        f.clock.time += 10s;
        f.term.heard(f.clock.time);
        moves();
        CHECK(f.taken_back().empty());
    }
}

TEST_CASE("absent names of one directory are lent up to a number") {
    Fixture f;
    f.cache.learn(f.listing(home, {}));
    for (int i = 0; i < 1024; ++i)
        CHECK(f.cache.lend(home, "none" + std::to_string(i)).name == 9s);
    CHECK(f.cache.lend(home, "one more").name == 0s);
    CHECK(f.cache.lend(home, "none7").name == 9s);
    f.clock.time += 10s;
    f.term.heard(f.clock.time);
    CHECK(f.cache.lend(home, "one more").name == 9s);
}
