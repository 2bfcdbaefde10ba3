// SPDX-License-Identifier: Apache-2.0
//
// The search's side of products: choices that these operands allow at all, and what each makes of a sample.
#include <algorithm>
#include <numeric>

#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {
namespace {

constexpr std::int64_t kSampledProducts = 100000;  ///< multiply-adds of one evaluation

std::vector<std::string> values_of(const ProductKey& key, const ProductSpec& spec, std::int64_t depth) {
  if (key.name == "promotion") return {"0", "32", "64", "128", "256", "512"};
  if (key.name == "splits") {
    std::vector<std::string> counts;
    for (std::int64_t s = 1; s <= 16 && (s == 1 || s * 32 <= depth); ++s) counts.push_back(std::to_string(s));
    if (spec.splits > 16) counts.push_back(std::to_string(spec.splits));
    return counts;
  }
  return key.values;
}

/// Formats and scale modes are facts of the operands.
bool is_choice(const std::string& key) {
  return key != "a_format" && key != "b_format" && key != "scale_mode" && key != "out_format";
}

ProductSpec changed_product(const ProductSpec& stated, std::span<const Choice> choices, const ChangeSet& set) {
  ProductSpec spec = stated;
  for (const Change& change : set)
    set_product_key(spec, choices[change.choice].name, choices[change.choice].values[change.value]);
  return spec;
}

}  // namespace

std::vector<Choice> product_choices(const ProductSpec& spec, const ReferenceProduct& reference) {
  std::vector<Choice> choices;
  for (const ProductKey& key : product_keys()) {
    if (!is_choice(key.name)) continue;
    Choice choice{key.name, {}, 0, false};
    const std::string stated = product_key(spec, key.name);
    std::vector<std::string> values = values_of(key, spec, reference.depth());
    if (std::find(values.begin(), values.end(), stated) == values.end()) values.push_back(stated);
    for (const std::string& value : values) {
      if (value == stated) choice.stated = choice.values.size();
      choice.values.push_back(value);
    }
    choices.push_back(std::move(choice));
  }
  return choices;
}

ProductExplanation explain_product(const ProductSpec& spec, ReferenceProduct& reference,
                                   std::span<const std::uint32_t> got, const SearchLimits& limits) {
  ProductExplanation explanation{product_choices(spec, reference), {}};
  std::vector<std::int64_t> all(static_cast<std::size_t>(reference.rows() * reference.cols()));
  std::iota(all.begin(), all.end(), 0);
  const std::vector<std::uint32_t> stated = reference.elements(spec, all);

  // The sample: as many differing as equal elements, spread over the matrix.
  std::vector<std::int64_t> differing, equal, sample;
  for (const std::int64_t i : all)
    (stated[static_cast<std::size_t>(i)] == got[static_cast<std::size_t>(i)] ? equal : differing).push_back(i);
  const std::int64_t wanted =
      std::clamp<std::int64_t>(kSampledProducts / std::max<std::int64_t>(reference.depth(), 1), 32, 256);
  const auto take = [&](const std::vector<std::int64_t>& from, std::int64_t count) {
    const auto n = static_cast<std::int64_t>(from.size());
    for (std::int64_t i = 0; i < std::min(count, n); ++i)
      sample.push_back(from[static_cast<std::size_t>(i * n / std::min(count, n))]);
  };
  const std::int64_t some = std::min<std::int64_t>(static_cast<std::int64_t>(equal.size()), wanted / 2);
  take(differing, wanted - some);
  take(equal, some);
  std::sort(sample.begin(), sample.end());

  const Evaluate evaluate = [&](const ChangeSet& set, Extent extent) -> std::optional<Match> {
    const ProductSpec other = changed_product(spec, explanation.choices, set);
    if (!set.empty() && !reference.impossible(other).empty()) return std::nullopt;
    const std::vector<std::int64_t>& which = extent == Extent::sample ? sample : all;
    const std::vector<std::uint32_t> is = reference.elements(other, which);
    Match match;
    match.reserve(which.size());
    for (std::size_t i = 0; i < which.size(); ++i)
      match.push_back(is[i] == got[static_cast<std::size_t>(which[i])] ? 1 : 0);
    return match;
  };
  explanation.search = search_choices(explanation.choices, evaluate, limits);
  return explanation;
}

}  // namespace ng::validate
