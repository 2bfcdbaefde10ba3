// SPDX-License-Identifier: Apache-2.0
//
// The outlier split as other operations of the CUDA backend use it: in front of a quantization, and its residual added
// to decoded values and to rows of a product. Views and tensors are device memory; asynchronous on the default stream.
#pragma once

#include <memory>

#include "backend/quantize_plan.hpp"
#include "plain/outlier_job.hpp"

namespace ng::cuda {

/// What a quantizer is given: transformed and with its outliers clamped, if its spec says so, and the spec without what
/// is done. A tensor that needs neither is itself.
struct SplitSource {
  TensorView view{};
  QuantizerSpec spec{};
  Buffer memory{};
  std::shared_ptr<const SparseResidual> residual{};  ///< where the spec keeps one and it was asked for
};

enum class ResidualWanted : std::uint8_t { no, yes };

/// Waits for the number of entries where there is a residual.
[[nodiscard]] SplitSource split_outliers(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                         const QuantizerSpec& spec, Orientation orientation, ResidualWanted wanted,
                                         KernelChoice choice);

/// decoded[r, c] = fp32(decoded[r, c] + residual); f32, in the axes as quantized.
void add_residual(const SparseResidual& residual, const TensorView& decoded);

/// Backend::add_residual_product with rows [row0, row0 + out.rows) of A.
void add_residual_rows(const SparseResidual& a, std::int64_t row0, const TensorView& b, const TensorView& out,
                       KernelChoice choice);

}  // namespace ng::cuda
