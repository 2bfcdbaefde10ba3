// SPDX-License-Identifier: Apache-2.0
//
// The table of measures.
#include "narrowgauge/recording/measures.hpp"

#include <cmath>
#include <limits>

#include "narrowgauge/base/check.hpp"

namespace ng {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double ratio(double numerator, double denominator, double if_zero) {
  return denominator == 0 ? if_zero : numerator / denominator;
}

using S = const MeasureSums&;

double sqnr(S s) {
  if (s.square == 0) return kNan;
  return s.error2 == 0 ? std::numeric_limits<double>::infinity() : -10 * std::log10(s.error2 / s.square);
}

double cosine(S s) {
  return s.square == 0 || s.decoded2 == 0 ? kNan : s.product / std::sqrt(s.decoded2 * s.square);
}

// In the order of Measure.
constexpr NamedMeasure kTable[] = {
    {Measure::rel_mse, "rel_mse", "sum (D-X)^2 / sum X^2", false, [](S s) { return ratio(s.error2, s.square, 0); }},
    {Measure::sqnr_db, "sqnr_db", "-10 log10(rel_mse)", false, sqnr},
    {Measure::cosine, "cosine", "sum DX / sqrt(sum D^2 sum X^2)", false, cosine},
    {Measure::max_abs_error, "max_abs_error", "largest |D-X|", false, [](S s) { return s.max_abs_error; }},
    {Measure::max_rel_error, "max_rel_error", "largest |D-X| / |X| where X is not 0", false,
     [](S s) { return s.max_rel_error; }},
    {Measure::bias, "bias", "sum (D-X) sign(X) / sum |X|; negative: shrinkage", false,
     [](S s) { return ratio(s.signed_error, s.absolute, 0); }},
    {Measure::underflow_rate, "underflow_rate", "share of X not 0 with D = 0", false,
     [](S s) { return ratio(s.underflow, s.nonzero, kNan); }},
    {Measure::saturation_rate, "saturation_rate", "share with |X| above the largest value the block can hold", false,
     [](S s) { return ratio(s.saturated, s.count, kNan); }},
    {Measure::scale_log2_mean, "scale_log2_mean", "mean of log2 of the scales", false,
     [](S s) { return ratio(s.scale_log2_sum, s.scale_count, kNan); }},
    {Measure::scale_log2_min, "scale_log2_min", "log2 of the smallest scale", false,
     [](S s) { return s.scale_count == 0 ? kNan : s.scale_log2_min; }},
    {Measure::scale_log2_max, "scale_log2_max", "log2 of the largest scale", false,
     [](S s) { return s.scale_count == 0 ? kNan : s.scale_log2_max; }},
    {Measure::double_quant_error, "double_quant_error", "sum (D(Qc(D(Qr X))) - D(Qc X))^2 / sum X^2", true,
     [](S s) { return ratio(s.double_error2, s.square, 0); }},
    {Measure::double_quant_excess, "double_quant_excess", "rel_mse of Qc(D(Qr X)) minus rel_mse of Qc(X)", true,
     [](S s) { return ratio(s.double_total2 - s.single_total2, s.square, 0); }},
    {Measure::double_quant_changed, "double_quant_changed", "share of elements whose decoded value differs", true,
     [](S s) { return ratio(s.double_changed, s.count, kNan); }},
};

constexpr bool in_order() {
  std::size_t i = 0;
  for (const NamedMeasure& measure : kTable) {
    if (static_cast<std::size_t>(measure.id) != i++) return false;
  }
  return i == kMeasureCount;
}
static_assert(in_order());

}  // namespace

std::span<const NamedMeasure> measure_table() {
  return kTable;
}

const NamedMeasure& named(Measure measure) {
  const auto index = static_cast<std::size_t>(measure);
  NG_CHECK(index < kMeasureCount);
  return kTable[index];
}

const NamedMeasure* find_measure(std::string_view name) {
  for (const NamedMeasure& measure : kTable) {
    if (name == measure.name) return &measure;
  }
  return nullptr;
}

std::vector<std::string> measure_names() {
  std::vector<std::string> names;
  for (const NamedMeasure& measure : kTable) names.emplace_back(measure.name);
  return names;
}

float form_measure(Measure measure, const MeasureSums& sums) {
  return static_cast<float>(named(measure).form(sums));
}

}  // namespace ng
