// SPDX-License-Identifier: Apache-2.0
//
// Every measure by name: its definition in words and the ratio that forms it from a backend's sums (numerics.md
// section 6). A new measure of existing sums is one row of the table in measures.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/backend/operations.hpp"

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
  double_quant_error,
  double_quant_excess,
  double_quant_changed,
};
inline constexpr std::size_t kMeasureCount = 14;

struct NamedMeasure {
  Measure id;
  const char* name;
  const char* definition;
  /// Compares two ways to the same codes; only then does a backend quantize twice. NaN for row forms.
  bool needs_double_quantization;
  double (*form)(const MeasureSums& sums);
};

/// In the order of Measure.
[[nodiscard]] std::span<const NamedMeasure> measure_table();
[[nodiscard]] const NamedMeasure& named(Measure measure);
/// nullptr when there is none of that name.
[[nodiscard]] const NamedMeasure* find_measure(std::string_view name);
[[nodiscard]] std::vector<std::string> measure_names();

/// The ratio in double, rounded once. An empty or all-zero tensor gives 0 for errors, NaN for ratios without meaning.
[[nodiscard]] float form_measure(Measure measure, const MeasureSums& sums);

}  // namespace ng
