// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernels of the outlier split and of what is done with its residual. Asynchronous on `stream`.
#pragma once

#include "plain/outlier_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// job.bounds: one thread each.
void outlier_bounds(const OutlierJob& job, Stream stream);
/// job.positions from the bounds.
void outlier_positions(const OutlierJob& job, Stream stream);
/// job.clamped, and the residual's entries where job.columns is set. One thread each segment.
void split_outliers(const OutlierJob& job, Stream stream);
/// Where the rows of a column form begin: row_pointers[l] = positions[l * group_count], l <= lines.
void residual_rows(const OutlierJob& job, std::int64_t lines, std::int64_t* row_pointers, Stream stream);

/// out[m, n] += chain of row row0 + m of A and row n of b; out is f32.
void add_residual_product(const ResidualView& a, std::int64_t row0, const TensorView& b, const TensorView& out,
                          Stream stream);
/// decoded[r, c] = fp32(decoded[r, c] + residual); decoded is f32, in the axes as quantized.
void add_residual(const ResidualView& residual, const TensorView& decoded, Stream stream);

}  // namespace ng::cuda::plain
