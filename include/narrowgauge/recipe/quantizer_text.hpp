// SPDX-License-Identifier: Apache-2.0
//
// A quantizer as people write it, as programs record it, and back:
//   mxfp4,rule=rceil,rounding=nearest_away      a preset with changes
//   e4m3,overflow=nonfinite                     a bare element format: a cast without scales
//   mine.toml#act_p2,tile=1x64                  a quantizer of a recipe with changes
// Text is checked whole: unknown, repeated and contradictory choices are errors that name the key and what is valid.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/numerics/block_format.hpp"

namespace ng {

/// Finds quantizer `name` of recipe file `file`, for texts of the form `file#name`. Throws UserError.
using QuantizerLookup = std::function<QuantizerSpec(const std::string& file, const std::string& name)>;

/// One key of the text: what it means and its values, for help texts.
struct QuantizerKey {
  std::string name;
  std::string values;
  std::string meaning;
};

/// Every key that a quantizer text knows, in canonical order.
[[nodiscard]] const std::vector<QuantizerKey>& quantizer_keys();

/// UserError "quantizer '<text>': ..." on anything that is not a valid quantizer. Without `lookup`, `file#name` is
/// an error.
[[nodiscard]] QuantizerSpec parse_quantizer(std::string_view text, const QuantizerLookup& lookup = nullptr);

/// Changes one choice of `spec`, without checking that all choices fit together. UserError on an unknown key or value.
void set_choice(QuantizerSpec& spec, std::string_view key, std::string_view value);

/// Hadamard transform as text: `16:te_fixed:bf16`, optionally `:serial` or `:butterfly` (the default), or `none`.
[[nodiscard]] HadamardSpec parse_hadamard(std::string_view text);
[[nodiscard]] std::string to_text(const HadamardSpec& spec);

/// Tile as text: `1x32`; 0 stands for the whole extent.
[[nodiscard]] std::string tile_text(const QuantizerSpec& spec);

/// Throws UserError, without a prefix, when choices contradict each other: a rule without its scale format, a draw
/// of 7 bits, an amax floor for a rule that has none.
void check_quantizer(const QuantizerSpec& spec);
/// The part of it that is about the transform.
void check_hadamard(const HadamardSpec& spec);

/// The shortest text that parses to `spec`: the preset or element with the fewest changes, then the changes in the
/// order of quantizer_keys(). parse_quantizer(to_text(spec)) == spec.
[[nodiscard]] std::string to_text(const QuantizerSpec& spec);

/// Every named choice, given or not. Equal specs give equal JSON, different ones different.
[[nodiscard]] Json to_json(const QuantizerSpec& spec);

/// What to_json wrote. UserError "<name>: ..." on anything else.
[[nodiscard]] QuantizerSpec quantizer_from_json(const Json& json, std::string_view name);

}  // namespace ng
