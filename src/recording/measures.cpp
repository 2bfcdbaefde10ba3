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

using M = const Measured&;
using enum MeasureSource;

double sqnr(M m) {
  if (m.sums.square == 0) return kNan;
  return m.sums.error2 == 0 ? std::numeric_limits<double>::infinity() : -10 * std::log10(m.sums.error2 / m.sums.square);
}

double cosine(M m) {
  return m.sums.square == 0 || m.sums.decoded2 == 0 ? kNan
                                                    : m.sums.product / std::sqrt(m.sums.decoded2 * m.sums.square);
}

double transposed(M m, const UnroundedSum& error) {
  return m.sums.transpose_count == 0 ? kNan : ratio(error, m.sums.square, 0);
}

// In the order of Measure.
constexpr NamedMeasure kTable[] = {
    {Measure::rel_mse, "rel_mse", "sum (D-X)^2 / sum X^2", errors,
     [](M m) { return ratio(m.sums.error2, m.sums.square, 0); }},
    {Measure::sqnr_db, "sqnr_db", "-10 log10(rel_mse)", errors, sqnr},
    {Measure::cosine, "cosine", "sum DX / sqrt(sum D^2 sum X^2)", errors, cosine},
    {Measure::max_abs_error, "max_abs_error", "largest |D-X|", errors, [](M m) { return m.sums.max_abs_error; }},
    {Measure::max_rel_error, "max_rel_error", "largest |D-X| / |X| where X is not 0", errors,
     [](M m) { return m.sums.max_rel_error; }},
    {Measure::bias, "bias", "sum (D-X) sign(X) / sum |X|; negative: shrinkage", errors,
     [](M m) { return ratio(m.sums.signed_error, m.sums.absolute, 0); }},
    {Measure::underflow_rate, "underflow_rate", "share of X not 0 with D = 0", errors,
     [](M m) { return ratio(m.sums.underflow, m.sums.nonzero, kNan); }},
    {Measure::saturation_rate, "saturation_rate", "share with |X| above the largest value the block can hold", errors,
     [](M m) { return ratio(m.sums.saturated, m.sums.count, kNan); }},
    {Measure::scale_log2_mean, "scale_log2_mean", "mean of log2 of the scales", errors,
     [](M m) { return ratio(m.sums.scale_log2_sum, m.sums.scale_count, kNan); }},
    {Measure::scale_log2_min, "scale_log2_min", "log2 of the smallest scale", errors,
     [](M m) { return m.sums.scale_count == 0 ? kNan : m.sums.scale_log2_min; }},
    {Measure::scale_log2_max, "scale_log2_max", "log2 of the largest scale", errors,
     [](M m) { return m.sums.scale_count == 0 ? kNan : m.sums.scale_log2_max; }},
    {Measure::scale_drift, "scale_drift", "mean |log2 scale now - log2 scale at the record before|, scale by scale",
     scale_places, [](M m) { return m.scales.drift; }},
    {Measure::scale_flip_rate, "scale_flip_rate", "share of scales that changed since the record before", scale_places,
     [](M m) { return m.scales.flip_rate; }},
    {Measure::scale_drift_from_start, "scale_drift_from_start", "as scale_drift, against the first record",
     scale_places, [](M m) { return m.scales.drift_from_start; }},
    {Measure::scale_shift, "scale_shift", "mean of log2 of the scales now minus at the record before",
     scale_distribution, [](M m) { return m.scales.shift; }},
    {Measure::scale_distance, "scale_distance",
     "first Wasserstein distance between the distributions of log2 scales now and at the record before",
     scale_distribution, [](M m) { return m.scales.distance; }},
    {Measure::row_column_scale_gap, "row_column_scale_gap",
     "mean over elements |log2 of the scale along rows - log2 of the scale along columns|", scale_gap,
     [](M m) { return ratio(m.sums.gap, m.sums.gap_count, kNan); }},
    {Measure::double_quant_error, "double_quant_error", "sum (D(Qc(D(Qr X))) - D(Qc X))^2 / sum X^2",
     double_quantization, [](M m) { return ratio(m.sums.double_error2, m.sums.square, 0); }},
    {Measure::double_quant_excess, "double_quant_excess", "rel_mse of Qc(D(Qr X)) minus rel_mse of Qc(X)",
     double_quantization, [](M m) { return ratio(m.sums.double_total2 - m.sums.single_total2, m.sums.square, 0); }},
    {Measure::double_quant_changed, "double_quant_changed", "share of elements whose decoded value differs",
     double_quantization, [](M m) { return ratio(m.sums.double_changed, m.sums.count, kNan); }},
    {Measure::transpose_error, "transpose_error", "sum (D(T(Q X)) - D(Q X))^2 / sum X^2, T the exact transpose",
     transpose, [](M m) { return transposed(m, m.sums.transpose2); }},
    {Measure::transpose_error_published, "transpose_error_published",
     "as transpose_error, T the released kernel's transpose", transpose,
     [](M m) { return transposed(m, m.sums.transpose_published2); }},
    {Measure::gemm_error_accumulation, "gemm_error_accumulation",
     "sum (P-E)^2 / sum E^2 on sampled elements, P the product, E the exact product of the same codes", product,
     [](M m) { return m.product.count == 0 ? kNan : ratio(m.product.accumulation2, m.product.exact2, 0); }},
    {Measure::gemm_error_total, "gemm_error_total",
     "sum (P-U)^2 / sum U^2 on sampled elements, U the exact product of the unquantized operands", product,
     [](M m) { return m.product.count == 0 ? kNan : ratio(m.product.total2, m.product.plain2, 0); }},
    {Measure::gemm_error_first, "gemm_error_first",
     "sum (F-U)^2 / sum U^2 on sampled elements, F exact with only the first operand quantized", product,
     [](M m) { return m.product.count == 0 ? kNan : ratio(m.product.first2, m.product.plain2, 0); }},
    {Measure::gemm_error_second, "gemm_error_second",
     "sum (S-U)^2 / sum U^2 on sampled elements, S exact with only the second operand quantized", product,
     [](M m) { return m.product.count == 0 ? kNan : ratio(m.product.second2, m.product.plain2, 0); }},
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
  names.emplace_back("gemm_error");
  return names;
}

std::vector<Measure> measures_called(std::string_view name) {
  std::vector<Measure> found;
  for (const NamedMeasure& measure : kTable) {
    if (name == measure.name || (name == "gemm_error" && measure.source == product)) found.push_back(measure.id);
  }
  return found;
}

float form_measure(Measure measure, const Measured& measured) {
  return static_cast<float>(named(measure).form(measured));
}

}  // namespace ng
