// SPDX-License-Identifier: Apache-2.0
//
// Inside the verifier: the keys of a quantizer and the kinds of defects as a list of choices, and sets of changes
// applied to a spec.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/validate/choice_search.hpp"
#include "narrowgauge/validate/deviation.hpp"

namespace ng::validate {

/// Every key of the quantizer text with every value that `stated` could have (other elements of the same width, other
/// tiles, transforms that the length along the contraction allows), then every kind of defect.
[[nodiscard]] std::vector<Choice> quantizer_choices(const QuantizerSpec& stated, std::int64_t length);

struct ChangedQuantizer {
  QuantizerSpec spec;
  Deviation deviation;
};
/// Nothing when the changes contradict each other or the rest.
[[nodiscard]] std::optional<ChangedQuantizer> changed(const QuantizerSpec& stated, const std::vector<Choice>& choices,
                                                      const ChangeSet& set);

}  // namespace ng::validate
