// SPDX-License-Identifier: Apache-2.0
//
// Which layers a rule is for: fractions rounded down, counts, or a list.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/recipe.hpp"

namespace ng {

LayerSelector LayerSelector::parse(std::string_view text) {
  const auto fail = [&] {
    throw UserError(fmt::format(
        "'{}' selects no layers; valid: \"first:5%,last:15%\" (rounded down), \"first:2,last:1\" or a list [0, 3]",
        text));
  };
  LayerSelector selector;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    begin = end + 1;
    Part parsed;
    if (part.starts_with("first:")) {
      part.remove_prefix(6);
    } else if (part.starts_with("last:")) {
      parsed.first = false;
      part.remove_prefix(5);
    } else {
      fail();
    }
    if (part.ends_with('%')) {
      parsed.percent = true;
      part.remove_suffix(1);
    }
    const auto [last, error] =
        std::from_chars(part.data(), part.data() + part.size(), parsed.amount, std::chars_format::fixed);
    if (part.empty() || error != std::errc{} || last != part.data() + part.size() || !(parsed.amount >= 0)) fail();
    if (parsed.percent ? parsed.amount > 100 : parsed.amount != std::floor(parsed.amount)) fail();
    selector.parts_.push_back(parsed);
  }
  return selector;
}

LayerSelector LayerSelector::list(std::vector<std::int64_t> layers) {
  if (layers.empty()) throw UserError("an empty list selects no layers");
  LayerSelector selector;
  selector.list_ = std::move(layers);
  return selector;
}

bool LayerSelector::selects(std::int64_t layer, std::int64_t layers) const {
  if (everything()) return true;
  for (const Part& part : parts_) {
    const double wanted = part.percent ? std::floor(static_cast<double>(layers) * part.amount / 100.0) : part.amount;
    const std::int64_t count = static_cast<std::int64_t>(std::min(wanted, static_cast<double>(layers)));
    if (part.first ? layer < count : layer >= layers - count) return true;
  }
  return std::find(list_.begin(), list_.end(), layer) != list_.end();
}

void LayerSelector::check(std::int64_t layers) const {
  for (const std::int64_t layer : list_)
    if (layer < 0 || layer >= layers)
      throw UserError(fmt::format("layer {} does not exist; the model has layers 0 to {}", layer, layers - 1));
}

}  // namespace ng
