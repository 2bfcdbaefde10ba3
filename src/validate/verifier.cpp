// SPDX-License-Identifier: Apache-2.0
//
// verifier.hpp: answer, comparison, recognition, power, explanation, one after the other.
#include "narrowgauge/validate/verifier.hpp"

#include <algorithm>

#include "parts.hpp"

namespace ng::validate {

bool Verdict::equal() const {
  return notes.empty() &&
         std::all_of(parts.begin(), parts.end(), [](const PartVerdict& part) { return part.differing == 0; });
}

Verdict verify(const Case& c, const VerifyOptions& options) {
  Verdict v;
  v.name = c.name;
  v.operation = name_of(c.operation);
  v.spec = c.spec;
  v.made_by = c.made_by;
  const Answer expected = answer(c, options);
  const Answer got = given_parts(c, expected, v.notes);
  for (const Part& part : got) {
    const auto reference =
        std::find_if(expected.begin(), expected.end(), [&](const Part& p) { return p.name == part.name; });
    v.parts.push_back(compare(*reference, part, c.x, options.first));
    if (v.parts.back().differing == 0) continue;
    for (Finding& finding : recognise(*reference, part)) v.findings.push_back(std::move(finding));
  }
  if (options.power) v.power = power_of(c, expected, got, options);
  if (options.blind) v.blind = blind_choices(c, expected, got, options);
  const bool differs =
      std::any_of(v.parts.begin(), v.parts.end(), [](const PartVerdict& part) { return part.differing != 0; });
  if (options.explain && differs) v.explanation = explain(c, got, options);
  return v;
}

}  // namespace ng::validate
