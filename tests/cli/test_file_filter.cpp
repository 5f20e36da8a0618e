// SPDX-License-Identifier: MIT
// What patterns match, as rsync's manual says.
#include "cli/file_filter.hpp"

#include <catch.hpp>

#include "harness/scratch.hpp"
#include "local_tree.hpp"

namespace remofile::cli {
namespace {

using Verdict = FileFilter::Verdict;

bool matches(std::string_view pattern, std::string_view text) {
    const auto glob = Glob::compile(pattern);
    REQUIRE(glob);
    return glob->matches(text);
}

bool excludes(std::string_view pattern, std::string_view path, bool is_directory = false) {
    FileFilter filter;
    REQUIRE(filter.add(pattern, Verdict::exclude));
    return filter.excludes(path, is_directory);
}

}  // namespace

TEST_CASE("a pattern matches as a shell's does") {
    CHECK(matches("*.o", "a.o"));
    CHECK(matches("*.o", ".o"));
    CHECK_FALSE(matches("*.o", "a.oo"));
    CHECK_FALSE(matches("*.o", "d/a.o"));
    CHECK(matches("**.o", "d/a.o"));
    CHECK(matches("a**", "a"));
    CHECK(matches("?", "a"));
    CHECK_FALSE(matches("?", "/"));
    CHECK_FALSE(matches("?", ""));
    CHECK(matches("a*b*c", "a-b-b-c"));
    CHECK_FALSE(matches("a*b*c", "a-c-b"));
    CHECK(matches("[a-c]x", "bx"));
    CHECK_FALSE(matches("[!a-c]x", "bx"));
    CHECK(matches("[^a-c]x", "dx"));
    CHECK_FALSE(matches("[!a]", "/"));
    CHECK(matches("[]]", "]"));
    CHECK(matches("[a-]", "-"));
    CHECK(matches("[\\]x]", "]"));
    CHECK(matches("[[:digit:][:upper:]_]", "7"));
    CHECK(matches("[[:digit:][:upper:]_]", "_"));
    CHECK_FALSE(matches("[[:digit:][:upper:]_]", "a"));
    CHECK(matches("\\*", "*"));
    CHECK_FALSE(matches("\\*", "a"));
    CHECK(matches("\xff*", "\xff\xfe"));
    CHECK_FALSE(Glob::compile("[a"));
    CHECK_FALSE(Glob::compile("[]"));
    CHECK_FALSE(Glob::compile("[a\\"));
    CHECK_FALSE(Glob::compile("[[:nothing"));
}

TEST_CASE("a pattern of many stars takes no longer than its length allows") {
    std::string pattern;
    for (int i = 0; i < 100; ++i)
        pattern += "*a";
    CHECK_FALSE(matches(pattern + "b", std::string(4000, 'a')));
}

TEST_CASE("a pattern is one of names, of paths, or of paths from the root on") {
    CHECK(excludes("core", "core"));
    CHECK(excludes("core", "a/b/core"));
    CHECK_FALSE(excludes("core", "core/x"));
    CHECK_FALSE(excludes("core", "score"));
    CHECK(excludes("/core", "core"));
    CHECK_FALSE(excludes("/core", "a/core"));
    CHECK(excludes("a/core", "a/core"));
    CHECK(excludes("a/core", "b/a/core"));
    CHECK_FALSE(excludes("a/core", "ba/core"));
    CHECK(excludes("a/*.o", "b/a/x.o"));
    CHECK_FALSE(excludes("a/*.o", "a/b/x.o"));
    CHECK(excludes("a/**.o", "a/b/c/x.o"));
    CHECK(excludes("**/x.o", "x.o"));
    CHECK(excludes("**/x.o", "a/b/x.o"));
    CHECK(excludes("/a/**/x.o", "a/b/c/x.o"));
    CHECK_FALSE(excludes("/a/**/x.o", "a/x.o"));
    CHECK(excludes("a**b", "x/a/y/b"));
}

TEST_CASE("a pattern that ends with a slash is one of directories") {
    CHECK(excludes("build/", "a/build", true));
    CHECK_FALSE(excludes("build/", "a/build", false));
    CHECK(excludes("/a/*/", "a/b", true));
    CHECK(excludes("cache/***", "x/cache", true));
    CHECK_FALSE(excludes("cache/***", "x/cache", false));
    CHECK(excludes("cache/***", "x/cache/a/b"));
    CHECK_FALSE(excludes("cache/**", "cache", true));
}

TEST_CASE("a backslash is itself where nothing is to be quoted") {
    CHECK(excludes("a\\b", "a\\b"));
    CHECK_FALSE(excludes("a\\b", "ab"));
    CHECK(excludes("a\\**", "a*x"));
    CHECK_FALSE(excludes("a\\**", "abx"));
}

TEST_CASE("the first rule that matches decides") {
    FileFilter filter;
    REQUIRE(filter.add("keep.o", Verdict::include));
    REQUIRE(filter.add("*.o", Verdict::exclude));
    REQUIRE(filter.add("other.o", Verdict::include));
    REQUIRE(filter.add("+ *.c", Verdict::exclude));
    REQUIRE(filter.add("- *.[ch]", Verdict::include));
    CHECK_FALSE(filter.excludes("d/keep.o", false));
    CHECK(filter.excludes("d/a.o", false));
    CHECK(filter.excludes("other.o", false));
    CHECK_FALSE(filter.excludes("a.c", false));
    CHECK(filter.excludes("a.h", false));
    CHECK_FALSE(filter.excludes("a", false));
    CHECK(filter.excludes_on_the_way("x.o/a", false));
    CHECK_FALSE(filter.excludes_on_the_way("x/a", false));
}

TEST_CASE("patterns are read from a file, and wrong ones are told of with their line") {
    const std::string file = test::Scratch::instance().make_directory("patterns") + "/file";
    test::write_file(file, "# comment\n; another\n\n*.o\n+ a.c\n*.c");
    FileFilter filter;
    REQUIRE(filter.add_file(file));
    CHECK(filter.excludes("a.o", false));
    CHECK_FALSE(filter.excludes("a.c", false));
    CHECK(filter.excludes("b.c", false));
    CHECK_FALSE(filter.excludes("# comment", false));

    test::write_file(file, "*.o\n[a\n");
    const Result<> wrong = filter.add_file(file);
    CHECK_THAT(wrong.error().to_string(), ContainsSubstring("line 2: pattern \"[a\": a \"[\" without"));
    CHECK(filter.add_file(file + "-none").status() == Status::no_entry);
    CHECK(filter.add_file(test::Scratch::instance().make_directory("d")).status() == Status::is_directory);
    for (const char* nothing : {"", "/", "- "})
        CHECK(filter.add(nothing, Verdict::exclude).status() == Status::bad_usage);
}

}  // namespace remofile::cli
