// SPDX-License-Identifier: Apache-2.0
//
// Random dot products through instructions and cuBLASLt, each compared with the model.
#pragma once

#include <cstdint>
#include <ostream>

#include "comparison.hpp"
#include "narrowgauge/base/canonical_json.hpp"

namespace ng_silicon {

/// At least `products` of every instruction and distribution; the first differences go to `differences`.
ng::Json random_instruction_products(std::int64_t products, std::ostream& differences, Comparison& total);

/// `size` x `size` products of every type, output and mode that the library offers, in every distribution.
ng::Json random_library_products(std::int64_t size, std::ostream& differences, Comparison& total);

}  // namespace ng_silicon
