// SPDX-License-Identifier: MIT
// Runs a fuzzer's body without libFuzzer: over the files of a corpus, its seeds and random changes of both.
//
//     fuzz_NAME_smoke [--seed SEED] [--rounds N] [FILE|DIRECTORY...]   as a test
//     fuzz_NAME_smoke --write DIRECTORY          writes the seeds as files, for libFuzzer to start from
//     fuzz_NAME_smoke --dictionary FILE          writes the words as libFuzzer's dictionary
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>

#include "fuzz_target.hpp"

namespace {

constexpr std::size_t max_input_bytes = 4096;

void feed(const std::string& input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

// What is inserted: a part of another input, or a word.
std::string something_else(std::mt19937& random, const std::vector<std::string>& inputs,
                           const std::vector<std::string>& words) {
    if (!words.empty() && random() % 2 == 0)
        return words[random() % words.size()];
    const std::string& other = inputs[random() % inputs.size()];
    return other.substr(other.empty() ? 0 : random() % other.size());
}

void change(std::string& input, std::mt19937& random, const std::vector<std::string>& inputs,
            const std::vector<std::string>& words) {
    const std::size_t place = input.empty() ? 0 : random() % input.size();
    switch (random() % 6) {
        case 0:
            if (!input.empty())
                input[place] = static_cast<char>(random());
            break;
        case 1:
            if (!input.empty())
                input[place] = static_cast<char>(static_cast<unsigned char>(input[place]) ^ (1U << random() % 8));
            break;
        case 2:
            input.insert(place, 1 + random() % 8, static_cast<char>(random()));
            break;
        case 3:
            input.erase(place, 1 + random() % 8);
            break;
        case 4:
            input.resize(place);
            break;
        default:
            input.insert(place, something_else(random, inputs, words));
    }
    input.resize(std::min(input.size(), max_input_bytes));
}

int write_seeds(const std::string& directory) {
    const auto seeds = fuzz_seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i)
        std::ofstream(directory + "/seed-" + std::to_string(i), std::ios::binary) << seeds[i];
    return 0;
}

int write_dictionary(const std::string& file) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::ofstream out(file);
    for (const std::string& word : fuzz_words()) {
        out << '"';
        for (const char c : word)
            out << "\\x" << digits[static_cast<unsigned char>(c) >> 4] << digits[static_cast<unsigned char>(c) & 15];
        out << "\"\n";
    }
    return out.flush() ? 0 : 1;
}

void read_inputs(const std::filesystem::path& place, std::vector<std::string>& inputs) {
    std::vector<std::filesystem::path> files{place};
    if (std::filesystem::is_directory(place)) {
        files.assign(std::filesystem::directory_iterator(place), {});
        std::ranges::sort(files);
    }
    for (const auto& file : files) {
        std::ifstream in(file, std::ios::binary);
        inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
}

}  // namespace

int main(int argc, char** argv) {
    auto seed = static_cast<unsigned>(std::random_device{}());
    unsigned long rounds = 5000;
    std::vector<std::string> inputs;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool has_next = i + 1 < argc;
        if (argument == "--write" && has_next)
            return write_seeds(argv[i + 1]);
        if (argument == "--dictionary" && has_next)
            return write_dictionary(argv[i + 1]);
        if (argument == "--seed" && has_next)
            seed = static_cast<unsigned>(std::stoul(argv[++i]));
        else if (argument == "--rounds" && has_next)
            rounds = std::stoul(argv[++i]);
        else
            read_inputs(argument, inputs);
    }
    std::cout << inputs.size() << " files; seed " << seed << std::endl;
    std::mt19937 random(seed);
    const auto words = fuzz_words();
    std::ranges::copy(fuzz_seeds(), std::back_inserter(inputs));
    for (const std::string& input : inputs)
        feed(input);
    for (unsigned long round = 0; round < rounds; ++round) {
        std::string input = inputs[random() % inputs.size()];
        for (std::size_t changes = 1 + random() % 6; changes > 0; --changes)
            change(input, random, inputs, words);
        feed(input);
    }
    return 0;
}
