// SPDX-License-Identifier: Apache-2.0
//
// Claim: scale gaps, transposes, code counts, listed scales and sampled products that the CPU backend measures are the
// oracle's. Tolerance of means and ratios: 1e-12 of themselves (double sums of terms of one sign, see measure_test.cpp;
// log2 in double against long double). Products: below. Alone: ctest -R measure_vs_oracle
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "golden/program_subject.hpp"
#include "matrices.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "oracle/record_measures.hpp"

namespace ng_test {
namespace {

using ng_oracle::BlockSpec;
using ng_oracle::ScaleFormat;
using ng_oracle::ScaleRule;

BlockSpec spec_of(const char* element, ScaleFormat format, ScaleRule rule, std::size_t rows, std::size_t cols) {
  BlockSpec spec;
  spec.element = element;
  spec.scale_format = format;
  spec.rule = rule;
  spec.tile_rows = rows;
  spec.tile_cols = cols;
  spec.encode.nan = ng_oracle::NanRule::zero;
  return spec;
}

std::vector<BlockSpec> specs() {
  return {spec_of("e2m1", ScaleFormat::e8m0, ScaleRule::floor, 1, 32),
          spec_of("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16),
          spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax, 1, 128),
          spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax_pow2, 128, 128)};
}

const std::unique_ptr<ng::Backend>& backend() {
  static const std::unique_ptr<ng::Backend> cpu = [] {
    ng::BackendOptions options;
    options.threads = 2;
    return ng::make_cpu_backend(options);
  }();
  return cpu;
}

ng::Measurement measured(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& spec,
                         ng::Orientation orientation, const ng::RowGroups& groups, const ng::MeasureRequest& request) {
  const ng::StepContext context;
  const ng::Site site;
  const ng::Tensor input = ng_golden::uploaded(*backend(), x, rows, cols);
  const auto q = backend()->quantize(context, input.view, groups, ng_golden::program_spec(spec), orientation, site);
  return backend()->measure({context, site, input.view, groups, q}, request);
}

TEST(RecordMeasure, RowColumnScaleGap) {
  const std::size_t rows = 45, cols = 140;
  for (const BlockSpec& row : specs()) {
    for (const BlockSpec& column : specs()) {
      for (const char* kind : {"outlier", "zero_tail", "wide"}) {
        const auto x = matrix(kind, rows, cols, 5);
        const ng::QuantizerSpec row_spec = ng_golden::program_spec(row);
        const ng::MeasureSums s =
            measured(x, rows, cols, column, ng::Orientation::column, {}, {.row_spec = &row_spec, .scale_gap = true})
                .sums;
        const double expected = ng_oracle::row_column_scale_gap(x, rows, cols, row, column);
        EXPECT_NEAR(s.gap / s.gap_count, expected, 1e-12 * expected) << row.element << column.element << kind;
      }
    }
  }
}

TEST(RecordMeasure, TransposeError) {
  const std::size_t rows = 150, cols = 140;
  const BlockSpec kinds[] = {spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax_pow2, 1, 128),
                             spec_of("e4m3", ScaleFormat::e8m0, ScaleRule::floor, 1, 32),
                             spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax_pow2, 1, 16)};
  double largest = 0;
  for (const BlockSpec& spec : kinds) {
    for (const char* kind : {"normal", "outlier", "wide"}) {
      for (const std::vector<std::size_t>& splits : {std::vector<std::size_t>{}, {70, 0, 80}}) {
        const auto x = matrix(kind, rows, cols, 6);
        ng::RowGroups groups;
        if (!splits.empty()) groups.offsets = {0, 70, 70, 150};
        const ng::MeasureSums s = measured(x, rows, cols, spec, ng::Orientation::row, groups, {.transpose = true}).sums;
        EXPECT_EQ(s.transpose_count, static_cast<double>(x.size()));
        const double exact = ng_oracle::transpose_error(x, rows, cols, spec, splits, false);
        const double published = ng_oracle::transpose_error(x, rows, cols, spec, splits, true);
        EXPECT_NEAR(s.transpose2 / s.square, exact, 1e-12 * exact) << kind;
        EXPECT_NEAR(s.transpose_published2 / s.square, published, 1e-12 * published) << kind;
        largest = std::max(largest, exact);
      }
    }
  }
  EXPECT_GT(largest, 0);
}

TEST(RecordMeasure, OnlyPowersOfTwoAreTransposed) {
  const auto x = matrix("normal", 40, 128, 6);
  for (const BlockSpec& spec : {spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax, 1, 128),
                                spec_of("e4m3", ScaleFormat::f32, ScaleRule::absmax_pow2, 128, 128),
                                spec_of("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16)}) {
    EXPECT_EQ(measured(x, 40, 128, spec, ng::Orientation::row, {}, {.transpose = true}).sums.transpose_count, 0);
  }
}

TEST(RecordMeasure, CodesAndScales) {
  const std::size_t rows = 45, cols = 140;
  const auto x = matrix("outlier", rows, cols, 7);
  for (const BlockSpec& spec : specs()) {
    for (const bool column : {false, true}) {
      const auto laid = column ? ng_oracle::transposed(x, rows, cols) : x;
      const auto q = ng_oracle::quantize(laid, column ? cols : rows, column ? rows : cols, spec);
      const ng::Measurement m = measured(x, rows, cols, spec, column ? ng::Orientation::column : ng::Orientation::row,
                                         {}, {.scales = true, .codes = true});
      std::vector<std::int64_t> counts(m.code_counts.size(), 0);
      for (const std::uint32_t code : q.codes) ++counts.at(code);
      EXPECT_EQ(m.code_counts, counts);
      std::vector<ng::PlacedScale> expected;
      for (std::size_t r = 0; r < q.rows; r += spec.tile_rows) {
        for (std::size_t c = 0; c < q.cols; c += spec.tile_cols) {
          const std::size_t place = column ? c * cols + r : r * cols + c;
          expected.push_back(
              {static_cast<std::int64_t>(place), q.scales[r / spec.tile_rows * q.scale_cols + c / spec.tile_cols]});
        }
      }
      auto got = m.scales;
      const auto by_place = [](const ng::PlacedScale& a, const ng::PlacedScale& b) { return a.place < b.place; };
      std::sort(got.begin(), got.end(), by_place);
      std::sort(expected.begin(), expected.end(), by_place);
      EXPECT_EQ(got, expected) << spec.element << column;
    }
  }
}

// ---- products

/// Measures every product while it runs.
class ProductTap final : public ng::Tap {
 public:
  bool wants(const ng::StepContext&, const ng::Site&) const override { return false; }
  void quantized(const ng::QuantizationEvent&) override {}
  bool wants_product(const ng::StepContext&, const ng::Site&) const override { return true; }
  bool wants_original(const ng::StepContext&, const ng::Site&) const override { return true; }
  void multiplied(const ng::ProductEvent& event) override { elements = backend()->measure_product(event); }

  std::vector<ng::ProductElement> elements;
};

std::vector<float> row_of(const std::vector<float>& x, std::size_t row, std::size_t cols) {
  return {x.begin() + static_cast<std::ptrdiff_t>(row * cols),
          x.begin() + static_cast<std::ptrdiff_t>((row + 1) * cols)};
}

/// An operand of one group as the oracle sees it: rows along the contraction, quantized, transformed, plain.
struct Versions {
  std::vector<float> quantized, transformed, plain;
};
Versions versions(const std::vector<float>& laid, std::size_t rows, std::size_t depth, const BlockSpec& spec) {
  Versions v{ng_oracle::quantize(laid, rows, depth, spec).decoded, laid, laid};
  if (spec.hadamard != 0)
    v.transformed = ng_oracle::hadamard(laid, rows, depth, spec.hadamard, spec.hadamard_signs, spec.hadamard_order,
                                        spec.hadamard_result);
  return v;
}

/// Sums of the program are exact but for one rounding to double, and a multiplication by the tensor scales: 2^-51 of
/// the sum of magnitudes is enough. The oracle's decoded values of a two-level format carry the tensor scale with one
/// FP32 rounding each: 2^-22.
void expect_dot(double got, const std::vector<float>& a, const std::vector<float>& b, double tolerance,
                const std::string& what) {
  const ng_oracle::Dot expected = ng_oracle::dot(a, b);
  EXPECT_NEAR(got, static_cast<double>(expected.sum), tolerance * static_cast<double>(expected.absolute)) << what;
}

// fprop of three experts over a stacked weight; wgrad over the same rows, with a transform, added to what is there.
TEST(RecordMeasure, SampledProducts) {
  const std::int64_t n = 80, k = 64, m_rows = 48;
  const std::vector<std::size_t> extents = {16, 0, 32};
  ng::RowGroups groups, stack;
  groups.offsets = {0, 16, 16, 48};
  stack.offsets = {0, n, 2 * n, 3 * n};
  const auto x = matrix("outlier", 48, 64, 1), w = matrix("normal", 240, 64, 2), dy = matrix("normal", 48, 80, 3);
  for (const bool two_level : {false, true}) {
    BlockSpec spec = specs()[two_level ? 1 : 0];
    for (const bool transformed : {false, true}) {
      if (transformed) {
        spec.hadamard = 16;
        spec.hadamard_signs = ng_oracle::HadamardSigns::te_fixed;
      }
      const double tolerance = two_level ? 0x1p-22 : 0x1p-51;
      const ng::OperandSpec operand{ng::OperandKind::quantized, ng::FormSource::original,
                                    ng_golden::program_spec(spec)};
      const ng::Site site;
      const ng::StepContext context;
      const auto form = [&](const std::vector<float>& values, std::size_t rows, std::size_t cols, ng::Gemm gemm,
                            ng::Operand which, const ng::RowGroups& of) {
        const ng::FormRequest request{gemm, which, operand, &site};
        return backend()->produce(context, ng_golden::uploaded(*backend(), values, rows, cols), of, {&request, 1});
      };
      ProductTap tap;
      backend()->set_tap(&tap);

      // fprop: every row is sampled where the logical tensor is as small as this; the samples are about 16 of 48.
      const auto forward = form(x, 48, 64, ng::Gemm::fprop, ng::Operand::activation, groups);
      const auto weight = form(w, 240, 64, ng::Gemm::fprop, ng::Operand::weight, stack);
      ng::Tensor y = backend()->tensor(ng::Dtype::bf16, m_rows, n);
      backend()->grouped_matmul(context, {.gemm = ng::Gemm::fprop,
                                          .site = &site,
                                          .a = forward.find(ng::Gemm::fprop),
                                          .b = weight.find(ng::Gemm::fprop),
                                          .out = y.view,
                                          .groups = &groups});
      const auto rows = ng::sampled_indices(m_rows, ng::kSampledRows);
      const auto columns = ng::sampled_indices(n, ng::kSampledColumns);
      ASSERT_EQ(tap.elements.size(), rows.size() * columns.size());
      EXPECT_GT(rows.size(), 12u);
      std::vector<std::uint16_t> out(static_cast<std::size_t>(m_rows * n));
      backend()->download(out.data(), y.view);
      const auto group_of = [](std::size_t row) { return row < 16 ? 0u : 2u; };
      std::size_t at = 0;
      for (const std::int64_t row : rows) {
        const auto g = group_of(static_cast<std::size_t>(row));
        const std::size_t first = g == 0 ? 0 : 16, count = extents[g];
        const auto part = [&](const std::vector<float>& v, std::size_t begin, std::size_t r, std::size_t c) {
          return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(begin * c),
                                    v.begin() + static_cast<std::ptrdiff_t>((begin + r) * c));
        };
        const Versions a = versions(part(x, first, count, 64), count, 64, spec);
        const Versions b = versions(part(w, g * 80, 80, 64), 80, 64, spec);
        for (const std::int64_t column : columns) {
          const ng::ProductElement& e = tap.elements[at++];
          ASSERT_EQ(e.place, row * n + column);
          const auto in = static_cast<std::size_t>(row) - first, col = static_cast<std::size_t>(column);
          const std::uint32_t given = std::uint32_t{out[static_cast<std::size_t>(row * n + column)]} << 16;
          EXPECT_EQ(e.given.value(), static_cast<double>(ng_oracle::float_of(given)));
          expect_dot(e.exact, row_of(a.quantized, in, 64), row_of(b.quantized, col, 64), tolerance, "exact");
          expect_dot(e.plain, row_of(a.plain, in, 64), row_of(b.plain, col, 64), 0x1p-51, "plain");
          expect_dot(e.first, row_of(a.quantized, in, 64), row_of(b.transformed, col, 64), tolerance, "first");
          expect_dot(e.second, row_of(a.transformed, in, 64), row_of(b.quantized, col, 64), tolerance, "second");
        }
      }

      // wgrad, added to a gradient of another micro-batch.
      const auto grad = form(dy, 48, 80, ng::Gemm::wgrad, ng::Operand::grad_output, groups);
      const auto input = form(x, 48, 64, ng::Gemm::wgrad, ng::Operand::activation, groups);
      const auto before = matrix("normal", 240, 64, 4);
      const ng::Tensor dw = ng_golden::uploaded(*backend(), before, 240, 64);
      backend()->grouped_matmul(context, {.gemm = ng::Gemm::wgrad,
                                          .site = &site,
                                          .a = grad.find(ng::Gemm::wgrad),
                                          .b = input.find(ng::Gemm::wgrad),
                                          .out = dw.view,
                                          .accumulate = true,
                                          .groups = &groups});
      backend()->set_tap(nullptr);
      std::vector<float> after(before.size());
      backend()->download(after.data(), dw.view);
      const auto w_rows = ng::sampled_indices(240, ng::kSampledRows),
                 w_columns = ng::sampled_indices(k, ng::kSampledColumns);
      ASSERT_EQ(tap.elements.size(), w_rows.size() * w_columns.size());
      at = 0;
      for (const std::int64_t row : w_rows) {
        const auto g = static_cast<std::size_t>(row / n);
        const std::size_t first = g == 0 ? 0 : 16, count = extents[g];
        const auto turned = [&](const std::vector<float>& v, std::size_t cols) {
          return ng_oracle::transposed(
              std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(first * cols),
                                 v.begin() + static_cast<std::ptrdiff_t>((first + count) * cols)),
              count, cols);
        };
        const Versions a = versions(turned(dy, 80), 80, count, spec), b = versions(turned(x, 64), 64, count, spec);
        for (const std::int64_t column : w_columns) {
          const ng::ProductElement& e = tap.elements[at++];
          const auto i = static_cast<std::size_t>(row * k + column);
          ASSERT_EQ(e.place, row * k + column);
          EXPECT_EQ(e.given.value(), static_cast<double>(after[i]) - static_cast<double>(before[i]));
          const auto r = static_cast<std::size_t>(row % n), c = static_cast<std::size_t>(column);
          expect_dot(e.exact, row_of(a.quantized, r, count), row_of(b.quantized, c, count), tolerance, "wgrad exact");
          expect_dot(e.plain, row_of(a.plain, r, count), row_of(b.plain, c, count), 0x1p-51, "wgrad plain");
          expect_dot(e.first, row_of(a.quantized, r, count), row_of(b.transformed, c, count), tolerance, "wgrad first");
          expect_dot(e.second, row_of(a.transformed, r, count), row_of(b.quantized, c, count), tolerance,
                     "wgrad second");
        }
      }
    }
  }
}

TEST(RecordMeasure, SamplesAreSpreadAndDistinct) {
  for (const std::int64_t extent : {0, 1, 16, 17, 48, 4096, 100'000'000}) {
    const auto indices = ng::sampled_indices(extent, 16);
    EXPECT_LE(indices.size(), 16u);
    EXPECT_GE(static_cast<std::int64_t>(indices.size()), extent <= 16 ? extent : 13);  // two may fall together
    EXPECT_TRUE(std::is_sorted(indices.begin(), indices.end()));
    EXPECT_EQ(std::adjacent_find(indices.begin(), indices.end()), indices.end());
    for (const std::int64_t i : indices) EXPECT_TRUE(i >= 0 && i < extent);
    if (extent < 4096) continue;
    std::vector<std::int64_t> slots(8, 0);  // token * 8 + slot: no slot is left out
    for (const std::int64_t i : ng::sampled_indices(extent, 64)) ++slots[static_cast<std::size_t>(i % 8)];
    EXPECT_GT(*std::min_element(slots.begin(), slots.end()), 0);
  }
}

}  // namespace
}  // namespace ng_test
