// SPDX-License-Identifier: Apache-2.0
//
// What a backend measures of a quantized tensor and of a product: sums, counts, maxima and lists, never ratios. Parts
// of a step (micro-batches, ranks) merge without rounding, in any order, to what the whole would have given.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/unrounded_sum.hpp"

namespace ng {

/// What is measured beside the error sums.
struct MeasureRequest {
  /// Quantizer along the rows of a tensor whose column form is measured (its Hadamard transform is left out), for the
  /// next two; nullptr: neither.
  const QuantizerSpec* row_spec = nullptr;
  bool double_quantization = false;  ///< column forms: quantize along rows first, then as the form was
  bool scale_gap = false;            ///< column forms: compare scales with those along rows
  bool transpose = false;            ///< row forms that a scaling-aware transpose takes
  bool scales = false;               ///< list the scales
  bool codes = false;                ///< count the codes
};

/// Sums that measures are formed from. X original, D decoded. Of each row a sum in double over the tree of
/// summation_order.hpp, rows added exactly.
struct MeasureSums {
  double count = 0;
  double nonzero = 0;         ///< X != 0
  UnroundedSum error2;        ///< sum (D - X)^2
  UnroundedSum square;        ///< sum X^2
  UnroundedSum decoded2;      ///< sum D^2
  UnroundedSum product;       ///< sum D X
  UnroundedSum signed_error;  ///< sum (D - X) sign(X)
  UnroundedSum absolute;      ///< sum |X|
  double underflow = 0;       ///< count X != 0, D == 0
  double saturated = 0;       ///< count |X| above the largest value that the block can hold
  double max_abs_error = 0;
  double max_rel_error = 0;
  double scale_count = 0;  ///< finite scales that are not zero
  UnroundedSum scale_log2_sum;
  double scale_log2_min = 0;
  double scale_log2_max = 0;
  UnroundedSum double_error2;  ///< sum (D(Qc(D(Qr X))) - D(Qc X))^2
  UnroundedSum double_total2;  ///< sum (D(Qc(D(Qr X))) - X)^2
  UnroundedSum single_total2;  ///< sum (D(Qc X) - X)^2
  double double_changed = 0;   ///< count of elements whose decoded values differ
  double gap_count = 0;        ///< elements with finite scales that are not zero, both along rows and along columns
  UnroundedSum gap;            ///< sum |log2 of the row scale - log2 of the column scale|, tensor scales included
  double transpose_count = 0;  ///< elements that a scaling-aware transpose took
  UnroundedSum transpose2;     ///< sum (D(T(Q X)) - D(Q X))^2, T exact
  UnroundedSum transpose_published2;  ///< the same with the released kernel's T
};

/// A stored scale and where its tile begins: logical row * logical columns + column of the original tensor; -1 where
/// the rows of the tile do not lie together there.
struct PlacedScale {
  std::int64_t place = 0;
  float scale = 0;

  friend bool operator==(const PlacedScale&, const PlacedScale&) = default;
};

struct Measurement {
  MeasureSums sums;
  std::vector<PlacedScale> scales;        ///< in no particular order
  std::vector<std::int64_t> code_counts;  ///< by code; empty unless asked for
};

/// Merges the sums of two parts.
void merge(MeasureSums& into, const MeasureSums& part);
void merge(Measurement& into, const Measurement& part);

/// Sampled elements of one product: P what the product gave, E the exact product of the same decoded operands, U of the
/// unquantized ones, F and S with only the first or only the second operand quantized.
struct ProductElement {
  std::int64_t place = 0;  ///< logical row * logical columns + column of the output
  UnroundedSum given, exact, plain, first, second;
};

/// Elements of a product that the measures of products look at: about kSampledRows logical rows by kSampledColumns
/// columns of the output, spread evenly, the same in every step.
inline constexpr std::int64_t kSampledRows = 16;
inline constexpr std::int64_t kSampledColumns = 64;
/// Ascending, without repetition, in [0, extent): all of them if there are at most `count`.
std::vector<std::int64_t> sampled_indices(std::int64_t extent, std::int64_t count);

/// Sums over sampled elements.
struct ProductSums {
  double count = 0;
  UnroundedSum accumulation2;  ///< sum (P - E)^2
  UnroundedSum exact2;         ///< sum E^2
  UnroundedSum total2;         ///< sum (P - U)^2
  UnroundedSum first2;         ///< sum (F - U)^2
  UnroundedSum second2;        ///< sum (S - U)^2
  UnroundedSum plain2;         ///< sum U^2
};
void add(ProductSums& sums, const ProductElement& element);

}  // namespace ng
