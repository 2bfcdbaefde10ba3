// SPDX-License-Identifier: Apache-2.0
//
// Inside the verifier: what a scaling-aware transpose may do otherwise.
#pragma once

#include <optional>
#include <vector>

#include "narrowgauge/tensor/unpacked_tensor.hpp"
#include "narrowgauge/validate/choice_search.hpp"
#include "narrowgauge/validate/specs.hpp"

namespace ng::validate {

[[nodiscard]] std::vector<Choice> transpose_choices(const TransposeSpec& stated);

/// The transpose with the changes. Nothing when they contradict each other or x.
[[nodiscard]] std::optional<UnpackedTensor> changed_transpose(const UnpackedTensor& x, const TransposeSpec& stated,
                                                              const std::vector<std::int64_t>& splits,
                                                              const std::vector<Choice>& choices, const ChangeSet& set);

}  // namespace ng::validate
