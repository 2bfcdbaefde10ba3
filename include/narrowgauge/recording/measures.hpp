// SPDX-License-Identifier: Apache-2.0
//
// Every measure by name: its definition in words and the ratio that forms it from a backend's sums (numerics.md
// section 6). A new measure of existing sums is one row of the table in measures.cpp.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/backend/measurement.hpp"

namespace ng {

enum class Measure : std::uint8_t {
  rel_mse,
  sqnr_db,
  cosine,
  max_abs_error,
  max_rel_error,
  bias,
  underflow_rate,
  saturation_rate,
  scale_log2_mean,
  scale_log2_min,
  scale_log2_max,
  scale_drift,
  scale_flip_rate,
  scale_drift_from_start,
  scale_shift,
  scale_distance,
  row_column_scale_gap,
  double_quant_error,
  double_quant_excess,
  double_quant_changed,
  transpose_error,
  transpose_error_published,
  gemm_error_accumulation,
  gemm_error_total,
  gemm_error_first,
  gemm_error_second,
};
inline constexpr std::size_t kMeasureCount = 26;

/// What a measure is formed from beside the error sums of one quantized form.
enum class MeasureSource : std::uint8_t {
  errors,               ///< nothing else
  double_quantization,  ///< a second quantization, column forms only
  scale_gap,            ///< scales along the rows, column forms only
  transpose,            ///< row forms with power-of-two scales only
  scale_places,         ///< earlier records, scale by scale: tensors whose rows stay the same
  scale_distribution,   ///< the record before, as a distribution
  product,              ///< sampled elements of a product: sites of products
};

/// How the scales of a tensor changed since earlier records; NaN where there is nothing to compare.
struct ScaleChange {
  double drift = std::numeric_limits<double>::quiet_NaN();
  double flip_rate = std::numeric_limits<double>::quiet_NaN();
  double drift_from_start = std::numeric_limits<double>::quiet_NaN();
  double shift = std::numeric_limits<double>::quiet_NaN();
  double distance = std::numeric_limits<double>::quiet_NaN();
};

/// Everything that was gathered at a site in a step.
struct Measured {
  MeasureSums sums{};
  ScaleChange scales{};
  ProductSums product{};
};

struct NamedMeasure {
  Measure id;
  const char* name;
  const char* definition;
  MeasureSource source;
  double (*form)(const Measured& measured);
};

/// In the order of Measure.
[[nodiscard]] std::span<const NamedMeasure> measure_table();
[[nodiscard]] const NamedMeasure& named(Measure measure);
/// nullptr when there is none of that name.
[[nodiscard]] const NamedMeasure* find_measure(std::string_view name);
/// `gemm_error` stands for all measures of products; every other name for itself. Empty when there is none.
[[nodiscard]] std::vector<Measure> measures_called(std::string_view name);
[[nodiscard]] std::vector<std::string> measure_names();

/// The ratio in double, rounded once. An empty or all-zero tensor gives 0 for errors, NaN for ratios without meaning.
[[nodiscard]] float form_measure(Measure measure, const Measured& measured);

}  // namespace ng
