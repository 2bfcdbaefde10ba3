// SPDX-License-Identifier: Apache-2.0
//
// Claim: the error sums that the CPU backend returns give the oracle's measures (numerics.md's definitions in long
// double): relative error to 1e-12 for ratios of sums, exactly for counts, maxima to one FP32 rounding.
// Tolerance: a sum of n terms of one sign in double over leaves of 256 and a tree is off by at most (256 + log2 n)
// 2^-53 of itself, below 1e-13 here; ratios double it. `bias` sums terms of both signs, and is compared in units of sum
// |x|. Alone: ctest -R measure_vs_oracle
#include <gtest/gtest.h>

#include "golden/program_subject.hpp"
#include "matrices.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "oracle/measures.hpp"

namespace ng_test {
namespace {

using ng_oracle::BlockSpec;
using ng_oracle::ScaleFormat;
using ng_oracle::ScaleRule;

struct Case {
  const char* element;
  ScaleFormat format;
  ScaleRule rule;
  std::size_t tile_rows, tile_cols;
};

const Case kCases[] = {{"e4m3", ScaleFormat::e8m0, ScaleRule::floor, 1, 32},
                       {"e5m2", ScaleFormat::e8m0, ScaleRule::rceil, 1, 32},
                       {"e2m1", ScaleFormat::e8m0, ScaleRule::floor, 1, 32},
                       {"e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16},
                       {"e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, 16},
                       {"e4m3", ScaleFormat::f32, ScaleRule::absmax, 1, 128},
                       {"e4m3", ScaleFormat::f32, ScaleRule::absmax_pow2, 128, 128},
                       {"e2m1", ScaleFormat::f32, ScaleRule::absmax, 1, 0}};

BlockSpec spec_of(const Case& k) {
  BlockSpec spec;
  spec.element = k.element;
  spec.scale_format = k.format;
  spec.rule = k.rule;
  spec.tile_rows = k.tile_rows;
  spec.tile_cols = k.tile_cols;
  spec.encode.nan = ng_oracle::NanRule::zero;
  return spec;
}

void expect_close(double got, double expected, const std::string& what) {
  if (std::isnan(expected) || std::isinf(expected)) return;
  EXPECT_NEAR(got, expected, 1e-12 * std::fabs(expected)) << what;
}

TEST(Measure, SumsGiveTheDefinitions) {
  const std::size_t rows = 45, cols = 300;
  ng::BackendOptions options;
  options.threads = 2;
  const auto backend = ng::make_cpu_backend(options);
  const ng::StepContext context;
  const ng::Site site;
  const ng::RowGroups groups;
  for (const Case& k : kCases) {
    const BlockSpec spec = spec_of(k);
    for (const std::string kind : {"normal", "wide", "zero_tail", "outlier", "ties", "signed_zeros", "subnormal"}) {
      const auto x = matrix(kind, rows, cols, 21);
      const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
      for (const bool column : {false, true}) {
        const std::string what = std::string(k.element) + " " + kind + (column ? " column" : " row");
        const auto q = backend->quantize(context, input.view, groups, ng_golden::program_spec(spec),
                                         column ? ng::Orientation::column : ng::Orientation::row, site);
        const ng::MeasureSums s =
            backend->measure(ng::QuantizationEvent{context, site, input.view, groups, q}, {}).sums;
        const auto laid = column ? ng_oracle::transposed(x, rows, cols) : x;
        const auto oracle = ng_oracle::quantize(laid, column ? cols : rows, column ? rows : cols, spec);
        const ng_oracle::Measures m = ng_oracle::measure(laid, oracle, spec);
        EXPECT_EQ(s.count, static_cast<double>(x.size())) << what;
        expect_close(s.error2 / s.square, m.rel_mse, what + " rel_mse");
        expect_close(s.product / std::sqrt(s.decoded2 * s.square), m.cosine, what + " cosine");
        EXPECT_NEAR(s.signed_error / s.absolute, m.bias, 1e-13) << what << " bias";
        EXPECT_EQ(s.underflow / s.nonzero, m.underflow_rate) << what;
        EXPECT_EQ(s.saturated / s.count, m.saturation_rate) << what;
        EXPECT_EQ(s.max_abs_error, static_cast<double>(static_cast<float>(m.max_abs_error))) << what;
        EXPECT_EQ(s.max_rel_error, static_cast<double>(static_cast<float>(m.max_rel_error))) << what;
        if (s.scale_count > 0) {
          EXPECT_NEAR(s.scale_log2_sum / s.scale_count, m.scale_log2_mean, 1e-12 * 128) << what;
          EXPECT_DOUBLE_EQ(s.scale_log2_min, m.scale_log2_min) << what;
          EXPECT_DOUBLE_EQ(s.scale_log2_max, m.scale_log2_max) << what;
        } else {
          EXPECT_TRUE(std::isnan(m.scale_log2_mean)) << what;
        }
      }
    }
  }
}

TEST(Measure, DoubleQuantization) {
  const std::size_t rows = 45, cols = 70;
  const auto backend = ng::make_cpu_backend({});
  const ng::StepContext context;
  const ng::Site site;
  const ng::RowGroups groups;
  for (const Case& row_case : kCases) {
    for (const Case& column_case : kCases) {
      const BlockSpec row_spec = spec_of(row_case), column_spec = spec_of(column_case);
      const auto x = matrix("outlier", rows, cols, 31);
      const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
      const auto q = backend->quantize(context, input.view, groups, ng_golden::program_spec(column_spec),
                                       ng::Orientation::column, site);
      const ng::QuantizerSpec first = ng_golden::program_spec(row_spec);
      const ng::MeasureSums s = backend
                                    ->measure(ng::QuantizationEvent{context, site, input.view, groups, q},
                                              {.row_spec = &first, .double_quantization = true})
                                    .sums;
      const auto d = ng_oracle::double_quantization(x, rows, cols, row_spec, column_spec);
      const std::string what = std::string(row_case.element) + " then " + column_case.element;
      expect_close(s.double_error2 / s.square, d.error, what);
      EXPECT_NEAR((s.double_total2 - s.single_total2) / s.square, d.excess, 1e-12) << what;
      EXPECT_EQ(s.double_changed / s.count, d.changed) << what;
    }
  }
}

TEST(Measure, HadamardIsMeasuredAfterTheRotation) {
  const std::size_t rows = 32, cols = 48;
  const auto backend = ng::make_cpu_backend({});
  const ng::StepContext context;
  const ng::Site site;
  const ng::RowGroups groups;
  BlockSpec spec = spec_of(kCases[3]);
  spec.hadamard = 16;
  spec.hadamard_signs = ng_oracle::HadamardSigns::te_fixed;
  const auto x = matrix("outlier", rows, cols, 2);
  const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
  const auto q =
      backend->quantize(context, input.view, groups, ng_golden::program_spec(spec), ng::Orientation::column, site);
  const ng::MeasureSums s = backend->measure(ng::QuantizationEvent{context, site, input.view, groups, q}, {}).sums;
  const auto laid = ng_oracle::transposed(x, rows, cols);
  const auto rotated =
      ng_oracle::hadamard(laid, cols, rows, 16, spec.hadamard_signs, spec.hadamard_order, spec.hadamard_result);
  BlockSpec plain = spec;
  plain.hadamard = 0;
  const auto m = ng_oracle::measure(rotated, ng_oracle::quantize(rotated, cols, rows, plain), plain);
  expect_close(s.error2 / s.square, m.rel_mse, "rotated");
}

TEST(Measure, EmptyAndZeroTensorsDoNotCrash) {
  const auto backend = ng::make_cpu_backend({});
  const ng::StepContext context;
  const ng::Site site;
  const ng::RowGroups groups;
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{0, 8}, {8, 0}, {4, 40}}) {
    for (const Case& k : kCases) {
      const std::vector<float> x(rows * cols, 0.0F);
      const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
      const auto q = backend->quantize(context, input.view, groups, ng_golden::program_spec(spec_of(k)),
                                       ng::Orientation::row, site);
      const ng::MeasureSums s = backend->measure(ng::QuantizationEvent{context, site, input.view, groups, q}, {}).sums;
      EXPECT_EQ(s.error2, 0);
      EXPECT_EQ(s.square, 0);
      EXPECT_EQ(s.nonzero, 0);
      EXPECT_EQ(s.saturated, 0);
    }
  }
}

}  // namespace
}  // namespace ng_test
