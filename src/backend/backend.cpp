// SPDX-License-Identifier: Apache-2.0
//
// What every backend shares: tensors from its memory, and the merging of measures.
#include "narrowgauge/backend/backend.hpp"

#include <algorithm>
#include <iterator>

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
  constexpr double MeasureSums::*kCounts[] = {
      &MeasureSums::count,       &MeasureSums::nonzero,        &MeasureSums::underflow, &MeasureSums::saturated,
      &MeasureSums::scale_count, &MeasureSums::double_changed, &MeasureSums::gap_count, &MeasureSums::transpose_count,
  };
  constexpr UnroundedSum MeasureSums::*kSums[] = {
      &MeasureSums::error2,
      &MeasureSums::square,
      &MeasureSums::decoded2,
      &MeasureSums::product,
      &MeasureSums::signed_error,
      &MeasureSums::absolute,
      &MeasureSums::scale_log2_sum,
      &MeasureSums::double_error2,
      &MeasureSums::double_total2,
      &MeasureSums::single_total2,
      &MeasureSums::gap,
      &MeasureSums::transpose2,
      &MeasureSums::transpose_published2,
  };
  static_assert(
      sizeof(MeasureSums) == (std::size(kCounts) + 4) * sizeof(double) + std::size(kSums) * sizeof(UnroundedSum),
      "a new sum is merged here");
  for (double MeasureSums::*count : kCounts) into.*count += part.*count;
  for (UnroundedSum MeasureSums::*sum : kSums) into.*sum += part.*sum;
}

void merge(Measurement& into, const Measurement& part) {
  merge(into.sums, part.sums);
  into.scales.insert(into.scales.end(), part.scales.begin(), part.scales.end());
  into.code_counts.resize(std::max(into.code_counts.size(), part.code_counts.size()), 0);
  for (std::size_t i = 0; i < part.code_counts.size(); ++i) into.code_counts[i] += part.code_counts[i];
}

std::vector<std::int64_t> sampled_indices(std::int64_t extent, std::int64_t count) {
  std::vector<std::int64_t> indices;
  if (extent <= count) {
    for (std::int64_t i = 0; i < extent; ++i) indices.push_back(i);
    return indices;
  }
  // Multiples of the golden ratio, cut to fractions: spread evenly, in step with no period of the tensor.
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15u;
  __extension__ typedef unsigned __int128 Wide;
  for (std::int64_t i = 1; i <= count; ++i) {
    const std::uint64_t fraction = kGolden * static_cast<std::uint64_t>(i);
    indices.push_back(
        static_cast<std::int64_t>((static_cast<Wide>(fraction) * static_cast<std::uint64_t>(extent)) >> 64));
  }
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  return indices;
}

void add(ProductSums& sums, const ProductElement& element) {
  const double given = element.given, exact = element.exact, plain = element.plain;
  const auto square = [](double a, double b) { return (a - b) * (a - b); };
  sums.count += 1;
  sums.accumulation2 += square(given, exact);
  sums.exact2 += exact * exact;
  sums.total2 += square(given, plain);
  sums.first2 += square(element.first, plain);
  sums.second2 += square(element.second, plain);
  sums.plain2 += plain * plain;
}

}  // namespace ng
