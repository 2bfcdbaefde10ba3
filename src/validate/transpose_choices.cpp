// SPDX-License-Identifier: Apache-2.0
//
// Choices of a transpose: the published kernel whole, and each of its shortcuts alone.
#include "transpose_choices.hpp"

#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "narrowgauge/validate/conversions.hpp"

namespace ng::validate {
namespace {

/// What happens to a code whose exponent field would fall below 1. `flush`: a zero with its sign; `truncate`: toward
/// zero; `unshifted`: the mantissa stays, as published.
enum class Underflow : std::uint8_t { none, flush, truncate, unshifted };
/// Subnormal codes of the source become +0 even where nothing is shifted.
enum class SubnormalInput : std::uint8_t { none, zeroed };
/// Rows of zeros raise their block's scale.
enum class ZeroRows : std::uint8_t { none, counted };
/// Blocks do not restart at splits.
enum class Splits : std::uint8_t { none, ignored };

struct Defects {
  Underflow underflow = Underflow::none;
  SubnormalInput subnormal_input = SubnormalInput::none;
  ZeroRows zero_rows = ZeroRows::none;
  Splits splits = Splits::none;
};

const std::vector<Choice>& defect_choices() {
  static const std::vector<Choice> choices = {{"underflow", {"none", "flush", "truncate", "unshifted"}, 0, true},
                                              {"subnormal_input", {"none", "zeroed"}, 0, true},
                                              {"zero_rows", {"none", "counted"}, 0, true},
                                              {"splits", {"none", "ignored"}, 0, true}};
  return choices;
}

std::uint32_t defective(const Defects& d, const ElementFormat& f, std::uint32_t code, int k) {
  const std::uint32_t magnitude = code & magnitude_mask(f);
  const int field = static_cast<int>(magnitude >> f.mantissa_bits);
  if (d.subnormal_input == SubnormalInput::zeroed && field == 0) return 0;
  if (k == 0 || field > k || magnitude > largest_code(f)) return lowered_code(f, code, k);
  switch (d.underflow) {
    case Underflow::none:
      break;
    case Underflow::flush:
      return code & sign_mask(f);
    case Underflow::truncate: {
      CastChoices choices;
      choices.rounding = Rounding::toward_zero;
      return shifted_code(f, f, choices, code, -k);
    }
    case Underflow::unshifted:
      return field == 0 ? lowered_code(f, code, k) : (code & sign_mask(f)) | (code & ((1u << f.mantissa_bits) - 1u));
  }
  return lowered_code(f, code, k);
}

}  // namespace

std::vector<Choice> transpose_choices(const TransposeSpec& stated) {
  const std::vector<std::string> methods = names_of<TransposeVia>();
  Choice method{"method", methods, static_cast<std::size_t>(stated.via), false};
  if (stated.via != TransposeVia::requantize) method.values.pop_back();  // nobody says with which quantizer
  std::vector<Choice> choices = {method};
  choices.insert(choices.end(), defect_choices().begin(), defect_choices().end());
  return choices;
}

std::optional<UnpackedTensor> changed_transpose(const UnpackedTensor& x, const TransposeSpec& stated,
                                                const std::vector<std::int64_t>& splits,
                                                const std::vector<Choice>& choices, const ChangeSet& set) {
  TransposeSpec spec = stated;
  Defects d;
  bool any = false;
  for (const Change& change : set) {
    const std::string& name = choices[change.choice].name;
    if (name == "method") {
      spec.via = static_cast<TransposeVia>(change.value);
      continue;
    }
    any = any || name != "splits";
    if (name == "underflow") d.underflow = static_cast<Underflow>(change.value);
    if (name == "subnormal_input") d.subnormal_input = static_cast<SubnormalInput>(change.value);
    if (name == "zero_rows") d.zero_rows = static_cast<ZeroRows>(change.value);
    if (name == "splits") d.splits = static_cast<Splits>(change.value);
  }
  if (any && spec.via != TransposeVia::exact) return std::nullopt;
  if (d.splits == Splits::ignored && splits.size() < 2) return std::nullopt;
  const std::vector<std::int64_t> used = d.splits == Splits::ignored ? std::vector<std::int64_t>{} : splits;
  UnpackedTensor y = transposed_reference(x, spec, used);
  if (!any) return y;
  // The scales that the published kernel takes count rows of zeros too; codes are then made anew.
  if (d.zero_rows == ZeroRows::counted) {
    const UnpackedTensor counted = transpose(x, TransposeMethod::published, used);
    y.scale_values = counted.scale_values;
    y.scale_codes = counted.scale_codes;
  }
  const ElementFormat f = format_of(x.element);
  const std::vector<std::int64_t> block_of = y.scale_col_of_col();
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const int own = scale_exponent(x, static_cast<std::size_t>(r * x.scale_cols() + c / x.tile_cols));
      const int taken =
          scale_exponent(y, static_cast<std::size_t>(c * y.scale_cols() + block_of[static_cast<std::size_t>(r)]));
      y.codes[static_cast<std::size_t>(c * y.cols + r)] = static_cast<std::uint16_t>(
          defective(d, f, x.codes[static_cast<std::size_t>(r * x.cols + c)], std::max(0, taken - own)));
    }
  return y;
}

}  // namespace ng::validate
