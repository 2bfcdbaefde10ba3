// SPDX-License-Identifier: Apache-2.0
//
// The row kernels of the CPU backend against encode() on a run of FP32 bit patterns: what the sampled unit test and the
// exhaustive one share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

#include "kernels/kernels.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/quantize/encode_span.hpp"

namespace ng_test {

/// Formats that have packed forms.
constexpr ng::FormatId kPackedFormats[] = {ng::FormatId::e2m1, ng::FormatId::e4m3, ng::FormatId::e5m2,
                                           ng::FormatId::e2m3, ng::FormatId::e3m2};

/// Roundings that have packed forms, with their random bits.
struct PackedRounding {
  const char* name;
  ng::Rounding rounding;
  std::uint8_t random_bits;
};
constexpr PackedRounding kPackedRoundings[] = {{"nearest_even", ng::Rounding::nearest_even, 0},
                                               {"toward_zero", ng::Rounding::toward_zero, 0},
                                               {"stochastic_8", ng::Rounding::stochastic, 8},
                                               {"stochastic_16", ng::Rounding::stochastic, 16},
                                               {"stochastic_32", ng::Rounding::stochastic, 32}};

/// A draw for an input, fixed by it: spread over all values, and once in four a value next to the largest or 0.
inline std::uint32_t test_draw(std::uint32_t input, int bits) {
  std::uint64_t z = (input + 0x9E3779B97F4A7C15ull) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  const std::uint32_t wide =
      (z >> 40 & 3) == 0 ? 0u - (static_cast<std::uint32_t>(z) & 3u) : static_cast<std::uint32_t>(z);
  return bits == 32 ? wide : wide & ((1u << bits) - 1u);
}

/// Draws as the kernels read them: bits / 8 bytes each.
inline void store_draw(std::vector<std::uint8_t>& draws, std::size_t i, int bits, std::uint32_t draw) {
  for (std::size_t byte = 0; byte < static_cast<std::size_t>(bits) / 8; ++byte)
    draws[i * static_cast<std::size_t>(bits) / 8 + byte] = static_cast<std::uint8_t>(draw >> 8 * byte);
}

/// Inputs first, first + step, ... below 2^32 as FP32 bits, through encode_row with factor 1 and through encode().
/// Returns the number of differences, and prints the first few.
inline std::uint64_t row_differences(const ng::cpu::CpuKernels& kernels, ng::FormatId id,
                                     const PackedRounding& rounding, ng::ZeroSign zero_sign, std::uint64_t step) {
  constexpr std::size_t kCount = 4096;
  ng::QuantizerSpec spec = ng::bare_cast(id);
  spec.cast.rounding = rounding.rounding;
  spec.cast.random_bits = rounding.random_bits;
  spec.cast.zero_sign = zero_sign;
  const ng::SpecialCodes special = ng::special_codes(spec.element, spec.cast);
  const bool four_bits = ng::storage_of(spec.element) == ng::CodeStorage::nibble;
  const float one = 1.0f;
  const std::uint8_t sound = 0;
  std::vector<float> x(kCount);
  std::vector<std::uint8_t> draws(kCount * 4), codes(kCount), nibbles(kCount / 2);
  std::uint64_t differences = 0;
  for (std::uint64_t input = 0; input < 1ull << 32;) {
    std::size_t count = 0;
    bool has_nan = false;
    for (; count < kCount && input < 1ull << 32; ++count, input += step) {
      x[count] = ng::float_of(static_cast<std::uint32_t>(input));
      has_nan = has_nan || ng::is_nan_bits(static_cast<std::uint32_t>(input));
      store_draw(draws, count, rounding.random_bits,
                 test_draw(static_cast<std::uint32_t>(input), rounding.random_bits));
    }
    const std::int64_t n = static_cast<std::int64_t>(count);
    for (const bool packed : {false, true}) {
      if (packed && !four_bits) continue;
      kernels.encode_row(spec, special,
                         ng::cpu::EncodeRow{x.data(), n, n, &one, &sound, has_nan, draws.data(), codes.data(),
                                            packed ? nibbles.data() : nullptr});
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t bits = ng::bits_of(x[i]);
        const std::uint32_t wanted = ng::encode(spec.element, spec.cast, x[i], test_draw(bits, rounding.random_bits));
        const std::uint32_t found = packed ? ng::load_code(nibbles.data(), ng::CodeStorage::nibble, i) : codes[i];
        if (found == wanted) continue;
        if (++differences <= 5)
          std::printf("%s %s %s: input %08x draw %x: code %x, not %x\n", kernels.isa, ng::name_of(id), rounding.name,
                      bits, test_draw(bits, rounding.random_bits), found, wanted);
      }
    }
  }
  return differences;
}

}  // namespace ng_test
