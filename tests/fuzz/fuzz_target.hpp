// SPDX-License-Identifier: MIT
// What each fuzzer defines. libFuzzer calls the first; smoke_main.cpp, an ordinary test, calls all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Must survive any bytes; returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Inputs from which to start.
std::vector<std::string> fuzz_seeds();

// What is not found by changing single bytes: libFuzzer's dictionary.
std::vector<std::string> fuzz_words();
