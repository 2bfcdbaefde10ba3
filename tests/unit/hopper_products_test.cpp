// SPDX-License-Identifier: Apache-2.0
//
// Claim: under the `hopper` arithmetic every product of forms that a recipe can ask for is, byte for byte, the element
// function of the tensor-core model (numerics/tensor_core_product.hpp, judged by H100 goldens) on the numbers, scales,
// scale mode and promotion that each case below writes out; gradients are added in FP32 afterwards; what no tensor core
// can compute is refused. Numbers are gathered from codes here, element by element.
// Alone: ctest -R unit_hopper_products
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace {

using namespace ng;

enum class Enters { codes, code_times_scale };

struct Case {
  const char* name;
  const char* a;  // quantizer text, or bf16
  const char* b;
  Carrier carrier;
  Accumulate accumulate;
  FormatId steps;  // bf16, or the FP8 type of A's numbers
  FormatId b_numbers;
  Enters a_enters, b_enters;
  ScaleMode scales;
  int promotion;
};

constexpr auto kBf16 = FormatId::bf16;
constexpr auto kE4m3 = FormatId::e4m3;
constexpr auto kE5m2 = FormatId::e5m2;
constexpr auto kCodes = Enters::codes;
constexpr auto kScaled = Enters::code_times_scale;
constexpr auto kPromoted = Accumulate::promoted;
constexpr auto kFast = Accumulate::fast;

constexpr Case kCases[] = {
    {"bf16", "bf16", "bf16", Carrier::bf16, kPromoted, kBf16, kBf16, kCodes, kCodes, ScaleMode::none, 0},
    {"bf16_fast", "bf16", "bf16", Carrier::bf16, kFast, kBf16, kBf16, kCodes, kCodes, ScaleMode::none, 0},
    {"fp8_cast", "e4m3,overflow=saturate", "e5m2", Carrier::bf16, kPromoted, kE4m3, kE5m2, kCodes, kCodes,
     ScaleMode::none, 128},
    {"fp8_tensor", "fp8_tensor", "fp8_tensor", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::tensor, 128},
    {"fp8_tensor_fast", "fp8_tensor_e5m2", "fp8_tensor", Carrier::bf16, kFast, kE5m2, kE4m3, kCodes, kCodes,
     ScaleMode::tensor, 0},
    {"fp8_rows", "fp8_1x128,tile=1x0", "fp8_1x128,tile=1x0", Carrier::bf16, kFast, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::outer, 0},
    {"fp8_row_and_tensor", "fp8_1x128,tile=1x0", "fp8_tensor", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::outer, 128},
    {"fp8_1x128", "fp8_1x128", "fp8_1x128", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::block_1x128, 128},
    {"fp8_128x128", "fp8_1x128", "fp8_128x128", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::block_128x128, 128},
    {"fp8_pow2", "fp8_1x128,rule=absmax_pow2", "fp8_128x128", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::block_128x128, 128},
    {"fp8_wide_tiles", "fp8_1x128,tile=64x256", "fp8_1x128", Carrier::bf16, kPromoted, kE4m3, kE4m3, kCodes, kCodes,
     ScaleMode::block_1x128, 128},
    {"mxfp8", "mxfp8_e4m3", "mxfp8_e5m2", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled, kScaled, ScaleMode::none, 0},
    {"mxfp4", "mxfp4", "mxfp4", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled, kScaled, ScaleMode::none, 0},
    {"mxint8", "mxint8", "mxfp6_e2m3", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled, kScaled, ScaleMode::none, 0},
    {"nvfp4", "nvfp4", "nvfp4_2d", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled, kScaled, ScaleMode::tensor, 0},
    {"nvfp4_bf16", "nvfp4", "bf16", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled, kCodes, ScaleMode::tensor, 0},
    {"fp4_rows_in_e4m3", "fp4_token", "fp4_token", Carrier::e4m3, kFast, kE4m3, kE4m3, kCodes, kCodes, ScaleMode::outer,
     0},
    {"fp4_rows_in_bf16", "fp4_token", "fp4_token", Carrier::bf16, kPromoted, kBf16, kBf16, kCodes, kCodes,
     ScaleMode::outer, 0},
    {"fp8_with_bf16", "fp8_tensor_e5m2", "bf16", Carrier::bf16, kPromoted, kBf16, kBf16, kCodes, kCodes,
     ScaleMode::tensor, 0},
    {"pow2_blocks_with_bf16", "fp8_1x128,rule=absmax_pow2", "bf16", Carrier::bf16, kPromoted, kBf16, kBf16, kScaled,
     kCodes, ScaleMode::none, 0},
    {"pow2_small_blocks", "fp8_1x128,rule=absmax_pow2,tile=1x32", "fp8_tensor", Carrier::bf16, kPromoted, kBf16, kBf16,
     kScaled, kCodes, ScaleMode::tensor, 0},
};

OperandSpec operand_spec_of(const char* text) {
  OperandSpec spec;
  spec.kind = OperandKind::bf16;
  if (std::string(text) == "bf16") return spec;
  spec.kind = OperandKind::quantized;
  spec.quantizer = parse_quantizer(text);
  return spec;
}

struct Geometry {
  Gemm gemm;
  std::vector<std::int64_t> groups;  // offsets of rows; empty: one group
};

/// Deterministic values of widely spread magnitude.
std::vector<float> spread(std::int64_t count, std::uint32_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761u + 1u;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    const float mantissa = static_cast<float>(state >> 9) / static_cast<float>(1u << 23) - 0.5f;
    state = state * 1664525u + 1013904223u;
    value = std::ldexp(mantissa, static_cast<int>(state >> 28) - 8);
  }
  return values;
}

class Products : public testing::TestWithParam<Case> {
 protected:
  Products() {
    BackendOptions options;
    options.threads = 2;
    options.arithmetic = Arithmetic::hopper;
    backend_ = make_cpu_backend(options);
  }

  Tensor matrix(std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
    Tensor x = backend_->tensor(Dtype::f32, rows, cols);
    const std::vector<float> values = spread(rows * cols, seed);
    backend_->upload(x.view, values.data());
    Tensor narrow = backend_->tensor(Dtype::bf16, rows, cols);
    backend_->cast(x.view, narrow.view);
    return narrow;
  }

  Form form(const Tensor& x, const RowGroups& groups, Operand operand, Gemm gemm, const char* text) {
    const OperandSpec spec = operand_spec_of(text);
    site_.name = "edge";
    const FormRequest request{gemm, operand, spec, &site_};
    return backend_->produce({7, 1, 0, Phase::train}, x, groups, std::span(&request, 1)).forms.front();
  }

  std::unique_ptr<Backend> backend_;
  Site site_;
};

/// Number (r, k) of a form in the axes as quantized, and the scale that stays outside.
struct Element {
  float number;
  float outside;
};
Element element(const Form& form, Enters enters, std::int64_t r, std::int64_t k, std::int64_t group) {
  if (form.kind == OperandKind::bf16) {
    const TensorView& x = form.plain.view;
    const bool column = form.orientation == Orientation::column;
    const std::byte* row = x.row(column ? k : r);
    return {float_of(static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(row)[column ? r : k]) << 16),
            1.0f};
  }
  const QuantizedTensor& q = *form.quantized;
  const auto* codes = q.codes.as<std::uint8_t>() + r * q.row_bytes;
  const float code = decode(q.spec.element, load_code(codes, q.storage, static_cast<std::size_t>(k)));
  if (q.spec.scale_format == ScaleFormat::none) return {code, 1.0f};
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t begin = q.groups.begin(group, row_form ? q.rows : q.cols);
  const std::int64_t i = (row_form ? r - begin : k - begin), j = row_form ? k : r;
  const std::int64_t tile_i = row_form ? q.spec.tile_rows : q.spec.tile_cols;
  const std::int64_t tile_j = row_form ? q.spec.tile_cols : q.spec.tile_rows;
  const std::int64_t along = q.tile_offsets[static_cast<std::size_t>(group)] + (tile_i == 0 ? 0 : i / tile_i);
  const std::int64_t across = tile_j == 0 ? 0 : j / tile_j;
  const std::int64_t at = row_form ? along * q.scale_cols + across : across * q.scale_cols + along;
  const float scale = q.spec.scale_format == ScaleFormat::f32
                          ? q.scales.as<float>()[at]
                          : stored_scale_value(q.spec.scale_format, q.scales.as<std::uint8_t>()[at]);
  const float tensor = q.has_tensor_scale() ? q.tensor_scales.as<float>()[group] : 1.0f;
  if (enters == Enters::codes) return {code, scale};
  return {code * scale, tensor};
}

TEST_P(Products, AreTheElementFunctionOnTheirCodes) {
  const Case& c = GetParam();
  const std::int64_t R = 160, C = 192, F = 136;  // tokens, hidden, width: a ragged last tile of 128 everywhere
  for (const Gemm gemm : {Gemm::fprop, Gemm::dgrad, Gemm::wgrad}) {
    for (const bool experts : {false, true}) {
      RowGroups groups, stack;
      if (experts) groups.offsets = {0, 64, 64, R};  // the second expert has no rows
      const std::int64_t count = groups.count();
      for (std::int64_t e = 0; experts && e <= count; ++e) stack.offsets.push_back(e * F);
      const Tensor x = matrix(R, C, 1), w = matrix(count * F, C, 2), dy = matrix(R, F, 3);
      const bool weight_is_b = gemm != Gemm::wgrad;
      const Form a = form(gemm == Gemm::fprop ? x : dy, groups, operand_a(gemm), gemm, c.a);
      const Form b = form(weight_is_b ? w : x, weight_is_b ? stack : groups, operand_b(gemm), gemm, c.b);
      for (const Dtype out_type : {Dtype::f32, Dtype::bf16}) {
        const bool accumulate = gemm == Gemm::wgrad;
        if (accumulate && out_type == Dtype::bf16) continue;
        const std::int64_t N = gemm == Gemm::fprop ? F : C;
        const std::int64_t rows = accumulate ? count * F : R;
        Tensor out = backend_->tensor(out_type, rows, N);
        const std::vector<float> before = spread(rows * N, 4);
        if (accumulate) backend_->upload(out.view, before.data());
        const Product product{gemm, &site_, &a, &b, out.view, accumulate, &groups, c.carrier, c.accumulate};
        backend_->grouped_matmul({7, 1, 0, Phase::train}, product);

        TensorCoreSpec spec;
        spec.accumulator = find_accumulator("hopper", c.steps, c.steps, StepResult::fp32_toward_zero)->spec;
        spec.promotion = c.promotion;
        spec.scales = c.scales;
        std::int64_t compared = 0;
        for (std::int64_t g = 0; g < count; ++g) {
          const std::int64_t begin = groups.begin(g, R), length = groups.end(g, R) - begin;
          const std::int64_t m_count = accumulate ? F : length;
          const std::int64_t depth = gemm == Gemm::fprop ? C : gemm == Gemm::dgrad ? F : length;
          for (std::int64_t m = 0; m < m_count; m += 13) {
            for (std::int64_t n = 0; n < N; n += 11) {
              std::vector<float> left, right, scale_a, scale_b;
              for (std::int64_t k = 0; k < depth; ++k) {
                const Element ea =
                    accumulate ? element(a, c.a_enters, m, begin + k, g) : element(a, c.a_enters, begin + m, k, g);
                const Element eb = gemm == Gemm::fprop   ? element(b, c.b_enters, g * F + n, k, g)
                                   : gemm == Gemm::dgrad ? element(b, c.b_enters, n, g * F + k, g)
                                                         : element(b, c.b_enters, n, begin + k, g);
                left.push_back(ea.number);
                right.push_back(eb.number);
                if (k % 128 == 0) {
                  scale_a.push_back(ea.outside);
                  scale_b.push_back(eb.outside);
                }
              }
              const float one = 1.0f;
              const StepOperands in{left.data(),
                                    right.data(),
                                    nullptr,
                                    nullptr,
                                    smallest_exponent(format_of(c.steps)),
                                    smallest_exponent(format_of(c.b_numbers)),
                                    0};
              const ElementScales scales{scale_a.empty() ? &one : scale_a.data(),
                                         scale_b.empty() ? &one : scale_b.data()};
              const float sum = tensor_core_element(spec, in, scales, depth);
              const std::int64_t row = accumulate ? g * F + m : begin + m;
              const std::byte* at = out.view.row(row) + static_cast<std::size_t>(n) * size_of(out_type);
              if (out_type == Dtype::bf16) {
                ASSERT_EQ(*reinterpret_cast<const std::uint16_t*>(at), output_bits(ProductOutput::bf16, sum))
                    << "gemm " << static_cast<int>(gemm) << " group " << g << " (" << m << ", " << n
                    << ")";
              } else {
                const float expected = accumulate ? before[static_cast<std::size_t>(row * N + n)] + sum : sum;
                ASSERT_EQ(bits_of(*reinterpret_cast<const float*>(at)), bits_of(expected))
                    << "gemm " << static_cast<int>(gemm) << " group " << g << " (" << m << ", " << n << ")";
              }
              ++compared;
            }
          }
        }
        EXPECT_GT(compared, 100);
      }
    }
  }
  EXPECT_EQ(backend_->carrier_losses(), 0);
}

INSTANTIATE_TEST_SUITE_P(Cases, Products, testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(HopperProduct, RefusesWhatNoTensorCoreComputes) {
  const auto refusal = [](const char* a, const char* b, Accumulate accumulate = kPromoted) {
    return hopper_product({operand_spec_of(a), operand_spec_of(b), Carrier::bf16, accumulate}).refusal;
  };
  OperandSpec f32;
  f32.kind = OperandKind::f32;
  EXPECT_EQ(hopper_product({f32, operand_spec_of("bf16"), Carrier::bf16, kFast}).refusal, HopperRefusal::fp32_operand);
  EXPECT_EQ(hopper_product({f32, f32, Carrier::bf16, Accumulate::fp32_chain}).refusal, HopperRefusal::none);
  EXPECT_EQ(refusal("fp16", "bf16"), HopperRefusal::significand);
  EXPECT_EQ(refusal("fp8_1x128,tile=1x32", "bf16"), HopperRefusal::significand);
  EXPECT_EQ(refusal("fp8_1x128", "bf16"), HopperRefusal::block_scales);
  EXPECT_EQ(refusal("fp8_1x128", "mxfp8_e4m3"), HopperRefusal::block_scales);
  EXPECT_EQ(refusal("fp8_1x128", "fp8_128x128", kFast), HopperRefusal::fast_block_scales);
  EXPECT_EQ(refusal("fp8_1x128", "fp8_128x128"), HopperRefusal::none);
}

// A scale of 2^-127 times E4M3's smallest subnormal, 2^-136, lies below BF16's 2^-133.
TEST(HopperProduct, CountsWhatTheCarrierCannotHold) {
  BackendOptions options;
  options.arithmetic = Arithmetic::hopper;
  const std::unique_ptr<Backend> backend = make_cpu_backend(options);
  Tensor x = backend->tensor(Dtype::f32, 32, 32);
  std::vector<float> values(32 * 32, 0.0f);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 32 == 0 ? 0x1p-122f : 0x1p-136f;
  backend->upload(x.view, values.data());
  const Site site{"edge", 0, 1};
  const FormRequest request{Gemm::fprop, Operand::activation, operand_spec_of("mxfp8_e4m3"), &site};
  const TensorForms forms = backend->produce({}, x, RowGroups{}, std::span(&request, 1));
  const Tensor out = backend->tensor(Dtype::f32, 32, 32);
  const RowGroups one;
  const Product product{Gemm::fprop, &site, &forms.forms[0], &forms.forms[0], out.view, false, &one};
  backend->matmul({}, product);
  EXPECT_EQ(backend->carrier_losses(), 2 * 32 * 31);
}

}  // namespace
