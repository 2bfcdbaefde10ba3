// SPDX-License-Identifier: Apache-2.0
//
// Claim: quantizing with the amax that tensor_amax gives equals quantizing without, byte for byte; with another amax
// the scales are those of a tensor that has it and what lies above saturates; `decode = te` decodes as Transformer
// Engine's kernel, code * fp32(fp32(scale * amax) * fp32(1/2688)), and differs from the standard order somewhere.
// Alone: build/bin/outliers_vs_oracle --gtest_filter='TensorAmax*:DecodeTe*'
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "golden/program_subject.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "oracle/blocks.hpp"
#include "unit/numerics_vs_oracle/matrices.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;

ng::Backend& backend() {
  static const std::unique_ptr<ng::Backend> made = ng::make_cpu_backend({2, ng::Arithmetic::ieee, false});
  return *made;
}

ng::Buffer amax_buffer(const std::vector<float>& values) {
  ng::Buffer buffer = backend().allocate(values.size() * sizeof(float));
  std::memcpy(buffer.as<float>(), values.data(), buffer.bytes);
  return buffer;
}

ng_oracle::BlockSpec nvfp4(ng_oracle::ScaleRule rule, std::size_t tile_rows) {
  ng_oracle::BlockSpec spec;
  spec.tile_rows = tile_rows;
  spec.tile_cols = 16;
  spec.scale_format = ng_oracle::ScaleFormat::e4m3;
  spec.rule = rule;
  spec.encode.nan = ng_oracle::NanRule::zero;
  spec.encode.zero_sign = ng_oracle::ZeroSign::exact_positive;
  return spec;
}

ng_oracle::BlockSpec tensor_scaled(const std::string& element) {
  ng_oracle::BlockSpec spec;
  spec.element = element;
  spec.tile_rows = spec.tile_cols = 0;
  spec.scale_format = ng_oracle::ScaleFormat::f32;
  spec.rule = ng_oracle::ScaleRule::absmax;
  if (element == "e2m1") spec.encode.nan = ng_oracle::NanRule::zero;
  return spec;
}

std::vector<ng_oracle::BlockSpec> specs() {
  using R = ng_oracle::ScaleRule;
  return {nvfp4(R::te_v2_14, 1),    nvfp4(R::te_v2_14, 16),         nvfp4(R::te_v2_13, 1),
          nvfp4(R::nvfp4_paper, 1), nvfp4(R::four_over_six_mae, 1), nvfp4(R::ao_two_level, 1),
          tensor_scaled("e4m3"),    tensor_scaled("e5m2"),          tensor_scaled("e2m1")};
}

void expect_equal(const ng_oracle::Quantized& a, const ng_oracle::Quantized& b, const std::string& what) {
  ASSERT_EQ(a.codes, b.codes) << what;
  ASSERT_EQ(a.scale_codes, b.scale_codes) << what;
  ASSERT_EQ(bits_of(a.tensor_scale), bits_of(b.tensor_scale)) << what;
}

TEST(TensorAmax, OwnAmaxChangesNothing) {
  const std::size_t rows = 37, cols = 64;
  for (const std::string& kind : matrix_kinds()) {
    const std::vector<float> x = matrix(kind, rows, cols, 5);
    const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
    for (const ng_oracle::BlockSpec& block : specs()) {
      for (const auto axis : {ng::Orientation::row, ng::Orientation::column}) {
        for (const bool transformed : {false, true}) {
          for (const bool grouped : {false, true}) {
            ng::QuantizerSpec spec = ng_golden::program_spec(block);
            if (transformed) spec.outlier = {0.9, ng::OutlierScope::row, ng::OutlierResidual::bf16};
            const ng::RowGroups groups = grouped ? ng::RowGroups{{0, 16, 32, 37}} : ng::RowGroups{};
            for (const auto scope : {ng::TensorScope::group, ng::TensorScope::whole}) {
              if (scope == ng::TensorScope::whole && !ng::needs_tensor_amax(spec.rule)) continue;
              spec.tensor_scope = scope;
              const ng::Buffer amax = backend().tensor_amax({}, input.view, groups, spec, axis);
              const ng::QuantizedTensor a = backend().quantize({}, input.view, groups, spec, axis, {});
              const ng::QuantizedTensor b = backend().quantize_known_amax({}, input.view, groups, spec, axis, {}, amax);
              ASSERT_NO_FATAL_FAILURE(
                  expect_equal(ng_golden::read_back(backend(), a), ng_golden::read_back(backend(), b), kind));
            }
          }
        }
      }
    }
  }
}

TEST(TensorAmax, AnotherAmaxActsLikeATensorThatHasIt) {
  // The oracle quantizes x with one more row block that holds the wanted amax alone; its codes and scales are then x's
  // under a known amax. FP32-scaled tensors have one tile: each element by definition.
  const std::size_t rows = 32, cols = 48;
  for (const std::string kind : {"normal", "outlier", "zero_tail", "wide", "signed_zeros"}) {
    const std::vector<float> x = matrix(kind, rows, cols, 6);
    const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
    const float own = ng_oracle::amax_of(x);
    for (const ng_oracle::BlockSpec& block : specs()) {
      if (block.tile_rows == 0) continue;
      const float wanted = own * 3.7F;
      std::vector<float> longer = x;
      longer.resize((rows + 16) * cols, 0.0F);
      longer.back() = wanted;
      ng_oracle::Quantized expected = ng_oracle::quantize(longer, rows + 16, cols, block);
      expected.codes.resize(rows * cols);
      expected.scale_codes.resize(rows / block.tile_rows * expected.scale_cols);
      const ng::QuantizedTensor q = backend().quantize_known_amax({}, input.view, {}, ng_golden::program_spec(block),
                                                                  ng::Orientation::row, {}, amax_buffer({wanted}));
      ASSERT_NO_FATAL_FAILURE(expect_equal(ng_golden::read_back(backend(), q), expected, kind));
    }
    for (const std::string element : {"e4m3", "e5m2", "e2m1"}) {
      for (const float wanted : {own * 3.7F, own / 5}) {  // above and below: the latter saturates
        const ng_oracle::BlockSpec block = tensor_scaled(element);
        const ng_oracle::Format& f = ng_oracle::format(element);
        const float factor = ng_oracle::f32_div(static_cast<float>(f.largest), wanted);
        const ng::QuantizedTensor q = backend().quantize_known_amax({}, input.view, {}, ng_golden::program_spec(block),
                                                                    ng::Orientation::row, {}, amax_buffer({wanted}));
        const ng_oracle::Quantized got = ng_golden::read_back(backend(), q);
        ASSERT_EQ(got.scale_codes.at(0), bits_of(ng_oracle::f32_div(1.0F, factor)));
        for (std::size_t i = 0; i < x.size(); ++i)
          ASSERT_EQ(got.codes[i], ng_oracle::encode(f, ng_oracle::f32_mul(x[i], factor), block.encode).value());
      }
    }
  }
}

TEST(DecodeTe, EqualsTheKernelsArithmetic) {
  std::size_t differing = 0, compared = 0;
  const std::size_t rows = 32, cols = 64;
  const float reciprocal = ng_oracle::f32_div(1.0F, 2688.0F);
  for (const std::string& kind : matrix_kinds()) {
    const std::vector<float> x = matrix(kind, rows, cols, 9);
    const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
    for (const auto rule :
         {ng_oracle::ScaleRule::te_v2_14, ng_oracle::ScaleRule::te_v2_13, ng_oracle::ScaleRule::nvfp4_paper}) {
      for (const std::size_t tile_rows : {std::size_t{1}, std::size_t{16}}) {
        for (const bool column : {false, true}) {
          const ng_oracle::BlockSpec block = nvfp4(rule, tile_rows);
          const auto laid = column ? ng_oracle::transposed(x, rows, cols) : x;
          const std::size_t r = column ? cols : rows, c = column ? rows : cols;
          const ng_oracle::Quantized expected = ng_oracle::quantize(laid, r, c, block);
          ng::QuantizerSpec spec = ng_golden::program_spec(block);
          spec.decode = ng::DecodeOrder::te;
          const ng::QuantizedTensor q =
              backend().quantize({}, input.view, {}, spec, column ? ng::Orientation::column : ng::Orientation::row, {});
          const ng_oracle::Quantized got = ng_golden::read_back(backend(), q);
          ASSERT_NO_FATAL_FAILURE(expect_equal(got, expected, kind));
          for (std::size_t i = 0; i < x.size(); ++i) {
            const float scale = expected.scales[i / c / tile_rows * expected.scale_cols + i % c / 16];
            const float factor = ng_oracle::f32_mul(ng_oracle::f32_mul(scale, expected.tensor_amax), reciprocal);
            const float element = static_cast<float>(ng_oracle::decode(ng_oracle::format("e2m1"), expected.codes[i]));
            const float value = ng_oracle::f32_mul(element, factor);
            if (std::isnan(value)) {
              ASSERT_TRUE(std::isnan(got.decoded[i])) << kind;
              continue;
            }
            ASSERT_EQ(bits_of(got.decoded[i]), bits_of(value)) << kind << " at " << i;
            ++compared;
            differing += bits_of(value) != bits_of(expected.decoded[i]) ? 1 : 0;
          }
        }
      }
    }
  }
  std::printf("decode = te: %zu values, %zu of them differ from the standard order\n", compared, differing);
  EXPECT_GT(differing, 0U);
}

}  // namespace
}  // namespace ng_test
