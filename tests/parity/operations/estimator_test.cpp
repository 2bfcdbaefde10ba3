// SPDX-License-Identifier: Apache-2.0
//
// Claim: the differentiable gradient estimator of the CUDA backend multiplies by the CPU backend's factors, bit for
// bit, for every tile and every choice. Alone: build/release/bin/operations_on_host
// --gtest_filter='OperationParity.Estimator*'
#include "operations/quantized.hpp"

namespace ng_test {
namespace {

using namespace ng;

TEST_F(OperationParity, EstimatorSpecsAndTiles) {
  std::uint32_t seed = 0;
  for (const NamedSpec& named : training_specs()) {
    const QuantizerSpec& spec = named.spec;
    if (spec.hadamard.size != 0 || spec.rule == ScaleRule::four_over_six) continue;
    for (const EstimatorBeyond beyond : {EstimatorBeyond::zero, EstimatorBeyond::last_interval, EstimatorBeyond::one})
      for (const EstimatorMean mean : {EstimatorMean::as_published, EstimatorMean::normalized})
        for (const Values kind : {Values::normal, Values::wide, Values::special}) {
          ++seed;
          EstimatorSpec estimator{EstimatorKind::differentiable, beyond, mean, 5.0f, 3.0f};
          if (seed % 5 == 0) estimator.k = 3.25f;
          if (seed % 7 == 0) estimator.clip = 0.75f;
          if (seed % 11 == 0) estimator.k = 1.0f;
          if (seed % 13 == 0) estimator.kind = EstimatorKind::straight_through;
          QuantizerSpec used = spec;
          if (seed % 3 == 0 && spec.scale_format == ScaleFormat::f32) used.application = ScaleApplication::divide;
          const std::int64_t cols = seed % 2 == 0 ? 96 : 53;
          expect_parity(named.name, [&](Backend& b) {
            const Tensor weight = tensor_of(b, Dtype::f32, 48, cols, kind, seed, seed % 4 == 0 ? 4 : 0);
            const Tensor gradient = tensor_of(b, Dtype::f32, 48, cols, Values::normal, seed + 1000, seed % 2 * 3);
            const RowGroups groups = seed % 2 == 0 ? RowGroups{} : ragged_groups(48, 1);
            b.multiply_by_estimator(estimator, used, groups, weight.view, gradient.view);
            Outputs out;
            out.add(b, "gradient", gradient.view);
            return out;
          });
        }
  }
}

// Rows that are longer than what a block reads at once, as the published recipe scales them.
TEST_F(OperationParity, EstimatorLongRows) {
  const EstimatorSpec estimator{EstimatorKind::differentiable, EstimatorBeyond::zero, EstimatorMean::as_published, 5.0f,
                                3.0f};
  for (const char* name : {"fp4_token", "mxfp4", "fp4_channel"})
    expect_parity(name, [&](Backend& b) {
      const Tensor weight = tensor_of(b, Dtype::f32, 12, 9000, Values::normal, 77);
      const Tensor gradient = tensor_of(b, Dtype::f32, 12, 9000, Values::normal, 78);
      b.multiply_by_estimator(estimator, preset(name), ragged_groups(12, 2), weight.view, gradient.view);
      Outputs out;
      out.add(b, "gradient", gradient.view);
      return out;
    });
}

}  // namespace
}  // namespace ng_test
