// SPDX-License-Identifier: Apache-2.0
//
// Values come from the tables that the quantizer text is parsed by: a new value there is searched from then on. Values
// with arguments are tried with the arguments that published quantizers use.
#include "quantizer_choices.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng::validate {
namespace {

// Arguments of values that need some; a value that needs none takes the first.
const std::vector<std::string> kArguments = {"", ":8", ":16", ":32", ":mae:448", ":mse:448", ":mae:256", ":mse:256"};

// Keys that an output of the stated shape cannot reveal, or that are no choice of one tensor.
bool is_searched(const std::string& key) {
  return key != "scale" && key != "tensor_scope" && key != "outlier";
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t bar = std::min(text.find('|', at), text.size());
    parts.push_back(text.substr(at, bar - at));
    at = bar + 1;
  }
  return parts;
}

// Beside a stated transform: every other with its size, its choices with every size, and none. Beside none: the sizes
// that quantizers use, in the usual order of sums.
std::vector<std::string> hadamard_values(const HadamardSpec& stated, std::int64_t length) {
  std::vector<std::string> values = {"none"};
  for (int size = 2; size <= kLargestHadamard; size *= 2) {
    if (length % size != 0) continue;
    for (const auto& signs : enum_tables::Table<HadamardSigns>::kRows)
      for (const auto& result : enum_tables::Table<HadamardResult>::kRows)
        for (const auto& order : enum_tables::Table<HadamardOrder>::kRows) {
          const HadamardSpec spec{static_cast<std::int16_t>(size), signs.value, order.value, result.value};
          HadamardSpec resized = stated;
          resized.size = spec.size;
          const bool usual = (size == 16 || size == 32 || size == 128) && order.value == HadamardSpec{}.order;
          if (stated.size == 0 ? !usual : spec != resized && size != stated.size) continue;
          try {
            check_hadamard(spec);
          } catch (const UserError&) {
            continue;
          }
          values.push_back(to_text(spec));
        }
  }
  return values;
}

// Values of a key as its help names them, or those that are used in the world where the help names a pattern.
std::vector<std::string> candidates(const QuantizerKey& key, const QuantizerSpec& stated, std::int64_t length) {
  if (key.name == "tile")
    return {"1x16", "1x32", "1x64", "1x128", "16x16", "32x32", "64x64", "128x128", "1x0", "0x1", "0x0"};
  if (key.name == "floor") return {"0", "1e-12", "1e-10", "1e-08", "1e-06", "1e-05", "1e-04"};
  if (key.name == "hadamard") return hadamard_values(stated.hadamard, length);
  return split(key.values);
}

std::string stated_value(const QuantizerSpec& spec, const std::string& key) {
  return to_json(spec).at(key).as_string();
}

}  // namespace

std::vector<Choice> quantizer_choices(const QuantizerSpec& stated, std::int64_t length) {
  std::vector<Choice> choices;
  for (const QuantizerKey& key : quantizer_keys()) {
    if (!is_searched(key.name)) continue;
    Choice choice{key.name, {stated_value(stated, key.name)}, 0, false};
    for (const std::string& candidate : candidates(key, stated, length)) {
      for (const std::string& arguments : kArguments) {
        QuantizerSpec changed = stated;
        try {
          set_choice(changed, key.name, candidate + arguments);
        } catch (const UserError&) {
          continue;
        }
        if (key.name == "element" && (bit_count(changed.element) != bit_count(stated.element))) break;
        const std::string value = stated_value(changed, key.name);
        if (std::find(choice.values.begin(), choice.values.end(), value) == choice.values.end())
          choice.values.push_back(value);
        if (arguments.empty()) break;
      }
    }
    if (choice.values.size() > 1) choices.push_back(std::move(choice));
  }
  for (const DeviationKey& key : deviation_keys()) choices.push_back({key.name, key.values, 0, true});
  return choices;
}

std::optional<ChangedQuantizer> changed(const QuantizerSpec& stated, const std::vector<Choice>& choices,
                                        const ChangeSet& set) {
  ChangedQuantizer result{stated, {}};
  for (const Change& change : set) {
    const Choice& choice = choices[change.choice];
    if (!choice.is_bug) {
      set_choice(result.spec, choice.name, choice.values[change.value]);
      continue;
    }
    for (const DeviationKey& key : deviation_keys())
      if (key.name == choice.name) key.set(result.deviation, change.value);
  }
  try {
    check_quantizer(result.spec);
  } catch (const UserError&) {
    return std::nullopt;
  }
  return result;
}

}  // namespace ng::validate
