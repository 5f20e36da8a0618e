// SPDX-License-Identifier: MIT
// Runs a fuzzer's body without libFuzzer: over its seeds and random changes of them.
//
//     fuzz_NAME_smoke [SEED]              as a test
//     fuzz_NAME_smoke --write DIRECTORY   writes the seeds as files, for libFuzzer to start from
#include <algorithm>
#include <fstream>
#include <iostream>
#include <random>
#include <string>

#include "fuzz_target.hpp"

namespace {

constexpr int rounds = 5000;
constexpr std::size_t max_input_bytes = 4096;

void feed(const std::string& input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

void change(std::string& input, std::mt19937& random, const std::vector<std::string>& seeds) {
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
        default: {
            const std::string& other = seeds[random() % seeds.size()];
            input.insert(place, other.substr(other.empty() ? 0 : random() % other.size()));
        }
    }
    input.resize(std::min(input.size(), max_input_bytes));
}

int write_seeds(const std::string& directory) {
    const auto seeds = fuzz_seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i)
        std::ofstream(directory + "/seed-" + std::to_string(i), std::ios::binary) << seeds[i];
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--write")
        return write_seeds(argv[2]);
    const unsigned seed =
        argc == 2 ? static_cast<unsigned>(std::stoul(argv[1])) : static_cast<unsigned>(std::random_device{}());
    std::cout << "seed " << seed << std::endl;
    std::mt19937 random(seed);
    const auto seeds = fuzz_seeds();
    for (const std::string& input : seeds)
        feed(input);
    for (int round = 0; round < rounds; ++round) {
        std::string input = seeds[random() % seeds.size()];
        for (std::size_t changes = 1 + random() % 6; changes > 0; --changes)
            change(input, random, seeds);
        feed(input);
    }
    return 0;
}
