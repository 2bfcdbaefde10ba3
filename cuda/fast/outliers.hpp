// SPDX-License-Identifier: Apache-2.0
//
// The outlier split at memory speed: bounds by radix selection on sort keys (histograms of 11, 11 and 10 bits, of 11
// and 5 for BF16), clamping and compaction in the order of columns. With bounds per row a tensor is read from memory
// once: one block does one row. Byte-equal to the plain kernels (tests/parity). Asynchronous on `stream`.
#pragma once

#include "plain/outlier_job.hpp"

struct CUstream_st;

namespace ng::cuda::fast {

/// Whether the kernels below serve this job: lines of less than 2^20 elements, tensors with one scope of less than
/// 2^32, segments that fit a grid.
[[nodiscard]] bool outliers_serve(const OutlierJob& job);

/// Scope `row`. Clamped values and, where job.columns is set, the residual: entries of segment s from number
/// s * capacity of job.columns and job.values on, their count in job.positions[s + 1].
void split_by_row(const OutlierJob& job, std::int64_t capacity, CUstream_st* stream);

/// Scope `tensor`: job.bounds of each group. `workspace`: bytes as said.
[[nodiscard]] std::size_t tensor_bounds_bytes(const OutlierJob& job);
void tensor_bounds(const OutlierJob& job, void* workspace, CUstream_st* stream);
/// Scope `tensor`: the count of segment s in job.positions[s + 1].
void count_outliers(const OutlierJob& job, CUstream_st* stream);
/// Scope `tensor`: clamped values and, where job.columns is set, entries at job.positions.
void split_by_bounds(const OutlierJob& job, CUstream_st* stream);

/// Counts in positions[1..segments] to where each segment begins.
void sum_positions(const OutlierJob& job, CUstream_st* stream);
/// Entries as split_by_row left them in `from` to their places in job.columns and job.values.
void pack_residual(const OutlierJob& job, const OutlierJob& from, std::int64_t capacity, CUstream_st* stream);

}  // namespace ng::cuda::fast
