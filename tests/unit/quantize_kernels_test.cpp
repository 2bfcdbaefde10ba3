// SPDX-License-Identifier: Apache-2.0
//
// Claim: the row kernels of the CPU backend, for both instruction sets, equal the scalar forms byte for byte: codes
// (encode(), random_draw(), every layout of tiles, ragged ends, codes packed or not), amax, scales, random bits, and
// Hadamard transforms. Codes on a sample of all FP32 values; tests/exhaustive has them all.
// Alone: ctest -R unit_quantize_kernels
#include "unit/quantize_kernels.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace {

using namespace ng;
using ng_test::kPackedFormats;
using ng_test::kPackedRoundings;

const cpu::CpuKernels* const kTables[] = {&cpu::cpu_kernels(false), &cpu::cpu_kernels(true)};

/// Values of all magnitudes, zeros and subnormals included, without NaN and infinities.
std::vector<float> many_values(std::size_t count, std::uint32_t seed) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    const PhiloxBlock block = random_block({seed, RandomPurpose::test_vectors, 9, 0}, i);
    const std::uint32_t exponent = block.word[1] % 16 == 0 ? block.word[2] % 255 : 120 + block.word[2] % 12;
    x[i] = block.word[3] % 32 == 0 ? 0.0f : float_of((block.word[0] & 0x807fffffu) | exponent << 23);
    if (block.word[3] % 64 == 0) x[i] = -x[i];
  }
  return x;
}

TEST(QuantizeKernels, CodesOfASampleOfAllValues) {
  for (const cpu::CpuKernels* kernels : kTables)
    for (const FormatId id : kPackedFormats)
      for (const ng_test::PackedRounding& rounding : kPackedRoundings)
        for (const ZeroSign zero_sign : {ZeroSign::keep, ZeroSign::exact_positive})
          EXPECT_EQ(ng_test::row_differences(*kernels, id, rounding, zero_sign, 40961), 0u)
              << kernels->isa << " " << name_of(id) << " " << rounding.name;
}

TEST(QuantizeKernels, CodesOnBothSidesOfEveryThreshold) {
  // Every multiple of 2^-5 of the smallest step up to above the largest value, its neighbours, and both signs.
  for (const FormatId id : kPackedFormats) {
    const ElementFormat f = format_of(id);
    std::vector<float> x;
    for (std::uint32_t code = 0; code < largest_code(f) + 2; ++code) {
      for (std::uint32_t part = 0; part < 32; ++part) {
        const std::uint32_t mantissa = code & ((1u << f.mantissa_bits) - 1u);
        const int field = static_cast<int>(code >> f.mantissa_bits);
        const float whole = static_cast<float>((field > 0 ? 1u << f.mantissa_bits : 0u) + mantissa);
        const float value = (whole + static_cast<float>(part) / 32.0f) *
                            power_of_two((field > 0 ? field : 1) - f.bias - f.mantissa_bits);
        for (const std::uint32_t bits : {bits_of(value) - (value > 0 ? 1u : 0u), bits_of(value), bits_of(value) + 1u})
          for (const std::uint32_t sign : {0u, kSignBit}) x.push_back(float_of(bits | sign));
      }
    }
    const std::int64_t count = static_cast<std::int64_t>(x.size());
    const float one = 1.0f;
    const std::uint8_t sound = 0;
    std::vector<std::uint8_t> codes(x.size()), draws(x.size() * 4);
    for (const cpu::CpuKernels* kernels : kTables) {
      for (const ng_test::PackedRounding& rounding : kPackedRoundings) {
        QuantizerSpec spec = bare_cast(id);
        spec.cast.rounding = rounding.rounding;
        spec.cast.random_bits = rounding.random_bits;
        const auto draw = [&](std::size_t i) {
          return ng_test::test_draw(static_cast<std::uint32_t>(i), rounding.random_bits);
        };
        for (std::size_t i = 0; i < x.size(); ++i) ng_test::store_draw(draws, i, rounding.random_bits, draw(i));
        kernels->encode_row(
            spec, special_codes(spec.element, spec.cast),
            cpu::EncodeRow{x.data(), count, count, &one, &sound, false, draws.data(), codes.data(), nullptr});
        for (std::size_t i = 0; i < x.size(); ++i)
          ASSERT_EQ(codes[i], encode(f, spec.cast, x[i], draw(i)))
              << kernels->isa << " " << name_of(id) << " " << rounding.name << " " << x[i];
      }
    }
  }
}

TEST(QuantizeKernels, CodesUnderEveryLayoutOfTiles) {
  for (const cpu::CpuKernels* kernels : kTables) {
    for (const FormatId id : {FormatId::e2m1, FormatId::e4m3}) {
      for (const ng_test::PackedRounding& rounding : kPackedRoundings) {
        for (const std::int64_t tile : {1, 2, 7, 16, 24, 32, 48, 128, 1000}) {
          for (const std::int64_t count : {1, 15, 16, 31, 32, 33, 63, 64, 80, 97, 128, 161, 1000}) {
            const std::size_t n = static_cast<std::size_t>(count);
            QuantizerSpec spec = bare_cast(id);
            spec.cast.rounding = rounding.rounding;
            spec.cast.random_bits = rounding.random_bits;
            spec.scale_format = ScaleFormat::f32;
            const std::vector<float> x = many_values(n, static_cast<std::uint32_t>(tile));
            std::vector<float> factors(n);
            for (std::size_t j = 0; j < n; ++j) factors[j] = 0.125f * static_cast<float>(1 + j % 29);
            const std::vector<std::uint8_t> poisoned(n, 0);
            std::vector<std::uint8_t> draws(4 * n), codes(n + 1, 0xee), nibbles((n + 1) / 2 + 1, 0xee);
            for (std::size_t i = 0; i < n; ++i)
              ng_test::store_draw(draws, i, rounding.random_bits,
                                  ng_test::test_draw(static_cast<std::uint32_t>(i), rounding.random_bits));
            const SpecialCodes special = special_codes(spec.element, spec.cast);
            cpu::EncodeRow row{x.data(), count,        tile,         factors.data(), poisoned.data(),
                               false,    draws.data(), codes.data(), nullptr};
            kernels->encode_row(spec, special, row);
            const auto wanted = [&](std::size_t i) {
              const float value = scaled_by_factor(x[i], factors[i / static_cast<std::size_t>(tile)]);
              return encode(spec.element, spec.cast, value,
                            ng_test::test_draw(static_cast<std::uint32_t>(i), rounding.random_bits));
            };
            for (std::size_t i = 0; i < n; ++i)
              ASSERT_EQ(codes[i], wanted(i)) << kernels->isa << " " << rounding.name << " tile " << tile << " count "
                                             << count << " element " << i << " x " << x[i];
            ASSERT_EQ(codes[n], 0xee);
            if (id != FormatId::e2m1) continue;
            row.nibbles = nibbles.data();
            kernels->encode_row(spec, special, row);
            for (std::size_t i = 0; i < n; ++i)
              ASSERT_EQ(load_code(nibbles.data(), CodeStorage::nibble, i), wanted(i))
                  << kernels->isa << " " << rounding.name << " tile " << tile << " count " << count << " element " << i;
            if (n % 2 == 1) {
              ASSERT_EQ(nibbles[n / 2] >> 4, 0);
            }
            ASSERT_EQ(nibbles[(n + 1) / 2], 0xee);
          }
        }
      }
    }
  }
}

TEST(QuantizeKernels, RandomBits) {
  const RandomStream stream{77, RandomPurpose::stochastic_rounding, 0x89abcdefu, 5};
  for (const cpu::CpuKernels* kernels : kTables) {
    for (const int bits : {8, 16, 32}) {
      for (const std::uint64_t first : {0ull, 1ull, 3ull, 15ull, 16ull, 63ull, 0xfffffff0ull * 16, 0x123456789abull}) {
        for (const std::size_t count : {1u, 4u, 16u, 63u, 64u, 65u, 300u}) {
          const std::size_t width = static_cast<std::size_t>(bits) / 8;
          std::vector<std::uint8_t> draws(count * width + 1, 0xee);
          kernels->fill_draws(stream, first, static_cast<std::int64_t>(count), bits, draws.data());
          for (std::size_t i = 0; i < count; ++i) {
            std::uint32_t found = 0;
            std::memcpy(&found, draws.data() + i * width, width);
            ASSERT_EQ(found, random_draw(stream, first + i, bits)) << kernels->isa << " " << bits << " " << first + i;
          }
          ASSERT_EQ(draws[count * width], 0xee);
        }
      }
    }
  }
}

TEST(QuantizeKernels, LargestMagnitudesOfTiles) {
  const std::vector<float> values = many_values(1000, 3);
  for (const cpu::CpuKernels* kernels : kTables) {
    for (const std::int64_t tile : {1, 7, 8, 16, 32, 100, 128, 1000}) {
      for (const std::int64_t count : {1, 16, 100, 128, 129, 512, 1000}) {
        std::vector<float> x(values.begin(), values.begin() + count);
        for (const std::uint32_t special : {0u, kInfinityBits | kSignBit, 0xffc00001u}) {
          if (special != 0) x[static_cast<std::size_t>(count / 2)] = float_of(special);
          const std::size_t tiles = static_cast<std::size_t>((count + tile - 1) / tile);
          for (const bool merge : {false, true}) {
            std::vector<std::uint32_t> amax(tiles);  // before: every other tile has had a larger one
            for (std::size_t j = 0; j < tiles; ++j) amax[j] = j % 2 == 0 ? 0x3f000000u : 0x7f000000u;
            std::vector<std::uint32_t> wanted = merge ? amax : std::vector<std::uint32_t>(tiles);
            for (std::int64_t i = 0; i < count; ++i) {
              std::uint32_t& largest = wanted[static_cast<std::size_t>(i / tile)];
              largest = std::max(largest, magnitude_bits(x[static_cast<std::size_t>(i)]));
            }
            kernels->amax_tiles(x.data(), count, tile, merge, amax.data());
            ASSERT_EQ(amax, wanted) << kernels->isa << " tile " << tile << " count " << count << " merge " << merge;
          }
        }
      }
    }
  }
}

TEST(QuantizeKernels, ScalesAndWhetherElementsMayBeNan) {
  for (const cpu::CpuKernels* kernels : kTables) {
    for (const NamedQuantizer& preset : quantizer_presets()) {
      for (const std::uint32_t special : {0u, kInfinityBits, kQuietNanBits}) {
        const std::vector<float> x = many_values(37, 11);
        std::vector<std::uint32_t> amax;
        for (const float value : x) amax.push_back(magnitude_bits(value));
        if (special != 0) amax[29] = special;
        const TensorScale tensor = tensor_scale(preset.spec, bits_of(50.0f));
        std::vector<float> encode(amax.size());
        std::vector<std::uint32_t> code(amax.size());
        std::vector<std::uint8_t> poisoned(amax.size(), 2);
        const bool plain = kernels->tile_scales(preset.spec, tensor, amax.data(), 37,
                                                cpu::TileScaleArrays{encode.data(), code.data(), poisoned.data()});
        EXPECT_EQ(plain, special == 0) << kernels->isa << " " << preset.name;
        for (std::size_t i = 0; i < amax.size(); ++i) {
          const TileScale wanted = tile_scale(preset.spec, amax[i], tensor);
          ASSERT_EQ(code[i], wanted.code) << kernels->isa << " " << preset.name << " amax " << std::hex << amax[i];
          ASSERT_EQ(bits_of(encode[i]), bits_of(wanted.encode));
          ASSERT_EQ(poisoned[i], wanted.poisoned ? 1 : 0);
        }
      }
    }
  }
}

TEST(QuantizeKernels, HadamardOfRows) {
  for (const cpu::CpuKernels* kernels : kTables) {
    for (const int size : {2, 4, 8, 16, 32, 64, 128}) {
      for (const HadamardOrder order : {HadamardOrder::butterfly, HadamardOrder::serial}) {
        for (const HadamardResult result : {HadamardResult::bf16, HadamardResult::f32}) {
          for (const HadamardSigns signs : {HadamardSigns::none, HadamardSigns::seeded}) {
            const HadamardSpec spec{static_cast<std::int16_t>(size), signs, order, result};
            const HadamardSignMask mask = hadamard_sign_mask(spec, 4);
            std::vector<float> x = many_values(1024, 5);
            x[200] = float_of(kInfinityBits);  // infinities meet and make NaN
            x[201] = float_of(kInfinityBits | kSignBit);
            x[500] = float_of(0xffc12345u);
            std::vector<float> wanted = x;
            for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(size))
              hadamard_transform(spec, mask, wanted.data() + i);
            kernels->hadamard_row(spec, mask, x.data(), static_cast<std::int64_t>(x.size()));
            for (std::size_t i = 0; i < x.size(); ++i)
              ASSERT_EQ(bits_of(x[i]), bits_of(wanted[i])) << kernels->isa << " size " << size << " element " << i;
          }
        }
      }
    }
  }
}

}  // namespace
