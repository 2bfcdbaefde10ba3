// SPDX-License-Identifier: Apache-2.0
//
// One outlier split as plain data: everything a kernel needs, passed by value. Pointers are memory of the device. A
// line is a row of the matrix as quantized; a segment is the part of a line that lies in one group: segment s is line s
// of a row form, and group s mod group_count of line s / group_count of a column form.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/quantize/outlier_split.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "plain/elements.hpp"
#include "plain/quantize_job.hpp"
#include "plain/quantize_threads.hpp"

namespace ng::cuda {

struct OutlierJob {
  OutlierSpec spec{};
  Orientation orientation = Orientation::row;
  TensorView x{};        ///< f32 or bf16, in the axes of the original
  TensorView clamped{};  ///< the same shape and dtype; may be the memory of x
  /// Fast kernels: x and clamped of a column form lie transposed, so that lines are their rows.
  bool turned = false;
  bool aligned = true;  ///< Fast kernels: segments begin at multiples of eight elements of a line
  const GroupExtent* groups = nullptr;
  std::int64_t group_count = 0;
  std::int64_t segments = 0;

  OutlierBounds* bounds = nullptr;    ///< of each segment, or with scope `tensor` of each group
  std::int64_t* positions = nullptr;  ///< [segments + 1] number of the first entry of each segment; the last: of all
  ElementFormat format{};             ///< of the residual
  std::int32_t* columns = nullptr;    ///< [entries] in the matrix as quantized; nullptr: the residual is dropped
  void* values = nullptr;             ///< [entries] codes of residual_format, uint16 (bf16) or uint8
};

/// Elements [begin, end) of a line.
struct Segment {
  std::int64_t line = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t group = 0;
};

NG_HD Segment segment_of(const OutlierJob& job, std::int64_t s) {
  Segment segment;
  if (job.orientation == Orientation::row) {
    segment.line = s;
    segment.end = job.x.cols;
    segment.group = plain::group_of_row(job.groups, job.group_count, s);
  } else {
    segment.line = s / job.group_count;
    segment.group = s % job.group_count;
    segment.begin = job.groups[segment.group].begin;
    segment.end = job.groups[segment.group].end;
  }
  return segment;
}

NG_HD float load_outlier(const OutlierJob& job, std::int64_t line, std::int64_t i) {
  return job.orientation == Orientation::row ? load_real(job.x, line, i) : load_real(job.x, i, line);
}
/// The bound of a BF16 tensor is one of its values: nothing is rounded.
NG_HD void store_clamped(const OutlierJob& job, std::int64_t line, std::int64_t i, float value) {
  if (job.orientation == Orientation::row)
    store_real(job.clamped, line, i, value);
  else
    store_real(job.clamped, i, line, value);
}

NG_HD const OutlierBounds& bounds_of(const OutlierJob& job, std::int64_t s, const Segment& segment) {
  return job.bounds[job.spec.scope == OutlierScope::row ? s : segment.group];
}

NG_HD void store_residual(const OutlierJob& job, const OutlierBounds& bounds, std::int64_t entry, std::int64_t i,
                          float value) {
  const std::uint32_t code = residual_code(job.format, bounds, value);
  job.columns[entry] = static_cast<std::int32_t>(i);
  if (job.spec.residual == OutlierResidual::bf16)
    static_cast<std::uint16_t*>(job.values)[entry] = static_cast<std::uint16_t>(code);
  else
    static_cast<std::uint8_t*>(job.values)[entry] = static_cast<std::uint8_t>(code);
}

/// A sparse residual in device memory.
struct ResidualView {
  ElementFormat format{};
  const std::int64_t* row_pointers = nullptr;
  const std::int32_t* columns = nullptr;
  const void* values = nullptr;

  NG_HD std::uint32_t code(std::int64_t i) const {
    return bit_count(format) > 8 ? static_cast<const std::uint16_t*>(values)[i]
                                 : static_cast<const std::uint8_t*>(values)[i];
  }
  NG_HD float value(std::int64_t i) const { return decode(format, code(i)); }
};

}  // namespace ng::cuda
