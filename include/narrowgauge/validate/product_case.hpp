// SPDX-License-Identifier: Apache-2.0
//
// Products as the verifier's cases.
#pragma once

#include <optional>

#include "narrowgauge/validate/case.hpp"
#include "narrowgauge/validate/choice_search.hpp"
#include "narrowgauge/validate/verdict.hpp"

namespace ng::validate {

/// VerifyOptions::explain_product; nothing where the case has no result of the product's shape.
[[nodiscard]] std::optional<Explanation> explain_product_case(const Case& c, const SearchLimits& limits);

}  // namespace ng::validate
