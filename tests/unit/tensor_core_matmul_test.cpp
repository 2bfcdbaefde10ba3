// SPDX-License-Identifier: Apache-2.0
//
// Claim: the CPU's fast tensor-core products equal the functor element by element, bit for bit: every row of the
// catalogue, raw bits with NaN and infinities, wide and narrow exponents, ragged shapes, promotion, five scale modes,
// split K, both outputs, both instruction sets, one and two threads. Alone: bin/unit_tensor_core
// --gtest_filter='TensorCore*'
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng::cpu {
namespace {

enum class Values { raw, narrow, wide };

std::vector<float> numbers(std::mt19937& random, FormatId id, std::int64_t count, Values values) {
  const ElementFormat format = format_of(id);
  std::normal_distribution<float> normal;
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i) {
    if (values == Values::raw) {
      out.push_back(decode(format, random() & ((1u << bit_count(format)) - 1u)));
    } else {
      const int spread = values == Values::wide ? 60 : 8;
      const float x =
          normal(random) * power_of_two(static_cast<int>(random() % static_cast<unsigned>(spread)) - spread / 2);
      out.push_back(random() % 8 == 0 ? 0.0f : decode(format, encode(format, CastChoices{}, x)));
    }
  }
  return out;
}

struct Problem {
  TensorCoreSpec spec;
  FormatId a_format, b_format;
  std::int64_t m, n, k;
  FormatId block_format = FormatId::e8m0;
  std::int64_t block_k = 1;
};

void expect_equal_to_functor(const Problem& p, Values values, unsigned seed) {
  std::mt19937 random(seed);
  const std::vector<float> a = numbers(random, p.a_format, p.m * p.k, values);
  const std::vector<float> b = numbers(random, p.b_format, p.n * p.k, values);
  const std::int64_t blocks = (p.k + kScaleBlock - 1) / kScaleBlock;
  std::vector<float> sa(static_cast<std::size_t>(p.m * blocks)), sb(static_cast<std::size_t>(p.n * blocks));
  std::lognormal_distribution<float> scale;
  for (auto* s : {&sa, &sb})
    for (float& x : *s) x = scale(random);
  ProductScales scales{sa.data(), 0, sb.data(), 0, 1};
  if (p.spec.scales == ScaleMode::outer) scales.a_stride = scales.b_stride = 1;
  if (is_blockwise(p.spec.scales)) scales.a_stride = scales.b_stride = blocks;
  if (p.spec.scales == ScaleMode::block_128x128) scales.b_rows = 128;
  ProductMatrix ma{a.data(), p.m, p.k, p.a_format}, mb{b.data(), p.n, p.k, p.b_format};
  std::vector<float> ba, bb;
  const std::int64_t inner = (p.k + p.block_k - 1) / p.block_k;
  if (p.spec.accumulator.scales != StepScales::none) {
    ba = numbers(random, p.block_format, p.m * inner, Values::narrow);
    bb = numbers(random, p.block_format, p.n * inner, Values::narrow);
    for (auto* s : {&ba, &bb})
      for (float& x : *s) x = float_of(magnitude_bits(x));
    ma.block_scales = ba.data(), mb.block_scales = bb.data();
    ma.block_scale_stride = mb.block_scale_stride = inner;
  }
  const MatmulSize size{p.k, p.block_k, p.block_format};
  for (const bool baseline : {false, true}) {
    std::vector<float> out(static_cast<std::size_t>(p.m * p.n), -1.0f);
    tensor_core_matmul(p.spec, ma, mb, scales, size, out.data(), p.n, baseline ? 1 : 2, baseline);
    std::size_t differences = 0;
    for (std::int64_t m = 0; m < p.m; ++m) {
      for (std::int64_t n = 0; n < p.n; ++n) {
        const StepOperands in{&a[static_cast<std::size_t>(m * p.k)],
                              &b[static_cast<std::size_t>(n * p.k)],
                              ba.empty() ? nullptr : &ba[static_cast<std::size_t>(m * inner)],
                              bb.empty() ? nullptr : &bb[static_cast<std::size_t>(n * inner)],
                              smallest_exponent(format_of(p.a_format)),
                              smallest_exponent(format_of(p.b_format)),
                              smallest_exponent(format_of(p.block_format))};
        const float sum = tensor_core_element(p.spec, in, scales.element(m, n), p.k, p.block_k);
        const std::uint32_t bits = output_bits(p.spec.output, sum);
        const std::uint32_t wanted = bits_of(output_value(p.spec.output, bits));
        const std::uint32_t got = bits_of(out[static_cast<std::size_t>(m * p.n + n)]);
        if (got != wanted && differences++ < 3)
          ADD_FAILURE() << "[" << m << "," << n << "] " << std::hex << got << " instead of " << wanted << std::dec
                        << " K " << p.k << (baseline ? " baseline" : "");
      }
    }
    EXPECT_EQ(differences, 0u);
  }
}

std::vector<Problem> catalogue_problems() {
  std::vector<Problem> problems;
  for (const AccumulatorRow& row : accumulator_catalog()) {
    for (const NamedFormat& a : format_catalog()) {
      for (const NamedFormat& b : format_catalog()) {
        for (const OperandScales s : {OperandScales::none, OperandScales::e8m0_per_32, OperandScales::e4m3_per_16}) {
          if (!is_of_types(row.types, a.id, b.id, s)) continue;
          Problem p{TensorCoreSpec{row.spec}, a.id, b.id, 9, 21, 200};
          if (s == OperandScales::e8m0_per_32) p.block_k = 32;
          if (s == OperandScales::e4m3_per_16) p.block_k = 16, p.block_format = FormatId::e4m3;
          problems.push_back(p);
        }
      }
    }
  }
  return problems;
}

TEST(TensorCoreMatmul, EveryRowOfTheCatalogue) {
  const std::vector<Problem> problems = catalogue_problems();
  EXPECT_GT(problems.size(), kAccumulatorRows);
  unsigned seed = 1;
  for (const Problem& p : problems) {
    SCOPED_TRACE(std::string(name_of(p.a_format)) + " " + name_of(p.b_format) + " L " +
                 std::to_string(p.spec.accumulator.terms));
    for (const Values v : {Values::raw, Values::narrow, Values::wide}) expect_equal_to_functor(p, v, seed++);
  }
}

// BF16 cuts FP32's bits; FP16 has its own range: checked number by number.
TEST(TensorCoreMatmul, OutputTypes) {
  const auto bits = [](ProductOutput output, float value) { return output_bits(output, value); };
  const auto f16 = ProductOutput::f16, bf16 = ProductOutput::bf16;
  EXPECT_EQ(bits(f16, 1.0f), 0x3c00u);
  EXPECT_EQ(bits(f16, 0x1.002p0f), 0x3c00u);  // the tie above 1, to even
  EXPECT_EQ(bits(f16, 0x1.006p0f), 0x3c02u);
  EXPECT_EQ(bits(f16, 65519.0f), 0x7bffu);
  EXPECT_EQ(bits(f16, -65520.0f), 0xfc00u);
  EXPECT_EQ(bits(f16, 0x1p-24f), 1u);
  EXPECT_EQ(bits(f16, -0x1p-25f), 0x8000u);
  EXPECT_EQ(bits(f16, float_of(kTensorCoreNanBits)), 0x7fffu);
  EXPECT_EQ(bits(bf16, 0x1.01p0f), 0x3f80u);
  EXPECT_EQ(bits(bf16, float_of(0x7f7fffffu)), 0x7f80u);
  EXPECT_EQ(bits_of(output_value(f16, 0x7fffu)), 0x7fffe000u);
  EXPECT_EQ(bits_of(output_value(f16, 0x8000u)), kSignBit);
  EXPECT_EQ(output_value(f16, 1u), 0x1p-24f);
  EXPECT_EQ(output_value(bf16, 0x3f80u), 1.0f);
}

TEST(TensorCoreMatmul, HopperModes) {
  const AccumulatorRow* fp8 = find_accumulator("hopper", FormatId::e4m3, FormatId::e4m3, StepResult::fp32_toward_zero);
  unsigned seed = 1000;
  for (const ScaleMode mode :
       {ScaleMode::none, ScaleMode::tensor, ScaleMode::outer, ScaleMode::block_1x128, ScaleMode::block_128x128}) {
    for (const int promotion : {0, 128}) {
      if (promotion == 0 && is_blockwise(mode)) continue;
      for (const ProductOutput output : {ProductOutput::f32, ProductOutput::bf16, ProductOutput::f16}) {
        for (const std::int64_t k : {1, 127, 128, 320, 1000}) {
          TensorCoreSpec spec{fp8->spec};
          spec.promotion = promotion, spec.scales = mode, spec.output = output;
          SCOPED_TRACE(std::to_string(static_cast<int>(mode)) + " promotion " + std::to_string(promotion));
          expect_equal_to_functor({spec, FormatId::e4m3, FormatId::e5m2, 5, 150, k}, Values::narrow, seed++);
          expect_equal_to_functor({spec, FormatId::e5m2, FormatId::e4m3, 70, 17, k}, Values::raw, seed++);
        }
      }
    }
  }
}

TEST(TensorCoreMatmul, SplitKAndEmptyProducts) {
  unsigned seed = 2000;
  for (const FormatId id : {FormatId::bf16, FormatId::fp16, FormatId::tf32}) {
    TensorCoreSpec spec{find_accumulator("hopper", id, id, StepResult::fp32_toward_zero)->spec};
    for (const int splits : {1, 2, 3, 7, 24}) {
      spec.splits = splits;
      spec.split_tile = id == FormatId::tf32 ? 32 : 64;
      for (const std::int64_t k : {0, 5, 64, 449, 1500})
        for (const Values v : {Values::narrow, Values::wide, Values::raw})
          expect_equal_to_functor({spec, id, id, 7, 18, k}, v, seed++);
    }
  }
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{0, 5}, {5, 0}, {1, 1}, {65, 16}})
    expect_equal_to_functor(
        {{find_accumulator("hopper", FormatId::bf16, FormatId::bf16, StepResult::fp32_toward_zero)->spec},
         FormatId::bf16,
         FormatId::bf16,
         m,
         n,
         40},
        Values::narrow, seed++);
}

// The largest sums that a step can have, of either sign.
TEST(TensorCoreMatmul, LargestSums) {
  for (const AccumulatorRow& row : accumulator_catalog()) {
    if (row.spec.scales != StepScales::none) continue;
    for (const NamedFormat& f : format_catalog()) {
      if (!is_of_types(row.types, f.id, f.id, OperandScales::none)) continue;
      const bool wide = f.format.bias == 127;
      const std::uint32_t mantissa = (1u << f.format.mantissa_bits) - 1u;
      const float largest = wide ? float_of(0x4b000000u | mantissa << (23 - f.format.mantissa_bits))
                                 : decode(f.format, largest_code(f.format));
      for (const float sign : {1.0f, -1.0f}) {
        const std::vector<float> a(96 * 17, largest), b(96 * 17, sign * largest);
        const ProductMatrix ma{a.data(), 2, 96, f.id}, mb{b.data(), 17, 96, f.id};
        const StepOperands in{
            a.data(), b.data(), nullptr, nullptr, smallest_exponent(f.format), smallest_exponent(f.format), 0};
        const std::uint32_t wanted = bits_of(tensor_core_element({row.spec}, in, {}, 96));
        for (const bool baseline : {false, true}) {
          std::vector<float> out(34);
          tensor_core_matmul({row.spec}, ma, mb, {}, {96}, out.data(), 17, 1, baseline);
          for (const float x : out) ASSERT_EQ(bits_of(x), wanted) << row.arithmetic << " " << f.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ng::cpu
