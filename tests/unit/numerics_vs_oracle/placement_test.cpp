// SPDX-License-Identifier: Apache-2.0
//
// Claim: stochastic rounding in the CPU backend draws by the element's place in the logical tensor of the step, so that
// orientation, micro-batches, permuted rows and padding never change a code; groups of rows (experts) are quantized as
// if each were a tensor; NaN that a quantizer forbids is counted.
// Alone: ctest -R placement_vs_oracle
#include <gtest/gtest.h>

#include <numeric>

#include "golden/program_subject.hpp"
#include "matrices.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "oracle/transforms.hpp"

namespace ng_test {
namespace {

using ng_oracle::BlockSpec;
using ng_oracle::Quantized;
using ng_oracle::Rounding;
using ng_oracle::ScaleFormat;
using ng_oracle::ScaleRule;

constexpr std::uint32_t kSeed = 1234, kTensor = 0xABCD1234, kStep = 77;
constexpr auto kPurpose = static_cast<std::uint32_t>(ng::RandomPurpose::stochastic_rounding);

std::unique_ptr<ng::Backend> cpu(int threads = 2) {
  ng::BackendOptions options;
  options.threads = threads;
  return ng::make_cpu_backend(options);
}

ng::StepContext context() {
  ng::StepContext c;
  c.seed = kSeed;
  c.step = kStep;
  return c;
}

ng::Site site() {
  ng::Site s;
  s.name = "layer.0/fc1/activation/fprop";
  s.tensor_id = kTensor;
  return s;
}

BlockSpec stochastic_spec(const std::string& element, ScaleFormat format, ScaleRule rule, std::size_t tile_rows,
                          std::size_t tile_cols, int bits) {
  BlockSpec spec;
  spec.element = element;
  spec.scale_format = format;
  spec.rule = rule;
  spec.tile_rows = tile_rows;
  spec.tile_cols = tile_cols;
  spec.encode.rounding = Rounding::stochastic;
  spec.encode.stochastic_bits = bits;
  spec.encode.nan = ng_oracle::NanRule::zero;
  return spec;
}

/// Oracle's draw for logical element (row, col) of a tensor with `cols` columns.
std::uint32_t draw(std::uint64_t row, std::uint64_t col, std::uint64_t cols, int bits) {
  return ng_oracle::element_draw(kSeed, kPurpose, kTensor, kStep, row * cols + col, bits);
}

std::vector<BlockSpec> stochastic_specs() {
  std::vector<BlockSpec> all;
  for (const int bits : {8, 16, 32}) {
    all.push_back(stochastic_spec("e2m1", ScaleFormat::e8m0, ScaleRule::floor, 1, 32, bits));
    all.push_back(stochastic_spec("e4m3", ScaleFormat::e8m0, ScaleRule::rceil, 1, 32, bits));
    all.push_back(stochastic_spec("e5m2", ScaleFormat::f32, ScaleRule::absmax, 0, 0, bits));
    all.push_back(stochastic_spec("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, 16, bits));
    all.push_back(stochastic_spec("int8", ScaleFormat::e8m0, ScaleRule::floor, 1, 32, bits));
  }
  return all;
}

TEST(Placement, DrawsFollowTheLogicalElementInBothOrientations) {
  const std::size_t rows = 37, cols = 70;
  const auto backend = cpu();
  for (BlockSpec spec : stochastic_specs()) {
    const int bits = spec.encode.stochastic_bits;
    for (const std::string kind : {"normal", "wide", "outlier"}) {
      const auto x = matrix(kind, rows, cols, 3);
      const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
      const auto program = ng_golden::program_spec(spec);
      const Quantized row_form = ng_golden::read_back(
          *backend, backend->quantize(context(), input.view, {}, program, ng::Orientation::row, site()));
      spec.random = [&](std::size_t r, std::size_t c) { return draw(r, c, cols, bits); };
      EXPECT_EQ(row_form.codes, ng_oracle::quantize(x, rows, cols, spec).codes) << spec.element << " bits " << bits;

      const Quantized column_form = ng_golden::read_back(
          *backend, backend->quantize(context(), input.view, {}, program, ng::Orientation::column, site()));
      spec.random = [&](std::size_t r, std::size_t c) { return draw(c, r, cols, bits); };  // (c, r) of the original
      EXPECT_EQ(column_form.codes, ng_oracle::quantize(ng_oracle::transposed(x, rows, cols), cols, rows, spec).codes)
          << spec.element << " bits " << bits;
    }
  }
}

TEST(Placement, PartsAndPermutedRowsKeepTheirDraws) {
  // A logical tensor [64, 96], far into a step: rows 20..31, columns 32..95, then rows in another order.
  const std::size_t rows = 12, cols = 64, logical_cols = 96, row0 = 20, col0 = 32;
  const auto backend = cpu();
  const auto x = matrix("normal", rows, cols, 5);
  for (BlockSpec spec : stochastic_specs()) {
    const int bits = spec.encode.stochastic_bits;
    ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
    input.view.placement = ng::Placement{64, logical_cols, row0, col0, nullptr};
    const auto program = ng_golden::program_spec(spec);
    const auto part = ng_golden::read_back(
        *backend, backend->quantize(context(), input.view, {}, program, ng::Orientation::row, site()));
    spec.random = [&](std::size_t r, std::size_t c) { return draw(row0 + r, col0 + c, logical_cols, bits); };
    EXPECT_EQ(part.codes, ng_oracle::quantize(x, rows, cols, spec).codes) << spec.element << " bits " << bits;

    std::vector<std::int64_t> ids(rows);
    for (std::size_t r = 0; r < rows; ++r) ids[r] = static_cast<std::int64_t>(r * 5 % rows + 3);
    ng::Buffer memory = backend->allocate(rows * sizeof(std::int64_t));
    const ng::Tensor row_ids = ng::make_tensor(memory, ng::Dtype::i64, 1, static_cast<std::int64_t>(rows));
    backend->upload(row_ids.view, ids.data());
    input.view.placement.row_ids = memory.as<std::int64_t>();
    const auto permuted = ng_golden::read_back(
        *backend, backend->quantize(context(), input.view, {}, program, ng::Orientation::column, site()));
    spec.random = [&](std::size_t r, std::size_t c) {
      return draw(static_cast<std::uint64_t>(ids[c]), col0 + r, logical_cols, bits);
    };
    EXPECT_EQ(permuted.codes, ng_oracle::quantize(ng_oracle::transposed(x, rows, cols), cols, rows, spec).codes)
        << spec.element << " bits " << bits;
  }
}

TEST(Placement, AnotherStepSeedOrTensorDrawsOtherwise) {
  const auto backend = cpu();
  const auto x = matrix("normal", 16, 64, 8);
  const ng::Tensor input = ng_golden::uploaded(*backend, x, 16, 64);
  const auto program = ng_golden::program_spec(stochastic_spec("e2m1", ScaleFormat::e8m0, ScaleRule::floor, 1, 32, 8));
  const auto codes = [&](ng::StepContext c, ng::Site s) {
    return ng_golden::read_back(*backend, backend->quantize(c, input.view, {}, program, ng::Orientation::row, s)).codes;
  };
  const auto first = codes(context(), site());
  EXPECT_EQ(first, codes(context(), site()));
  ng::StepContext other = context();
  other.micro_batch = 3;
  other.phase = ng::Phase::recompute;
  EXPECT_EQ(first, codes(other, site())) << "recomputation and micro-batches draw nothing new";
  other.step = kStep + 1;
  EXPECT_NE(first, codes(other, site()));
  other = context();
  other.seed = kSeed + 1;
  EXPECT_NE(first, codes(other, site()));
  ng::Site elsewhere = site();
  elsewhere.tensor_id += 1;
  EXPECT_NE(first, codes(context(), elsewhere));
}

TEST(Groups, EachGroupIsQuantizedAsATensor) {
  // Row groups as experts have them: one empty, one smaller than a tile, odd sizes.
  const std::vector<std::int64_t> offsets = {0, 17, 17, 20, 53};
  const std::size_t rows = 53, cols = 40;
  ng::RowGroups groups;
  groups.offsets = offsets;
  const auto backend = cpu();
  struct Case {
    std::string element;
    ScaleFormat format;
    ScaleRule rule;
    std::size_t tile_rows, tile_cols;
  };
  const Case cases[] = {{"e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, 16},
                        {"e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16},
                        {"e2m1", ScaleFormat::e4m3, ScaleRule::four_over_six_mae, 16, 16},
                        {"e4m3", ScaleFormat::e8m0, ScaleRule::floor, 1, 32},
                        {"e4m3", ScaleFormat::f32, ScaleRule::absmax, 128, 128},
                        {"e4m3", ScaleFormat::f32, ScaleRule::absmax, 0, 0}};
  for (const Case& k : cases) {
    BlockSpec spec = stochastic_spec(k.element, k.format, k.rule, k.tile_rows, k.tile_cols, 8);
    spec.encode.rounding = Rounding::nearest_even;
    const auto x = matrix("wide", rows, cols, 12);
    const ng::Tensor input = ng_golden::uploaded(*backend, x, rows, cols);
    for (const bool column : {false, true}) {
      const ng::QuantizedTensor q = backend->quantize(context(), input.view, groups, ng_golden::program_spec(spec),
                                                      column ? ng::Orientation::column : ng::Orientation::row, site());
      const Quantized got = ng_golden::read_back(*backend, q);
      for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
        const auto begin = static_cast<std::size_t>(offsets[g]), end = static_cast<std::size_t>(offsets[g + 1]);
        const std::vector<float> part(x.begin() + static_cast<std::ptrdiff_t>(begin * cols),
                                      x.begin() + static_cast<std::ptrdiff_t>(end * cols));
        const Quantized expected =
            column ? ng_oracle::quantize(ng_oracle::transposed(part, end - begin, cols), cols, end - begin, spec)
                   : ng_oracle::quantize(part, end - begin, cols, spec);
        const auto tile0 = static_cast<std::size_t>(q.tile_offsets[g]);
        for (std::size_t r = 0; r < expected.rows; ++r) {
          for (std::size_t c = 0; c < expected.cols; ++c) {
            const std::size_t at = column ? r * rows + begin + c : (begin + r) * cols + c;
            ASSERT_EQ(got.codes[at], expected.codes[r * expected.cols + c]) << "group " << g << " column " << column;
            ASSERT_EQ(got.decoded[at], expected.decoded[r * expected.cols + c]);
          }
        }
        for (std::size_t r = 0; r < expected.scale_rows; ++r) {
          for (std::size_t c = 0; c < expected.scale_cols; ++c) {
            const std::size_t at = column ? r * got.scale_cols + tile0 + c : (tile0 + r) * got.scale_cols + c;
            ASSERT_EQ(got.scale_codes[at], expected.scale_codes[r * expected.scale_cols + c]) << "group " << g;
          }
        }
        if (expected.two_level) {
          std::vector<float> tensor_scales(offsets.size() - 1);
          const ng::Tensor view =
              ng::make_tensor(q.tensor_scales, ng::Dtype::f32, 1, static_cast<std::int64_t>(tensor_scales.size()));
          backend->download(tensor_scales.data(), view.view);
          ASSERT_EQ(tensor_scales[g], expected.tensor_scale);
        }
      }
    }
  }
}

TEST(Groups, WholeTensorScope) {
  ng::RowGroups groups;
  groups.offsets = {0, 16, 48};
  const auto backend = cpu();
  const auto x = matrix("wide", 48, 32, 4);
  BlockSpec spec = stochastic_spec("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16, 8);
  spec.encode.rounding = Rounding::nearest_even;
  ng::QuantizerSpec program = ng_golden::program_spec(spec);
  program.tensor_scope = ng::TensorScope::whole;
  const ng::Tensor input = ng_golden::uploaded(*backend, x, 48, 32);
  const auto got = ng_golden::read_back(
      *backend, backend->quantize(context(), input.view, groups, program, ng::Orientation::row, site()));
  const auto expected = ng_oracle::quantize(x, 48, 32, spec);  // 1x16 tiles: groups do not move them
  EXPECT_EQ(got.codes, expected.codes);
  EXPECT_EQ(got.scale_codes, expected.scale_codes);
  EXPECT_EQ(got.decoded, expected.decoded);
}

TEST(Groups, PaddingRowsChangeNothing) {
  // Experts' rows are padded with zero rows; the codes of the real rows are those without padding.
  const std::size_t rows = 21, padded = 32, cols = 64;
  const auto backend = cpu();
  auto x = matrix("normal", rows, cols, 6);
  std::vector<std::int64_t> ids(padded, -1);
  std::iota(ids.begin(), ids.begin() + rows, std::int64_t{0});
  ng::Buffer memory = backend->allocate(padded * sizeof(std::int64_t));
  backend->upload(ng::make_tensor(memory, ng::Dtype::i64, 1, padded).view, ids.data());
  for (const BlockSpec& spec : stochastic_specs()) {
    const auto program = ng_golden::program_spec(spec);
    const ng::Tensor plain = ng_golden::uploaded(*backend, x, rows, cols);
    auto longer = x;
    longer.resize(padded * cols, 0.0F);
    ng::Tensor with_padding = ng_golden::uploaded(*backend, longer, padded, cols);
    with_padding.view.placement = ng::Placement{static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), 0, 0,
                                                memory.as<std::int64_t>()};
    for (const auto orientation : {ng::Orientation::row, ng::Orientation::column}) {
      const auto a =
          ng_golden::read_back(*backend, backend->quantize(context(), plain.view, {}, program, orientation, site()));
      const auto b = ng_golden::read_back(
          *backend, backend->quantize(context(), with_padding.view, {}, program, orientation, site()));
      for (std::size_t r = 0; r < padded; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          const bool row = orientation == ng::Orientation::row;
          const std::uint32_t padded_code = b.codes[row ? r * cols + c : c * padded + r];
          const std::uint32_t expected = r < rows ? a.codes[row ? r * cols + c : c * rows + r] : 0U;
          ASSERT_EQ(padded_code, expected) << spec.element << " row " << r << " col " << c;
        }
      }
    }
  }
}

TEST(Nan, ForbiddenOnesAreCounted) {
  const auto backend = cpu();
  const auto x = matrix("with_nan", 20, 64, 9);
  std::int64_t nans = 0;
  for (const float v : x) nans += std::isnan(v) ? 1 : 0;
  const ng::Tensor input = ng_golden::uploaded(*backend, x, 20, 64);
  for (const ScaleFormat format : {ScaleFormat::e8m0, ScaleFormat::f32}) {
    BlockSpec spec;
    spec.scale_format = format;
    spec.rule = format == ScaleFormat::e8m0 ? ScaleRule::floor : ScaleRule::absmax;
    spec.encode.nan = ng_oracle::NanRule::error;
    for (const auto orientation : {ng::Orientation::row, ng::Orientation::column}) {
      const auto q = backend->quantize(context(), input.view, {}, ng_golden::program_spec(spec), orientation, site());
      EXPECT_EQ(q.nan_inputs, nans);
    }
  }
}

}  // namespace
}  // namespace ng_test
