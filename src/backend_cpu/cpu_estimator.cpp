// SPDX-License-Identifier: Apache-2.0
//
// The gradient estimator of a weight: scales as the quantizer makes them, then one factor per element.
#include <algorithm>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cpu {

namespace {

/// Largest magnitude of a part of a matrix, as FP32 bits; NaN above all.
std::uint32_t amax_bits(const CpuKernels& kernels, const TensorView& x, std::int64_t row0, std::int64_t row1,
                        std::int64_t col0, std::int64_t col1) {
  std::uint32_t amax = 0;
  for (std::int64_t r = row0; r < row1 && col1 > col0; ++r)
    kernels.amax_tiles(reinterpret_cast<const float*>(x.row(r)) + col0, col1 - col0, col1 - col0, true, &amax);
  return amax;
}

}  // namespace

void CpuBackend::multiply_by_estimator(const EstimatorSpec& estimator, const QuantizerSpec& spec,
                                       const RowGroups& groups, const TensorView& weight, const TensorView& gradient) {
  NG_CHECK(weight.dtype == Dtype::f32 && gradient.dtype == Dtype::f32);
  NG_CHECK(spec.hadamard.size == 0 && spec.outlier.quantile == 0.0 && spec.rule != ScaleRule::four_over_six);
  NG_CHECK_EQ(gradient.rows, weight.rows);
  NG_CHECK_EQ(gradient.cols, weight.cols);
  const EstimatorConstants constants = estimator_constants(spec.element, estimator);
  std::uint32_t whole = 0;
  if (needs_tensor_amax(spec.rule)) whole = amax_bits(kernels_, weight, 0, weight.rows, 0, weight.cols);
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t begin = groups.begin(g, weight.rows);
    const std::int64_t rows = groups.end(g, weight.rows) - begin;
    const std::int64_t tile_rows = spec.tile_rows == 0 ? std::max<std::int64_t>(rows, 1) : spec.tile_rows;
    const std::int64_t tile_cols = spec.tile_cols == 0 ? std::max<std::int64_t>(weight.cols, 1) : spec.tile_cols;
    TensorScale tensor{};
    if (needs_tensor_amax(spec.rule))
      tensor = tensor_scale(spec, spec.tensor_scope == TensorScope::whole
                                      ? whole
                                      : amax_bits(kernels_, weight, begin, begin + rows, 0, weight.cols));
    pool_.parallel_for((rows + tile_rows - 1) / tile_rows, [&](std::int64_t t) {
      const std::int64_t row0 = begin + t * tile_rows;
      const std::int64_t row1 = std::min(begin + rows, row0 + tile_rows);
      for (std::int64_t col0 = 0; col0 < weight.cols; col0 += tile_cols) {
        const std::int64_t col1 = std::min(weight.cols, col0 + tile_cols);
        TileScale scale{};
        if (spec.scale_format != ScaleFormat::none)
          scale = tile_scale(spec, amax_bits(kernels_, weight, row0, row1, col0, col1), tensor);
        for (std::int64_t r = row0; r < row1; ++r) {
          const float* w = reinterpret_cast<const float*>(weight.row(r));
          float* d = reinterpret_cast<float*>(gradient.row(r));
          for (std::int64_t c = col0; c < col1; ++c) {
            const float x = spec.scale_format == ScaleFormat::none ? w[c] : scaled_value(spec, scale, w[c]);
            d[c] = mul_rn(d[c], estimator_factor(spec.element, estimator, constants, x));
          }
        }
      }
    });
  }
}

}  // namespace ng::cpu
