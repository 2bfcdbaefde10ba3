// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernels of measurements. Sums of a row run in the order of summation_order.hpp: leaves, then the
// tree; rows are added without rounding. Asynchronous on `stream`.
#pragma once

#include "plain/measure_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// measured[r]: whether row r of the view is no padding, or shares a transform of `size` rows, counted from the begin
/// of its group, with one that is none. Adds their number to *count.
void measured_rows(const Placement& place, const GroupExtent* groups, std::int64_t group_count, std::int64_t rows,
                   std::int64_t size, std::uint8_t* measured, unsigned long long* count, Stream stream);

/// The leaves of the error sums into job.partials; counts and maxima into the totals.
void measure_errors(const MeasureJob& job, Stream stream);
/// The leaves of the sums of double quantization; job.decoded and `twice` both there.
void measure_doubles(const MeasureJob& job, const float* twice, Stream stream);
/// Rows of partial sums to their trees' roots, these into totals->sums[first ...].
void add_rows(const RowPartials& partials, MeasuredSum first, int sums, MeasureTotals* totals, Stream stream);

/// tiles[i]: whether tile i along the rows of the original holds a measured row.
void measured_tiles(const DequantizeJob& coded, const std::uint8_t* measured, std::int64_t tile_height,
                    std::int64_t tile_count, std::uint8_t* tiles, Stream stream);
void count_codes(const CountJob& job, Stream stream);
/// Statistics of FP32 scales.
void measure_scales(const ScaleJob& job, Stream stream);
/// job.logs.
void scale_logs(const ScaleJob& job, Stream stream);
/// The leaves of the gap into job.partials; its count.
void measure_gap(const GapJob& job, Stream stream);
/// One node a row into job.partials; the count.
void measure_transposes(const TransposeJob& job, Stream stream);

}  // namespace ng::cuda::plain
