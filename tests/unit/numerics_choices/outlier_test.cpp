// SPDX-License-Identifier: Apache-2.0
//
// Claim: the outlier split clamps at the ranks of MS-AMP, its residual has the oracle's rows, columns and codes, codes
// and scales are those of the clamped matrix, the compensation product is the oracle's chain bit for bit, and clamped +
// residual is the original wherever FP32 and BF16 can say it. Every scope, orientation, group and residual format.
// Alone: build/bin/outliers_vs_oracle --gtest_filter='Outliers*'
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>

#include "golden/program_subject.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/quantize/outlier_split.hpp"
#include "oracle/blocks.hpp"
#include "oracle/measures.hpp"
#include "oracle/outliers.hpp"
#include "unit/numerics_vs_oracle/matrices.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;

ng::Backend& backend() {
  static const std::unique_ptr<ng::Backend> made = ng::make_cpu_backend({2, ng::Arithmetic::ieee, false});
  return *made;
}

template <class T>
std::vector<T> read(const ng::Buffer& buffer, std::int64_t count) {
  return std::vector<T>(buffer.as<T>(), buffer.as<T>() + count);
}

void expect_residual(const ng::SparseResidual& got, const ng_oracle::OutlierSplit& expected, std::int64_t row0,
                     std::int64_t col0, std::int64_t rows, const std::string& what) {
  // Rows [row0, row0 + rows) of `got`, only entries from column col0 on (a group).
  const auto pointers = read<std::int64_t>(got.row_pointers, got.rows + 1);
  std::size_t next = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::size_t end = static_cast<std::size_t>(expected.row_pointers[static_cast<std::size_t>(r) + 1]);
    std::int64_t i = pointers[static_cast<std::size_t>(row0 + r)];
    while (i < pointers[static_cast<std::size_t>(row0 + r) + 1] && got.columns.as<std::int32_t>()[i] < col0) ++i;
    for (; next < end; ++next, ++i) {
      ASSERT_LT(i, pointers[static_cast<std::size_t>(row0 + r) + 1]) << what << " row " << r;
      ASSERT_EQ(got.columns.as<std::int32_t>()[i] - col0, expected.columns[next]) << what << " row " << r;
      ASSERT_EQ(got.code(i), expected.codes[next]) << what << " row " << r << " column " << expected.columns[next];
    }
  }
  ASSERT_EQ(next, expected.codes.size()) << what;
}

ng_oracle::BlockSpec token() {
  ng_oracle::BlockSpec spec;
  spec.tile_cols = 0;
  spec.scale_format = ng_oracle::ScaleFormat::f32;
  spec.rule = ng_oracle::ScaleRule::absmax;
  spec.encode.nan = ng_oracle::NanRule::zero;
  return spec;
}

ng::QuantizerSpec with_outliers(const ng_oracle::BlockSpec& spec, double quantile, bool whole,
                                ng::OutlierResidual residual) {
  ng::QuantizerSpec q = ng_golden::program_spec(spec);
  q.outlier = {quantile, whole ? ng::OutlierScope::tensor : ng::OutlierScope::row, residual};
  return q;
}

const char* format_name(ng::OutlierResidual residual) {
  return residual == ng::OutlierResidual::none   ? ""
         : residual == ng::OutlierResidual::bf16 ? "bf16"
         : residual == ng::OutlierResidual::e4m3 ? "e4m3"
                                                 : "e5m2";
}

TEST(Outliers, RanksAreThoseOfMsAmp) {
  const ng::OutlierRanks published = ng::outlier_ranks(0.99, 2048);
  EXPECT_EQ(published.low, 20);
  EXPECT_EQ(published.high, 2027);
  for (const double quantile : {0.999, 0.99, 0.97, 0.75, 0.5000001, 0.9999999999999999}) {
    for (std::int64_t n = 1; n < 3000; n += 1 + n / 40) {
      const ng::OutlierRanks ranks = ng::outlier_ranks(quantile, n);
      EXPECT_EQ(ranks.low, static_cast<std::int64_t>((1.0 - quantile) * static_cast<double>(n)));
      EXPECT_EQ(ranks.high, std::min(n - 1, static_cast<std::int64_t>(quantile * static_cast<double>(n))));
    }
  }
}

TEST(Outliers, SortKeysOrderAllFloats) {
  std::vector<float> x = {-INFINITY, -3.0F, -0x1p-149F, -0.0F, 0.0F, 0x1p-149F, 1.0F, INFINITY};
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(bits_of(ng::value_of_sort_key(ng::sort_key(x[i]))), bits_of(x[i]));
    if (i > 0) {
      EXPECT_LT(ng::sort_key(x[i - 1]), ng::sort_key(x[i]));
    }
  }
}

TEST(Outliers, SplitsCodesAndMeasuresEqualTheOracle) {
  std::size_t compared = 0;
  const std::size_t rows = 24, cols = 70;
  for (const std::string& kind : matrix_kinds()) {
    const std::vector<float> x = matrix(kind, rows, cols, 31);
    for (const bool column : {false, true}) {
      const std::vector<float> laid = column ? ng_oracle::transposed(x, rows, cols) : x;
      const std::size_t r = column ? cols : rows, c = column ? rows : cols;
      for (const bool whole : {false, true}) {
        for (const double quantile : {0.99, 0.9, 0.51}) {
          for (const auto residual : {ng::OutlierResidual::bf16, ng::OutlierResidual::e4m3, ng::OutlierResidual::e5m2,
                                      ng::OutlierResidual::none}) {
            ng_oracle::BlockSpec mx;
            mx.encode.nan = ng_oracle::NanRule::zero;
            for (const ng_oracle::BlockSpec& block : {token(), mx}) {
              const std::string what = kind + (column ? " column" : " row") + (whole ? " tensor " : " row ") +
                                       std::to_string(quantile) + " " + format_name(residual);
              const auto split = ng_oracle::split_outliers(laid, r, c, quantile, whole, format_name(residual));
              const ng_oracle::Quantized expected = ng_oracle::quantize(split.clamped, r, c, block);
              const ng::QuantizerSpec spec = with_outliers(block, quantile, whole, residual);
              const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
              const ng::Orientation axis = column ? ng::Orientation::column : ng::Orientation::row;
              const ng::QuantizedTensor q = backend().quantize({}, input.view, {}, spec, axis, {});
              const ng_oracle::Quantized got = ng_golden::read_back(backend(), q);
              ASSERT_EQ(got.codes, expected.codes) << what;
              ASSERT_EQ(got.scale_codes, expected.scale_codes) << what;
              ASSERT_EQ(q.residual == nullptr, residual == ng::OutlierResidual::none) << what;
              if (q.residual != nullptr) {
                ASSERT_NO_FATAL_FAILURE(expect_residual(*q.residual, split, 0, 0, static_cast<std::int64_t>(r), what));
              }
              // The original was not touched.
              std::vector<float> after(x.size());
              backend().download(after.data(), input.view);
              for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(bits_of(after[i]), bits_of(x[i]));
              ++compared;
            }
          }
        }
      }
    }
  }
  std::printf("outlier splits compared with the oracle: %zu\n", compared);
}

TEST(Outliers, MeasuresCountTheResidual) {
  const std::size_t rows = 40, cols = 300;
  const std::vector<float> x = matrix("outlier", rows, cols, 8);
  const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
  double previous = 1;
  for (const auto residual : {ng::OutlierResidual::none, ng::OutlierResidual::bf16}) {
    const ng::QuantizerSpec spec = with_outliers(token(), 0.97, false, residual);
    const ng::QuantizedTensor q = backend().quantize({}, input.view, {}, spec, ng::Orientation::row, {});
    const ng::StepContext context;
    const ng::Site site;
    const ng::RowGroups groups;
    const ng::MeasureSums sums =
        backend().measure(ng::QuantizationEvent{context, site, input.view, groups, q}, {}).sums;
    const auto split = ng_oracle::split_outliers(x, rows, cols, 0.97, false, format_name(residual));
    ng_oracle::Quantized expected = ng_oracle::quantize(split.clamped, rows, cols, token());
    for (std::size_t i = 0; i < x.size(); ++i)
      if (split.clamped[i] != x[i] && residual != ng::OutlierResidual::none)
        expected.decoded[i] = expected.decoded[i] + split.residual[i];
    const ng_oracle::Measures wanted = ng_oracle::measure(x, expected, token());
    // Sums of 12000 doubles in another order: below 12000 * 2^-53 = 1.4e-12 of themselves.
    EXPECT_NEAR(sums.error2 / sums.square, wanted.rel_mse, 2e-12 * wanted.rel_mse);
    EXPECT_EQ(sums.max_abs_error, static_cast<double>(static_cast<float>(wanted.max_abs_error)));
    EXPECT_LT(wanted.rel_mse, previous) << "compensation must help on outliers";
    previous = wanted.rel_mse;
  }
}

TEST(Outliers, GroupsAreSplitOnTheirOwn) {
  const std::size_t rows = 37, cols = 48;
  const std::vector<float> x = matrix("outlier", rows, cols, 3);
  const ng::RowGroups groups{{0, 5, 5, 20, 37}};
  const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
  for (const bool column : {false, true}) {
    for (const bool whole : {false, true}) {
      const ng::QuantizerSpec spec = with_outliers(token(), 0.9, whole, ng::OutlierResidual::bf16);
      const ng::QuantizedTensor q =
          backend().quantize({}, input.view, groups, spec, column ? ng::Orientation::column : ng::Orientation::row, {});
      std::int64_t entries = 0;
      for (std::size_t g = 0; g + 1 < groups.offsets.size(); ++g) {
        const std::size_t first = static_cast<std::size_t>(groups.offsets[g]);
        const std::size_t count = static_cast<std::size_t>(groups.offsets[g + 1]) - first;
        const std::vector<float> part(x.begin() + static_cast<std::ptrdiff_t>(first * cols),
                                      x.begin() + static_cast<std::ptrdiff_t>((first + count) * cols));
        const auto laid = column ? ng_oracle::transposed(part, count, cols) : part;
        const auto split =
            ng_oracle::split_outliers(laid, column ? cols : count, column ? count : cols, 0.9, whole, "bf16");
        const auto at = static_cast<std::int64_t>(first);
        ASSERT_NO_FATAL_FAILURE(expect_residual(*q.residual, split, column ? 0 : at, column ? at : 0,
                                                static_cast<std::int64_t>(column ? cols : count),
                                                column ? "column" : "row"));
        entries += static_cast<std::int64_t>(split.codes.size());
      }
      EXPECT_EQ(q.residual->count, entries);
    }
  }
}

TEST(Outliers, ClampedPlusResidualIsTheOriginal) {
  // FP32: x - bound is exact if x is at most twice the bound (Sterbenz), and then bound + (x - bound) == x. With inputs
  // of 8 significant bits in two binades the difference also fits BF16, so nothing is lost at all.
  const std::size_t rows = 16, cols = 2048;
  std::mt19937 engine(4);
  std::vector<float> x(rows * cols);
  for (float& v : x) v = (engine() % 2 == 0 ? 1.0F : -1.0F) * (1.0F + static_cast<float>(engine() % 128) / 128);
  ng::QuantizerSpec spec = with_outliers(token(), 0.99, false, ng::OutlierResidual::bf16);
  const ng::Tensor input = ng_golden::uploaded(backend(), x, rows, cols);
  const ng::QuantizedTensor q = backend().quantize({}, input.view, {}, spec, ng::Orientation::row, {});
  const auto split = ng_oracle::split_outliers(x, rows, cols, 0.99, false, "bf16");
  std::size_t clamped = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(bits_of(split.clamped[i] + split.residual[i]), bits_of(x[i]));
    clamped += split.clamped[i] != x[i] ? 1 : 0;
  }
  EXPECT_EQ(static_cast<std::size_t>(q.residual->count), clamped);
  EXPECT_GT(clamped, 0U);
  // Distinct values: 20 below rank 20 and 20 above rank 2027 of each row of 2048.
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 1048573) % (2048 * 512)) - 500000.0F;
  const ng::Tensor distinct = ng_golden::uploaded(backend(), x, rows, cols);
  const ng::QuantizedTensor d = backend().quantize({}, distinct.view, {}, spec, ng::Orientation::row, {});
  for (std::int64_t r = 0; r < static_cast<std::int64_t>(rows); ++r)
    EXPECT_EQ(d.residual->row_pointers.as<std::int64_t>()[r + 1] - d.residual->row_pointers.as<std::int64_t>()[r], 40);
}

TEST(Outliers, CompensationProductIsTheOraclesChain) {
  const std::size_t m = 19, k = 130, n = 23;
  const std::vector<float> a = matrix("outlier", m, k, 12), original = matrix("normal", n, k, 13);
  ng_oracle::BlockSpec channel = token();
  const std::vector<float> quantized = ng_oracle::quantize(original, n, k, channel).decoded;
  for (const auto residual : {ng::OutlierResidual::bf16, ng::OutlierResidual::e4m3, ng::OutlierResidual::e5m2}) {
    const ng::QuantizerSpec spec = with_outliers(token(), 0.95, false, residual);
    const ng::Tensor input = ng_golden::uploaded(backend(), a, m, k);
    const ng::QuantizedTensor q = backend().quantize({}, input.view, {}, spec, ng::Orientation::row, {});
    const auto split = ng_oracle::split_outliers(a, m, k, 0.95, false, format_name(residual));
    for (const bool against_original : {true, false}) {
      const std::vector<float>& weight = against_original ? original : quantized;
      std::vector<float> expected = matrix("normal", m, n, 14);
      const ng::Tensor out = ng_golden::uploaded(backend(), expected, m, n);
      ng_oracle::add_compensation(split, m, k, weight, n, expected);
      backend().add_residual_product(*q.residual, ng_golden::uploaded(backend(), weight, n, k).view, out.view);
      std::vector<float> got(m * n);
      backend().download(got.data(), out.view);
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_EQ(bits_of(got[i]), bits_of(expected[i])) << format_name(residual) << " at " << i / n << ", " << i % n;
    }
  }
}

TEST(Outliers, CompensatedProductIsNearerToTheTrueOne) {
  // (clamped + residual) W^T by two products against X W^T in double: with the residual the error is that of the codes.
  const std::size_t m = 32, k = 512, n = 16;
  const std::vector<float> a = matrix("outlier", m, k, 21), w = matrix("normal", n, k, 22);
  double error[2] = {0, 0};
  const ng::QuantizerSpec spec = with_outliers(token(), 0.95, false, ng::OutlierResidual::bf16);
  const ng::Tensor input = ng_golden::uploaded(backend(), a, m, k);
  const ng::QuantizedTensor q = backend().quantize({}, input.view, {}, spec, ng::Orientation::row, {});
  const std::vector<float> decoded = ng_golden::read_back(backend(), q).decoded;
  std::vector<float> main(m * n);
  std::vector<double> exact(m * n);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0, truth = 0;
      for (std::size_t l = 0; l < k; ++l) {
        sum += static_cast<double>(decoded[i * k + l]) * static_cast<double>(w[j * k + l]);
        truth += static_cast<double>(a[i * k + l]) * static_cast<double>(w[j * k + l]);
      }
      main[i * n + j] = static_cast<float>(sum);
      exact[i * n + j] = truth;
    }
  }
  const ng::Tensor out = ng_golden::uploaded(backend(), main, m, n);
  backend().add_residual_product(*q.residual, ng_golden::uploaded(backend(), w, n, k).view, out.view);
  std::vector<float> both(m * n);
  backend().download(both.data(), out.view);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    error[0] += std::pow(static_cast<double>(main[i]) - exact[i], 2);
    error[1] += std::pow(static_cast<double>(both[i]) - exact[i], 2);
  }
  EXPECT_LT(error[1], error[0] / 100);
}

}  // namespace
}  // namespace ng_test
