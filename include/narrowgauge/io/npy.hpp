// SPDX-License-Identifier: Apache-2.0
//
// NumPy's .npy files, versions 1 to 3, little endian, C and Fortran order. Structured, object and big-endian
// arrays are refused with a message; a header is believed only as far as the file's size bears it out.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "narrowgauge/io/array.hpp"

namespace ng {

enum class NpyOrder { c, fortran };

struct NpyHeader {
  Dtype dtype = Dtype::f32;
  NpyOrder order = NpyOrder::c;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;  // bytes from the file's begin
};

// Parses the head of a file of `file_bytes` bytes of which `head` holds the first ones. UserError names `path`.
NpyHeader parse_npy_header(std::span<const std::byte> head, std::uint64_t file_bytes, const std::string& path);

// Whole file as a row-major Array, whatever its order on disk. UserError: missing, truncated, not npy, type.
Array read_npy(const std::string& path);

// Writes version 1 (or 2 if the header needs it), atomically under `path`. bf16 has no npy type: UserError.
void write_npy(const std::string& path, const Array& array, NpyOrder order = NpyOrder::c);

}  // namespace ng
