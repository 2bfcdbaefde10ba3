// SPDX-License-Identifier: Apache-2.0
//
// One row per kind of defect.
#include "narrowgauge/validate/deviation.hpp"

namespace ng::validate {
namespace {

template <class E, E Deviation::*kField>
DeviationKey key(const char* name) {
  return {name, names_of<E>(), [](Deviation& deviation, std::size_t value) {
            deviation.*kField = enum_tables::Table<E>::kRows[value].value;
          }};
}

template <class E>
void add(std::string& text, const char* name, E value) {
  if (value == E::none) return;
  text += (text.empty() ? "" : ",") + std::string(name) + "=" + std::string(name_of(value));
}

}  // namespace

const std::vector<DeviationKey>& deviation_keys() {
  static const std::vector<DeviationKey> keys = {
      key<Intermediate, &Deviation::intermediate>("intermediate"),
      key<Flush, &Deviation::flush>("flush"),
      key<TopBinade, &Deviation::top_binade>("top_binade"),
      key<Factor, &Deviation::factor>("factor"),
      key<DrawOrder, &Deviation::draw_order>("draw_order"),
      key<NibbleOrder, &Deviation::nibble_order>("nibble_order"),
      key<AmaxDefect, &Deviation::amax>("amax"),
  };
  return keys;
}

std::string to_text(const Deviation& d) {
  std::string text;
  add(text, "intermediate", d.intermediate);
  add(text, "flush", d.flush);
  add(text, "top_binade", d.top_binade);
  add(text, "factor", d.factor);
  add(text, "draw_order", d.draw_order);
  add(text, "nibble_order", d.nibble_order);
  add(text, "amax", d.amax);
  return text;
}

}  // namespace ng::validate
