// SPDX-License-Identifier: Apache-2.0
//
// Claim: the CUDA backend's quantizer and plain kernels, run on the host one thread after the other, give the CPU
// backend's bytes: addressing, tails, groups and packing are right before any GPU sees them.
// Alone: build/release/bin/parity_on_host
#include <gtest/gtest.h>

#include "backend/cuda_quantizer.hpp"
#include "cases.hpp"

namespace ng_test {
namespace {

using namespace ng;
using namespace ng::cuda;

/// The case on the CUDA backend's quantizer, whose memory is the host's.
Outcome run_on_host(const ParityCase& c) {
  std::vector<std::byte> data = c.data();
  TensorView x{data.data(), c.dtype, c.rows, c.cols, c.stride, c.placement};
  if (!c.row_ids.empty()) x.placement.row_ids = c.row_ids.data();
  const CudaQuantizer quantizer(KernelChoice::plain);
  const QuantizedTensor q = quantizer.quantize(c.context, x, c.groups, c.spec, c.orientation, c.site);
  Outcome outcome;
  outcome.codes = to_host<std::uint8_t>(q.codes.data.get(), q.codes.bytes);
  if (q.scales.data != nullptr) outcome.scales = to_host<std::uint8_t>(q.scales.data.get(), q.scales.bytes);
  if (q.has_tensor_scale())
    outcome.tensor_scales = to_host<float>(q.tensor_scales.data.get(), static_cast<std::size_t>(q.groups.count()));
  outcome.nan_inputs = q.nan_inputs;
  outcome.decoded.resize(static_cast<std::size_t>(q.rows * q.cols));
  outcome.decoded_bf16.resize(outcome.decoded.size());
  quantizer.dequantize(q, TensorView{outcome.decoded.data(), Dtype::f32, q.rows, q.cols, q.cols, {}});
  quantizer.dequantize(q, TensorView{outcome.decoded_bf16.data(), Dtype::bf16, q.rows, q.cols, q.cols, {}});
  return outcome;
}

void expect_equal(const std::vector<ParityCase>& cases) {
  int failures = 0;
  ASSERT_GT(cases.size(), 100u);
  for (const ParityCase& c : cases) {
    const std::string what = difference(c, run_on_cpu(c, 1), run_on_host(c));
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
