// SPDX-License-Identifier: Apache-2.0
//
// safetensors files: list, read one tensor by name, write. Header at most 100 MB and inside the file, every
// offset checked before anything is allocated. F8_E4M3 and F8_E5M2 come as u8 with `format` e4m3 / e5m2.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "narrowgauge/io/array.hpp"

namespace ng {

struct SafetensorsEntry {
  std::string name;
  std::string type;  // as in the file: "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // bytes from the file's begin
  std::uint64_t end = 0;
};

struct SafetensorsIndex {
  std::vector<SafetensorsEntry> entries;  // in file order (by offset)
  std::map<std::string, std::string> metadata;
};

// UserError: missing, truncated, malformed, overlapping tensors.
SafetensorsIndex list_safetensors(const std::string& path);

// UserError when there is no such name (lists the names) or its type has no Dtype (BOOL).
Array read_safetensors(const std::string& path, const std::string& name);

// Tensors in the given order, header padded to 8 bytes, atomically under `path`. The same input gives the
// same bytes. Writes format e4m3 / e5m2 of u8 arrays as F8_E4M3 / F8_E5M2.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Array>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace ng
