// SPDX-License-Identifier: Apache-2.0
//
// Claim: the functions that the plain CUDA kernels' threads run, run on the host one thread after the other, give the
// CPU backend's bytes: addressing, tails, groups and packing of the plain kernels are right before any GPU sees them.
// Alone: build/release/bin/parity_on_host
#include <gtest/gtest.h>

#include <numeric>

#include "backend/quantize_plan.hpp"
#include "cases.hpp"
#include "plain/quantize_threads.hpp"

namespace ng_test {
namespace {

using namespace ng;
using namespace ng::cuda;

template <class Source>
void scale_and_encode(QuantizeJob& job, Outcome& outcome, unsigned long long& nan_inputs) {
  const std::int64_t tiles = job.row_tiles * job.col_tiles;
  for (std::int64_t t = 0; t < plain::amax_threads(job); ++t) {
    const plain::AmaxOfPiece piece = plain::amax_thread<Source>(job, t);
    if (piece.amax > job.tile_amax[piece.tile]) job.tile_amax[piece.tile] = piece.amax;
    if (plain::counts_nan(job.spec)) nan_inputs += piece.nan_count;
  }
  if (needs_tensor_amax(job.spec.rule)) {
    for (std::int64_t t = 0; t < tiles; ++t) {
      std::uint32_t& amax = job.group_amax[plain::amax_group(job, t)];
      if (job.tile_amax[t] > amax) amax = job.tile_amax[t];
    }
    for (std::int64_t g = 0; g < job.group_count; ++g) plain::tensor_scale_thread(job, g);
  }
  if (job.spec.scale_format != ScaleFormat::none)
    for (std::int64_t t = 0; t < tiles; ++t) plain::tile_scale_thread<Source>(job, t);
  for (std::int64_t t = 0; t < plain::encode_threads(job); ++t) plain::encode_thread<Source>(job, t);
  outcome.nan_inputs = static_cast<std::int64_t>(nan_inputs);
}

Outcome run_threads_on_host(const ParityCase& c) {
  std::vector<std::byte> data = c.data();
  TensorView x{data.data(), c.dtype, c.rows, c.cols, c.stride, c.placement};
  if (!c.row_ids.empty()) x.placement.row_ids = c.row_ids.data();
  QuantizeJob job = describe_job(c.context, x, c.groups, c.spec, c.orientation, c.site);
  const QuantizedTensor shape = describe_result(job, c.groups);
  const std::vector<GroupExtent> extents = group_extents(c.groups, c.rows, job.tile_height);
  const std::size_t tiles = static_cast<std::size_t>(job.row_tiles * job.col_tiles);
  Outcome outcome;
  outcome.codes.assign(static_cast<std::size_t>(shape.rows * shape.row_bytes), 0xab);
  if (c.spec.scale_format != ScaleFormat::none)
    outcome.scales.assign(static_cast<std::size_t>(shape.scale_rows * shape.scale_cols) *
                              (c.spec.scale_format == ScaleFormat::f32 ? sizeof(float) : 1),
                          0xab);
  if (needs_tensor_amax(c.spec.rule)) outcome.tensor_scales.assign(extents.size(), -1.0f);
  std::vector<std::uint32_t> tile_amax(tiles + 1, 0), group_amax(extents.size(), 0);
  std::vector<TensorScale> tensor(extents.size());
  std::vector<TileScale> tile_scales(tiles + 1);
  std::vector<float> transformed(static_cast<std::size_t>(c.rows * c.cols) + 1);
  unsigned long long nan_inputs = 0;
  job.groups = extents.data();
  job.tile_amax = tile_amax.data();
  job.group_amax = group_amax.data();
  job.tensor = tensor.data();
  job.tiles = tile_scales.data();
  job.transformed = transformed.data();
  job.codes = outcome.codes.data();
  job.row_bytes = shape.row_bytes;
  job.scales = outcome.scales.data();
  job.scale_cols = shape.scale_cols;
  job.tensor_scales = outcome.tensor_scales.data();
  const bool bf16 = c.dtype == Dtype::bf16;
  if (c.spec.hadamard.size != 0) {
    for (std::int64_t t = 0; t < plain::hadamard_threads(job); ++t)
      bf16 ? plain::hadamard_thread<std::uint16_t>(job, t) : plain::hadamard_thread<float>(job, t);
    job.source = job.transformed;
    job.stride = job.cols;
  }
  if (bf16 && c.spec.hadamard.size == 0)
    scale_and_encode<std::uint16_t>(job, outcome, nan_inputs);
  else
    scale_and_encode<float>(job, outcome, nan_inputs);

  DequantizeJob decode;
  decode.spec = c.spec;
  decode.orientation = c.orientation;
  decode.storage = shape.storage;
  decode.rows = shape.rows;
  decode.cols = decode.out_stride = shape.cols;
  decode.groups = extents.data();
  decode.group_count = job.group_count;
  decode.codes = outcome.codes.data();
  decode.row_bytes = shape.row_bytes;
  decode.scales = outcome.scales.data();
  decode.scale_cols = shape.scale_cols;
  decode.tensor_scales = outcome.tensor_scales.empty() ? nullptr : outcome.tensor_scales.data();
  outcome.decoded.resize(static_cast<std::size_t>(shape.rows * shape.cols));
  outcome.decoded_bf16.resize(outcome.decoded.size());
  decode.out = outcome.decoded.data();
  for (std::int64_t t = 0; t < shape.rows * shape.cols; ++t) plain::decode_thread<float>(decode, t);
  decode.out = outcome.decoded_bf16.data();
  for (std::int64_t t = 0; t < shape.rows * shape.cols; ++t) plain::decode_thread<std::uint16_t>(decode, t);
  return outcome;
}

void expect_equal(const std::vector<ParityCase>& cases) {
  int failures = 0;
  ASSERT_GT(cases.size(), 100u);
  for (const ParityCase& c : cases) {
    const std::string what = difference(c, run_on_cpu(c, 1), run_threads_on_host(c));
    if (!what.empty() && ++failures <= 10) ADD_FAILURE() << what;
  }
  EXPECT_EQ(failures, 0) << "of " << cases.size() << " cases";
}

TEST(PlainOnHost, CatalogueRulesRoundings) {
  expect_equal(catalogue_cases());
}
TEST(PlainOnHost, PresetsShapes) {
  expect_equal(preset_cases());
}
TEST(PlainOnHost, EveryBf16) {
  expect_equal(every_bf16_cases());
}

}  // namespace
}  // namespace ng_test
