// SPDX-License-Identifier: Apache-2.0
//
// How codes lie in memory: two 4-bit codes per byte, the even element in the low nibble; one byte for 5 to 8 bits;
// two bytes (little endian) above. Rows start at a byte of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/element_format.hpp"
#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

enum class CodeStorage : std::uint8_t { nibble, byte, half };

NG_HD constexpr CodeStorage storage_of(const ElementFormat& f) {
  return bit_count(f) <= 4 ? CodeStorage::nibble : bit_count(f) <= 8 ? CodeStorage::byte : CodeStorage::half;
}

/// Bytes of a row of `count` codes.
NG_HD constexpr std::size_t packed_row_bytes(CodeStorage storage, std::size_t count) {
  return storage == CodeStorage::nibble ? (count + 1) / 2 : storage == CodeStorage::byte ? count : 2 * count;
}

NG_HD std::uint32_t load_code(const std::uint8_t* row, CodeStorage storage, std::size_t index) {
  if (storage == CodeStorage::nibble) return (row[index / 2] >> (4 * (index & 1))) & 0xfu;
  if (storage == CodeStorage::byte) return row[index];
  return static_cast<std::uint32_t>(row[2 * index]) | static_cast<std::uint32_t>(row[2 * index + 1]) << 8;
}

/// Writes one code. Nibbles of one byte must be written by one thread.
NG_HD void store_code(std::uint8_t* row, CodeStorage storage, std::size_t index, std::uint32_t code) {
  if (storage == CodeStorage::nibble) {
    const unsigned shift = 4 * (index & 1);
    row[index / 2] = static_cast<std::uint8_t>((row[index / 2] & ~(0xfu << shift)) | code << shift);
  } else if (storage == CodeStorage::byte) {
    row[index] = static_cast<std::uint8_t>(code);
  } else {
    row[2 * index] = static_cast<std::uint8_t>(code);
    row[2 * index + 1] = static_cast<std::uint8_t>(code >> 8);
  }
}

}  // namespace ng
