// SPDX-License-Identifier: Apache-2.0
//
// Claim: codes move between formats and scales as the oracle's real arithmetic says: every code of every format of at
// most 8 bits shifted into every other; transposes (exact, published; ragged tiles and splits) and recodings (FP8 to
// MXFP4 and back, row-wise and for the transpose) of whole matrices. The exact transpose decodes to its source wherever
// no code leaves the normal range, and rows of zeros change nothing. Alone: build/bin/unit_quantize_conversions
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "narrowgauge/quantize/recode.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "oracle/conversions.hpp"
#include "oracle/formats.hpp"

namespace ng {
namespace {

std::uint32_t draw(std::uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

// Random codes without NaN, rows [40, 44) all zero with a scale that would dominate, scales 2^-span .. 2^span.
UnpackedTensor random_tensor(FormatId id, std::int64_t rows, std::int64_t cols, std::int64_t tile, int span,
                             ScaleFormat scale, std::uint32_t seed) {
  UnpackedTensor x;
  x.element = id;
  x.scale_format = scale;
  x.rows = rows;
  x.cols = cols;
  x.tile_cols = tile;
  const ElementFormat f = format_of(id);
  std::uint32_t state = seed;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) {
      std::uint32_t code = draw(state) % (largest_code(f) + 1);
      if (draw(state) % 2 != 0) code |= sign_mask(f);
      x.codes.push_back(static_cast<std::uint16_t>(r >= 40 && r < 44 ? code & sign_mask(f) : code));
    }
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t t = 0; t < x.scale_cols(); ++t) {
      const int exponent = r >= 40 && r < 44 ? span + 9 : static_cast<int>(draw(state) % (2u * span + 1)) - span;
      if (scale == ScaleFormat::f32)
        x.scale_values.push_back(power_of_two(exponent));
      else
        x.scale_codes.push_back(static_cast<std::uint8_t>(exponent + 127));
    }
  return x;
}

ng_oracle::Pow2Tensor for_oracle(const UnpackedTensor& x) {
  ng_oracle::Pow2Tensor o{name_of(x.element),
                          static_cast<std::size_t>(x.rows),
                          static_cast<std::size_t>(x.cols),
                          static_cast<std::size_t>(x.tile_rows),
                          static_cast<std::size_t>(x.tile_cols),
                          {x.codes.begin(), x.codes.end()},
                          {}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(x.scale_rows() * x.scale_cols()); ++i)
    o.exponents.push_back(scale_exponent(x, i));
  return o;
}

std::vector<int> exponents(const UnpackedTensor& x) {
  return for_oracle(x).exponents;
}
std::vector<std::uint32_t> codes(const UnpackedTensor& x) {
  return {x.codes.begin(), x.codes.end()};
}

TEST(ShiftedCode, EveryCodeOfEveryNarrowFormatIntoEveryOther) {
  std::size_t compared = 0;
  for (const NamedFormat& from : format_catalog()) {
    if (bit_count(from.format) > 8 || from.id == FormatId::e8m0) continue;
    for (const NamedFormat& to : format_catalog()) {
      if (bit_count(to.format) > 8 || to.id == FormatId::e8m0) continue;
      const ng_oracle::Format& source = ng_oracle::format(from.name);
      const ng_oracle::Format& target = ng_oracle::format(to.name);
      for (std::uint32_t code = 0; code < (1u << bit_count(from.format)); ++code) {
        if (std::isnan(source.values[code])) continue;
        for (int shift = -45; shift <= 45; ++shift) {
          const float moved = static_cast<float>(std::ldexp(source.values[code], shift));
          const std::uint32_t expected = *ng_oracle::encode(target, moved);
          ASSERT_EQ(shifted_code(from.format, to.format, CastChoices{}, code, shift), expected)
              << from.name << " " << code << " * 2^" << shift << " as " << to.name;
          ++compared;
        }
        for (const int shift : {-400, 400}) {
          const std::uint32_t far = shifted_code(from.format, to.format, CastChoices{}, code, shift);
          const bool vanishes = shift < 0 || source.values[code] == 0;
          if (std::isinf(source.values[code])) continue;
          EXPECT_EQ(vanishes, decode(to.format, far) == 0.0f) << from.name << " " << code << " " << to.name;
        }
      }
    }
  }
  EXPECT_GT(compared, 1000000u);
}

// sign, exponent and mantissa apart, as in the correction that accompanies the published kernel's defect report
TEST(ShiftedCode, LoweredE4m3IsRoundToNearestEvenInFields) {
  const ElementFormat f = format_of(FormatId::e4m3);
  for (int code = 0; code < 256; ++code) {
    for (int k = 0; k < 20; ++k) {
      const int s = code & 0x80, e = code >> 3 & 15, m = code & 7;
      int expected = s;
      if ((code & 0x7f) == 0x7f) {
        expected = code;
      } else if (e - k >= 1) {
        expected = s | (e - k) << 3 | m;
      } else {
        const int significand = e != 0 ? 8 | m : m, n = k - (std::max(e, 1) - 1);
        if (n <= 5) {
          int q = significand >> n;
          const int rest = significand & ((1 << n) - 1), half = (1 << n) >> 1;
          q += n != 0 && (rest > half || (rest == half && q % 2 == 1)) ? 1 : 0;
          expected = s | q;
        }
      }
      EXPECT_EQ(lowered_code(f, static_cast<std::uint32_t>(code), k), static_cast<std::uint32_t>(expected))
          << code << " >> " << k;
    }
  }
}

TEST(Transpose, EqualsTheOracle) {
  for (const FormatId id : {FormatId::e4m3, FormatId::e5m2, FormatId::e2m1})
    for (const ScaleFormat scale : {ScaleFormat::f32, ScaleFormat::e8m0})
      for (const bool published : {false, true}) {
        if (published && id != FormatId::e4m3) continue;
        const UnpackedTensor x = random_tensor(id, 150, 75, 32, 12, scale, 7);
        for (const std::vector<std::int64_t>& splits :
             {std::vector<std::int64_t>{150}, std::vector<std::int64_t>{33, 0, 64, 53}}) {
          const UnpackedTensor y =
              transpose(x, published ? TransposeMethod::published : TransposeMethod::exact, splits);
          const ng_oracle::Transposed o = ng_oracle::scaling_aware_transpose(
              for_oracle(x), std::vector<std::size_t>(splits.begin(), splits.end()), published);
          EXPECT_EQ(codes(y), o.codes) << name_of(id) << published;
          EXPECT_EQ(static_cast<std::size_t>(y.scale_cols()), o.scale_cols);
          EXPECT_EQ(exponents(y), o.exponents) << name_of(id) << published;
        }
      }
}

TEST(Transpose, ExactKeepsEveryValueInTheNormalRangeWhateverRowsOfZerosSay) {
  // Codes of the four top binades and scales within 2^8: nothing leaves the normal range of E4M3.
  UnpackedTensor x = random_tensor(FormatId::e4m3, 128, 64, 128, 4, ScaleFormat::f32, 11);
  for (std::size_t i = 0; i < x.codes.size(); ++i)
    if ((x.codes[i] & 0x7f) != 0) x.codes[i] = static_cast<std::uint16_t>((x.codes[i] & 0x87) | 0x60 | (i % 4) << 3);
  for (std::uint16_t& code : x.codes)
    if ((code & 0x7f) == 0x7f) code &= 0xfe;
  const UnpackedTensor y = transpose(x, TransposeMethod::exact, {});
  const ElementFormat f = format_of(FormatId::e4m3);
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const float was =
          decode(f, x.codes[static_cast<std::size_t>(r * x.cols + c)]) * x.scale_values[static_cast<std::size_t>(r)];
      const float is =
          decode(f, y.codes[static_cast<std::size_t>(c * y.cols + r)]) * y.scale_values[static_cast<std::size_t>(c)];
      ASSERT_EQ(bits_of(was), bits_of(is)) << r << " " << c;
    }
}

TEST(Recode, Fp8ToMxfp4EqualsTheOracle) {
  const UnpackedTensor x = random_tensor(FormatId::e4m3, 60, 300, 128, 30, ScaleFormat::f32, 3);
  for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::rceil}) {
    QuantizerSpec spec = preset_literals::mx(FormatId::e2m1);
    spec.rule = rule;
    const UnpackedTensor y = recode(x, spec, 1, 32);
    const ng_oracle::Pow2Tensor o =
        ng_oracle::recode(for_oracle(x), "e2m1", 1, 32, rule == ScaleRule::floor ? "floor" : "rceil");
    EXPECT_EQ(codes(y), o.codes);
    EXPECT_EQ(exponents(y), o.exponents);
  }
}

TEST(Recode, Mxfp4ToFp8EqualsTheOracleAndLosesNothingWithinTwoToThe14) {
  for (const int span : {7, 20}) {
    const UnpackedTensor x = random_tensor(FormatId::e2m1, 70, 300, 32, span, ScaleFormat::e8m0, 5);
    QuantizerSpec spec = preset_literals::f32_scaled(FormatId::e4m3, 1, 128);
    spec.rule = ScaleRule::absmax_pow2;
    for (const auto& [tile_rows, tile_cols] : {std::pair<int, int>{1, 128}, {64, 1}, {64, 64}}) {
      const UnpackedTensor y = recode(x, spec, tile_rows, tile_cols);
      const ng_oracle::Pow2Tensor o = ng_oracle::recode(for_oracle(x), "e4m3", static_cast<std::size_t>(tile_rows),
                                                        static_cast<std::size_t>(tile_cols), "");
      EXPECT_EQ(codes(y), o.codes) << tile_rows;
      EXPECT_EQ(exponents(y), o.exponents) << tile_rows;
      if (span != 7) continue;
      std::size_t lost = 0;
      for (std::int64_t r = 0; r < x.rows; ++r) {
        if (r / tile_rows == 40 / tile_rows) continue;  // the rows of zeros whose scales lie farther apart
        for (std::int64_t c = 0; c < x.cols; ++c) {
          const std::size_t i = static_cast<std::size_t>(r * x.cols + c);
          const double was = std::ldexp(decode(format_of(FormatId::e2m1), x.codes[i]),
                                        scale_exponent(x, static_cast<std::size_t>(r * x.scale_cols() + c / 32)));
          const double is =
              std::ldexp(decode(spec.element, y.codes[i]),
                         scale_exponent(y, static_cast<std::size_t>(r / tile_rows * y.scale_cols() + c / tile_cols)));
          lost += was != is ? 1 : 0;
        }
      }
      EXPECT_EQ(lost, 0u) << tile_rows;
    }
  }
}

TEST(Recode, NanStaysNan) {
  UnpackedTensor x = random_tensor(FormatId::e2m1, 2, 128, 32, 3, ScaleFormat::e8m0, 9);
  x.scale_codes[1] = 0xff;
  QuantizerSpec spec = preset_literals::f32_scaled(FormatId::e4m3, 1, 128);
  const UnpackedTensor y = recode(x, spec, 1, 128);
  for (std::size_t c = 0; c < 128; ++c) EXPECT_EQ(y.codes[c] == 0x7f, c >= 32 && c < 64);
  UnpackedTensor z = random_tensor(FormatId::e4m3, 1, 128, 128, 3, ScaleFormat::f32, 9);
  z.codes[40] = 0xff;
  const UnpackedTensor w = recode(z, preset_literals::mx(FormatId::e2m1), 1, 32);
  EXPECT_EQ(w.scale_codes[1], 0xff);
  EXPECT_NE(w.scale_codes[0], 0xff);
  for (std::size_t c = 32; c < 64; ++c) EXPECT_EQ(w.codes[c], 0);
}

}  // namespace
}  // namespace ng
