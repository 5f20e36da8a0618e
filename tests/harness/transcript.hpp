// SPDX-License-Identifier: MIT
// What a sequence of system calls gave, written down so that two runs can be compared line by line.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

namespace remofile::test {

class Transcript {
public:
    // Lines go to standard output, which the harness keeps, at once: after a hang one sees how far it came.
    void note(std::string_view what, std::string_view result);

    // The result of a call that gives a number, or -1 and errno.
    long called(std::string_view what, long result);
    // The same where the number itself says nothing: a descriptor.
    int opened(std::string_view what, int fd);
    // Something that must hold in each run by itself.
    void expect(std::string_view what, bool holds);

    // Type, permissions, links, owner and size as lstat(2) gives them, or the error.
    void attributes(const char* path);
    void attributes(std::string_view what, int fd);
    // The file's bytes, abbreviated to a digest when there are many.
    void contents(const char* path);
    // Names in a directory, sorted.
    void names(const char* path);

    static constexpr std::string_view failure = "UNEXPECTED";
};

// Symbolic name, such as "ENOENT"; "0" for none.
std::string errno_name(int number);
std::string describe(const struct stat& attributes);
// The bytes themselves if they are few and printable, else their number and a digest.
std::string abbreviated(std::string_view bytes);
// The whole file; throws std::runtime_error with the error's name.
std::string read_file(const std::string& path);
// Makes or overwrites the file; throws likewise.
void write_file(const std::string& path, std::string_view bytes);
// `size` bytes that look random and depend on `seed` only.
std::string random_bytes(std::size_t size, unsigned seed);

// Everything below a directory, a line an entry: name, type, permissions, links, size, content or target, and extended
// attributes of the user. `content_matters` says of a relative path whether its size and content count.
std::string describe_tree(
    const std::string& directory,
    const std::function<bool(std::string_view path)>& content_matters = [](std::string_view) { return true; });

// Empty if the texts are equal; else the first differing lines with what came before them.
std::string first_difference(const std::string& expected, const std::string& actual);

}  // namespace remofile::test

// The call's text as its name.
#define CALLED(expression) here.called(#expression, (errno = 0, static_cast<long>(expression)))
#define OPENED(expression) here.opened(#expression, (errno = 0, expression))
#define EXPECTED(expression) here.expect(#expression, expression)
