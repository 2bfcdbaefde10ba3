// SPDX-License-Identifier: Apache-2.0
//
// The one way from "IN" on a command line to an Array: FILE.h5:/dataset, FILE.npy or FILE.safetensors:name;
// and raw bytes, whose shape and type the caller states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/io/array.hpp"

namespace ng {

// UserError: no such file, no such dataset or name (lists the ones that are there), unknown kind of file.
Array read_tensor(const std::string& spec);

// True for names that read_tensor knows: such a file says its shape and type itself.
bool describes_itself(const std::string& spec);

// A file of nothing but elements, row-major and little-endian. `dtype`: f32, f16, bf16 or another dtype, or else the
// name of a code format, which becomes `format`: one code of `code_bytes` (1 or 2) bytes each. UserError: missing, or
// of another size than the shape needs.
Array read_raw(const std::string& path, const std::vector<std::int64_t>& shape, const std::string& dtype,
               std::size_t code_bytes = 1);

// Bytes of such a file. UserError: missing.
std::int64_t raw_size(const std::string& path);

}  // namespace ng
