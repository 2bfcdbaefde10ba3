// SPDX-License-Identifier: Apache-2.0
//
// The verifier: a case in, a verdict out. The reference's arithmetic is the functions of numerics/ and quantize/; the
// product of a matmul comes from outside, since accumulators belong to a backend.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "narrowgauge/validate/case.hpp"
#include "narrowgauge/validate/verdict.hpp"

namespace ng::validate {

/// D = A B^T of a spec and operands ("a", "b", "scale_a", ...; as in a dump's group `in`): f32 or bf16, [M, N].
/// UserError on operands that do not fit.
using ProductReference = std::function<Array(const std::string& spec, const std::map<std::string, Array>& operands)>;
/// Why a product differs; nothing when it has no idea.
using ProductExplainer = std::function<std::optional<Explanation>(const Case& c, const SearchLimits& limits)>;

struct VerifyOptions {
  bool explain = false;
  bool power = true;
  bool blind = false;     ///< try every single choice on the inputs, to say which they cannot tell apart
  std::size_t first = 5;  ///< differences listed per part
  SearchLimits limits{};
  ProductReference product{};
  ProductExplainer explain_product{};
};

/// UserError: a spec that does not parse, inputs it cannot have (NaN where forbidden, scales that are no powers of
/// two), outputs of another size.
[[nodiscard]] Verdict verify(const Case& c, const VerifyOptions& options);

/// The choices that explain searches for an operation, as stated in `c`: names and values from the tables.
[[nodiscard]] std::vector<Choice> choices_of(const Case& c);

}  // namespace ng::validate
