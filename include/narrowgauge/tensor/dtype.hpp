// SPDX-License-Identifier: Apache-2.0
//
// How one element lies in memory. Only plain storage types: a narrow number format (E4M3, E2M1, ...)
// is stored as integer codes and described by a QuantizerSpec, never by a Dtype.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ng {

enum class Dtype : std::uint8_t { f32, bf16, f16, f64, u8, u16, u32, i8, i16, i32, i64, u64 };

constexpr std::size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::u8:
    case Dtype::i8:
      return 1;
    case Dtype::bf16:
    case Dtype::f16:
    case Dtype::u16:
    case Dtype::i16:
      return 2;
    case Dtype::f32:
    case Dtype::u32:
    case Dtype::i32:
      return 4;
    case Dtype::f64:
    case Dtype::i64:
    case Dtype::u64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "f32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::f16:
      return "f16";
    case Dtype::f64:
      return "f64";
    case Dtype::u8:
      return "u8";
    case Dtype::u16:
      return "u16";
    case Dtype::u32:
      return "u32";
    case Dtype::i8:
      return "i8";
    case Dtype::i16:
      return "i16";
    case Dtype::i32:
      return "i32";
    case Dtype::i64:
      return "i64";
    case Dtype::u64:
      return "u64";
  }
  return "?";
}

}  // namespace ng
