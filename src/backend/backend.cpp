// SPDX-License-Identifier: Apache-2.0
//
// What every backend shares: tensors from its memory, and the merging of measures.
#include "narrowgauge/backend/backend.hpp"

#include <algorithm>

namespace ng {

Tensor Backend::tensor(Dtype dtype, std::int64_t rows, std::int64_t cols) {
  return make_tensor(allocate(static_cast<std::size_t>(rows * cols) * size_of(dtype)), dtype, rows, cols);
}

Tensor Backend::zeros(Dtype dtype, std::int64_t rows, std::int64_t cols) {
  Tensor result = tensor(dtype, rows, cols);
  fill_zero(result.view);
  return result;
}

void merge(MeasureSums& into, const MeasureSums& part) {
  // Smallest and largest of nothing must not enter.
  if (part.scale_count > 0) {
    const bool first = into.scale_count == 0;
    into.scale_log2_min = first ? part.scale_log2_min : std::min(into.scale_log2_min, part.scale_log2_min);
    into.scale_log2_max = first ? part.scale_log2_max : std::max(into.scale_log2_max, part.scale_log2_max);
  }
  into.max_abs_error = std::max(into.max_abs_error, part.max_abs_error);
  into.max_rel_error = std::max(into.max_rel_error, part.max_rel_error);
  constexpr double MeasureSums::*kSums[] = {
      &MeasureSums::count,          &MeasureSums::nonzero,       &MeasureSums::error2,
      &MeasureSums::square,         &MeasureSums::decoded2,      &MeasureSums::product,
      &MeasureSums::signed_error,   &MeasureSums::absolute,      &MeasureSums::underflow,
      &MeasureSums::saturated,      &MeasureSums::scale_count,   &MeasureSums::scale_log2_sum,
      &MeasureSums::double_error2,  &MeasureSums::double_total2, &MeasureSums::single_total2,
      &MeasureSums::double_changed,
  };
  static_assert(sizeof(MeasureSums) == (std::size(kSums) + 4) * sizeof(double), "a new sum is merged here");
  for (double MeasureSums::*sum : kSums) into.*sum += part.*sum;
}

}  // namespace ng
