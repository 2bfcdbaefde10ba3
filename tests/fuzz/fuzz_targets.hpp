// SPDX-License-Identifier: Apache-2.0
//
// What is fuzzed: each target takes any bytes for a file or a text of one kind. It returns when they were accepted and
// keep the promises of that reader, or refused with UserError. Anything else (another exception, a broken promise)
// ends the process: libFuzzer calls that a crash, the replay a failed test.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace ng::fuzz {

using Bytes = std::span<const std::uint8_t>;

void npy(Bytes input);          // read_npy, and write_npy of what was read
void safetensors(Bytes input);  // list_safetensors, read_safetensors of every name
void toml(Bytes input);         // every file of ours that people write: recipe, model, training, recording plan
void quantizer(Bytes input);    // quantizer text, to text and to JSON and back
void json(Bytes input);         // canonical JSON and back
void tokens(Bytes input);       // llm.c, npy and Megatron shards, corpus manifests
void hdf5(Bytes input);         // the superblock that we read ourselves; datasets of every type, shape and attribute
void dump(Bytes input);         // kernel dumps, judged and explained
void plain(Bytes input);        // the same from raw files with layouts

struct Target {
  std::string_view name;
  void (*run)(Bytes);
};
inline constexpr Target kTargets[] = {
    {"npy", npy},     {"safetensors", safetensors}, {"toml", toml}, {"quantizer", quantizer},
    {"json", json},   {"tokens", tokens},           {"hdf5", hdf5}, {"dump", dump},
    {"plain", plain},
};

}  // namespace ng::fuzz
