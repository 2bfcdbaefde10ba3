// SPDX-License-Identifier: Apache-2.0
//
// Claim: published defects of kernels are reproduced by hand (the oracle's formats and plain FP32 arithmetic), found
// different and named: double rounding through FP16 and BF16, saturation at 256, flushed subnormals, reciprocal chains
// at midpoints, swapped nibbles and random bytes, a wrong amax; the FP8-Flow transpose from its golden file; Hadamard
// choices; conversions. Alone: build/bin/validate_defects
#include <gtest/gtest.h>

#include <bit>

#include "mutants.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/quantize/recode.hpp"
#include "narrowgauge/validate/conversions.hpp"
#include "oracle/formats.hpp"

namespace ng::validate::test {
namespace {

std::uint32_t oracle_code(const char* format, float x, std::uint32_t random = 0, int bits = 0) {
  ng_oracle::EncodeChoices choices;
  choices.nan = ng_oracle::NanRule::largest;
  if (bits != 0) {
    choices.rounding = ng_oracle::Rounding::stochastic;
    choices.stochastic_bits = bits;
    choices.random = random;
  }
  return *ng_oracle::encode(ng_oracle::format(format), x, choices);
}
float through(const char* format, float x) {
  const ng_oracle::Format& f = ng_oracle::format(format);
  ng_oracle::EncodeChoices choices;
  choices.overflow = ng_oracle::Overflow::nonfinite;
  return std::bit_cast<float>(ng_oracle::decode_f32_bits(f, *ng_oracle::encode(f, x, choices)));
}

/// A kernel that casts element by element; `code(i, x)` is its idea of a code.
template <class Code>
Verdict cast_by(const std::string& spec, const std::vector<float>& x, const Code& code) {
  Case c = quantize_case(spec, x, kRows, static_cast<std::int64_t>(x.size()) / kRows);
  std::vector<std::uint8_t> codes;
  for (std::size_t i = 0; i < x.size(); ++i) codes.push_back(static_cast<std::uint8_t>(code(i, x[i])));
  c.codes = Array::from<std::uint8_t>({c.rows, c.cols}, codes);
  return verify(c, explaining());
}

// Dense around the midpoints of E4M3: where a first rounding can meet a tie.
std::vector<float> near_midpoints() {
  std::vector<float> x;
  std::mt19937 random(4);
  const ng_oracle::Format& f = ng_oracle::format("e4m3");
  while (x.size() < static_cast<std::size_t>(kRows * kCols)) {
    const std::size_t i = random() % (f.magnitudes.size() - 1);
    const float middle = static_cast<float>((f.magnitudes[i] + f.magnitudes[i + 1]) / 2);
    const float value = middle * (1.0f + std::ldexp(static_cast<float>(static_cast<int>(random() % 2001) - 1000), -20));
    x.push_back(random() % 2 != 0 ? -value : value);
  }
  x[0] = 400.199585f;  // becomes 384 through BF16, correct is 416
  return x;
}

TEST(Defects, DoubleRoundingThroughFp16AndBf16) {
  for (const char* format : {"fp16", "bf16"}) {
    const Verdict v = cast_by("e4m3", near_midpoints(),
                              [&](std::size_t, float x) { return oracle_code("e4m3", through(format, x)); });
    ASSERT_FALSE(v.equal());
    EXPECT_TRUE(names(v, std::string("intermediate=") + format)) << text_of(v);
    if (std::string(format) != "bf16") continue;
    EXPECT_EQ(v.parts[0].first.front().got_value, 384.0f);
    EXPECT_EQ(v.parts[0].first.front().expected_value, 416.0f);
  }
}

TEST(Defects, SaturationAt256) {
  std::vector<float> x = near_midpoints();
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = (i % 2 != 0 ? -1.0f : 1.0f) * static_cast<float>(200 + i % 300);
  const Verdict largest = cast_by("e4m3", x, [](std::size_t, float v) {
    return oracle_code("e4m3", std::fabs(v) >= 256.0f ? std::copysign(448.0f, v) : v);
  });
  EXPECT_TRUE(names(largest, "top_binade=to_largest")) << text_of(largest);
  const Verdict clamped = cast_by("e4m3", x, [](std::size_t, float v) {
    return oracle_code("e4m3", std::fabs(v) > 256.0f ? std::copysign(256.0f, v) : v);
  });
  EXPECT_TRUE(names(clamped, "top_binade=clamped")) << text_of(clamped);
}

TEST(Defects, FlushedSubnormals) {
  std::vector<float> x = plain_input();
  for (std::size_t i = 0; i < x.size(); i += 2) x[i] = std::ldexp(x[i], -9);
  const Verdict element = cast_by("e4m3", x, [](std::size_t, float v) {
    const std::uint32_t code = oracle_code("e4m3", v);
    return (code & 0x78u) == 0 ? code & 0x80u : code;
  });
  EXPECT_TRUE(names(element, "flush=element")) << text_of(element);

  // FP32-subnormal inputs in tiles of their own: their scales are powers of two that make them ordinary codes.
  std::vector<float> tiny = extreme_input();
  Case c = quantize_case("mxfp4", tiny);
  Kernel kernel;
  Case flushed = c;
  for (float& v : flushed.x)
    if (std::fabs(v) < std::numeric_limits<float>::min()) v = std::copysign(0.0f, v);
  bring(c, kernel.quantize(flushed, parse_quantizer("mxfp4")));
  const Verdict input = verify(c, explaining());
  EXPECT_TRUE(names(input, "flush=input")) << text_of(input);
}

// x * (1 / (amax / 6)) and x * (6 * (1 / amax)) against x * (6 / amax): only values near midpoints differ.
TEST(Defects, ReciprocalChainsAtMidpoints) {
  std::vector<float> x;
  std::mt19937 random(8);
  for (std::int64_t r = 0; r < 64; ++r) {
    const float amax = 1.0f + static_cast<float>(random() % 1000003) / 1000003.0f;
    for (std::int64_t c = 0; c < 64; ++c) {
      const float middles[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
      float v = middles[random() % 7] / 6.0f * amax;
      for (std::uint32_t step = random() % 5; step > 2; --step) v = std::nextafter(v, 10.0f);
      x.push_back(c == 0 ? amax : v);
    }
  }
  for (const char* how : {"reciprocal_of_scale", "reciprocal_of_amax"}) {
    Case c = quantize_case("fp4_token,nan=largest", x, 64, 64);
    std::vector<std::uint8_t> codes;
    std::vector<float> scales;
    for (std::int64_t r = 0; r < 64; ++r) {
      const float amax = x[static_cast<std::size_t>(r * 64)];
      const float scale = amax / 6.0f, one = 1.0f / scale, inverse = 1.0f / amax, factor = 6.0f * inverse;
      const bool of_scale = std::string(how) == "reciprocal_of_scale";
      scales.push_back(of_scale ? scale : 1.0f / factor);
      for (std::int64_t i = 0; i < 64; ++i) {
        const float scaled = x[static_cast<std::size_t>(r * 64 + i)] * (of_scale ? one : factor);
        codes.push_back(static_cast<std::uint8_t>(oracle_code("e2m1", scaled)));
      }
    }
    c.codes = Array::from<std::uint8_t>({64, 64}, codes);
    c.scales = Array::from<float>({64, 1}, scales);
    const Verdict v = verify(c, explaining());
    ASSERT_FALSE(v.equal()) << how;
    EXPECT_GT(v.parts[0].differing, 0) << how;  // codes, not only the last bit of scales
    EXPECT_TRUE(names(v, std::string("factor=") + how)) << text_of(v);
  }
}

TEST(Defects, SwappedNibblesAndRandomBytes) {
  Kernel kernel;
  Case c = quantize_case("mxfp4", plain_input());
  UnpackedTensor t = kernel.quantize(c, parse_quantizer("mxfp4"));
  for (std::size_t i = 0; i + 1 < t.codes.size(); i += 2) std::swap(t.codes[i], t.codes[i + 1]);
  bring(c, t);
  const Verdict nibbles = verify(c, explaining());
  EXPECT_TRUE(names(nibbles, "nibble_order=swapped")) << text_of(nibbles);
  EXPECT_TRUE(std::any_of(nibbles.findings.begin(), nibbles.findings.end(),
                          [](const Finding& f) { return f.text.find("nibble") != std::string::npos; }));

  const std::vector<float> x = plain_input();
  for (const auto& [name, bit] : {std::pair("pairs_swapped", 1u), {"halves_swapped", 2u}, {"reversed", 3u}}) {
    const Verdict v = cast_by("e2m1,nan=largest,rounding=stochastic:8", x, [&](std::size_t i, float value) {
      const RandomStream stream{5, RandomPurpose::stochastic_rounding, 6, 7};
      return oracle_code("e2m1", value, random_draw(stream, i ^ bit, 8), 8);
    });
    EXPECT_TRUE(names(v, std::string("draw_order=") + name)) << text_of(v);
  }
}

TEST(Defects, WrongAmax) {
  const std::vector<float> x = plain_input();
  for (const bool last : {true, false}) {
    Case c = quantize_case("mxfp4", x);
    std::vector<std::uint8_t> codes, scales;
    for (std::int64_t i = 0; i < kRows * kCols; i += 32) {
      float amax = 0;
      for (std::int64_t k = 0; k < (last ? 31 : 32); ++k) {
        const float v = x[static_cast<std::size_t>(i + k)];
        amax = std::max(amax, last ? std::fabs(v) : v);
      }
      const int exponent = amax > 0 ? std::ilogb(amax) - 2 : -127;
      scales.push_back(static_cast<std::uint8_t>(exponent + 127));
      for (std::int64_t k = 0; k < 32; ++k)
        codes.push_back(
            static_cast<std::uint8_t>(oracle_code("e2m1", std::ldexp(x[static_cast<std::size_t>(i + k)], -exponent))));
    }
    c.codes = Array::from<std::uint8_t>({kRows, kCols}, codes);
    c.scales = Array::from<std::uint8_t>({kRows, kCols / 32}, scales);
    const Verdict v = verify(c, explaining());
    EXPECT_TRUE(names(v, last ? "amax=ignores_last_column" : "amax=without_magnitude")) << text_of(v);
  }
}

Array golden(const hdf5::Group& root, const std::string& path) {
  return root.read(path);
}

// The released kernel's own output, judged as if it claimed to be exact.
TEST(Defects, TheReleasedFp8FlowTranspose) {
  const hdf5::File file(NG_SOURCE_DIR "/data/golden/fp8flow_transpose.h5", hdf5::Mode::read);
  const hdf5::Group root = file.root();
  Case c;
  c.name = "wide";
  c.operation = Operation::transpose;
  c.spec = "method=exact";
  const Array codes = golden(root, "wide/rowwise_codes"), scales = golden(root, "wide/rowwise_scale_inv");
  UnpackedTensor source;
  source.element = FormatId::e4m3;
  source.scale_format = ScaleFormat::f32;
  source.rows = codes.rows();
  source.cols = codes.cols();
  source.tile_cols = 128;
  source.codes.assign(codes.as<std::uint8_t>().begin(), codes.as<std::uint8_t>().end());
  source.scale_values = scales.as_f32();
  c.source = source;
  c.codes = golden(root, "wide/colwise_codes_0");
  c.scales = golden(root, "wide/colwise_scale_inv_0");
  c.layout.scales = ScaleLayout::k_major;  // the kernel writes [blocks, cols]
  const Verdict v = verify(c, explaining());
  EXPECT_FALSE(v.equal());
  EXPECT_TRUE(names(v, "method=published")) << text_of(v);
  c.spec = "method=published";
  EXPECT_TRUE(verify(c, explaining()).equal());
}

TEST(Defects, TransposesWithOneShortcut) {
  // Rows of zeros whose scale is large, subnormal codes, scales far apart.
  UnpackedTensor x;
  x.element = FormatId::e4m3;
  x.scale_format = ScaleFormat::f32;
  x.rows = 96;
  x.cols = 64;
  x.tile_cols = 32;
  std::mt19937 random(5);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c)
      x.codes.push_back(r % 16 == 3 ? 0 : static_cast<std::uint16_t>((random() % 0x7f) | (random() % 2) << 7));
    for (int t = 0; t < 2; ++t)
      x.scale_values.push_back(r % 16 == 3 ? 1024.0f : std::ldexp(1.0f, static_cast<int>(random() % 9)));
  }
  const std::vector<std::int64_t> splits = {40, 56};
  const UnpackedTensor right = transposed_reference(x, {}, splits);
  const auto judged = [&](const UnpackedTensor& y) {
    Case c;
    c.name = "transpose";
    c.operation = Operation::transpose;
    c.spec = "method=exact";
    c.source = x;
    c.splits = splits;
    bring(c, y);
    return verify(c, explaining());
  };
  EXPECT_TRUE(judged(right).equal());
  UnpackedTensor flushed = right;
  for (std::size_t i = 0; i < flushed.codes.size(); ++i) {
    // A code is a shifted one where the source's exponent field was lost: below the smallest normal but not so before.
    const std::int64_t c = static_cast<std::int64_t>(i) / x.rows, r = static_cast<std::int64_t>(i) % x.rows;
    const std::uint32_t own = x.codes[static_cast<std::size_t>(r * x.cols + c)];
    const float scale = x.scale_values[static_cast<std::size_t>(r * 2 + c / 32)];
    const std::int64_t block = r < 40 ? r / 32 : 2 + (r - 40) / 32;
    const float taken = right.scale_values[static_cast<std::size_t>(c * right.scale_cols() + block)];
    const double value = std::fabs(ng_oracle::decode(ng_oracle::format("e4m3"), own)) * scale / taken;
    const bool shifted = taken > scale;
    if (shifted && ((own & 0x78u) == 0 || value < std::ldexp(1.0, -6))) flushed.codes[i] = own & 0x80u;
  }
  const Verdict flush = judged(flushed);
  EXPECT_TRUE(names(flush, "underflow=flush")) << text_of(flush);
  // Rows of zeros that count: the scales of the published kernel with codes rounded correctly.
  UnpackedTensor counted = transpose(x, TransposeMethod::published, splits);
  const std::vector<std::int64_t> block_of = counted.scale_col_of_col();
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const double value =
          ng_oracle::decode(ng_oracle::format("e4m3"), x.codes[static_cast<std::size_t>(r * x.cols + c)]);
      const float scale = x.scale_values[static_cast<std::size_t>(r * 2 + c / 32)];
      const float taken =
          counted
              .scale_values[static_cast<std::size_t>(c * counted.scale_cols() + block_of[static_cast<std::size_t>(r)])];
      counted.codes[static_cast<std::size_t>(c * x.rows + r)] =
          static_cast<std::uint16_t>(oracle_code("e4m3", static_cast<float>(value * scale / taken)));
    }
  const Verdict zero_rows = judged(counted);
  EXPECT_TRUE(names(zero_rows, "zero_rows=counted")) << text_of(zero_rows);
}

TEST(Defects, HadamardChoices) {
  for (const auto& [truth, named] : {std::pair("16:none:bf16", "signs=none"), {"16:te_fixed:f32", "result=f32"}}) {
    Case c = quantize_case("hadamard=16:te_fixed:bf16", plain_input());
    c.operation = Operation::hadamard;
    std::vector<float> y = c.x;
    const HadamardSpec spec = parse_hadamard(truth);
    for (std::size_t i = 0; i < y.size(); i += 16)
      hadamard_transform(spec, hadamard_sign_mask(spec, c.seed), y.data() + i);
    c.result = Array::from<float>({kRows, kCols}, y);
    const Verdict v = verify(c, explaining());
    ASSERT_FALSE(v.equal());
    EXPECT_TRUE(names(v, named)) << text_of(v);
  }
}

TEST(Defects, RecodingWithAnotherRule) {
  Kernel kernel;
  Case c = quantize_case("fp8_1x128,rule=absmax_pow2", plain_input());
  c.source = kernel.quantize(c, parse_quantizer(c.spec));
  c.x.clear();
  c.operation = Operation::recode;
  for (const auto& [truth, named] :
       {std::pair("mxfp4,rule=rceil", "rule=rceil"), {"mxfp4,rounding=nearest_away", "rounding=nearest_away"}}) {
    c.spec = "mxfp4";
    bring(c, recode(*c.source, parse_quantizer(truth), 1, 32));
    const Verdict v = verify(c, explaining());
    ASSERT_FALSE(v.equal());
    EXPECT_TRUE(names(v, named)) << text_of(v);
  }
}

}  // namespace
}  // namespace ng::validate::test
