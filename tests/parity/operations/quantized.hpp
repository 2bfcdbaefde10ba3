// SPDX-License-Identifier: Apache-2.0
//
// Quantized tensors as outputs of an operation, and the quantizers that recipes use, for the operation tests.
#pragma once

#include <string>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "operations/parity.hpp"

namespace ng_test {

/// Codes, scales, tensor scales and amaxes, residual, shapes, count of NaN.
void add_quantized(Outputs& out, ng::Backend& backend, const std::string& name, const ng::QuantizedTensor& q);

struct NamedSpec {
  std::string name;
  ng::QuantizerSpec spec;
};

/// A preset by name.
[[nodiscard]] ng::QuantizerSpec preset(const std::string& name);

/// Every preset as it is, and what published recipes change of them: stochastic rounding, transforms, the order of
/// decoding, the scope of tensor scales, forbidden NaN.
[[nodiscard]] std::vector<NamedSpec> training_specs();

/// Ragged groups of `rows` rows, the second of them empty; none for 0.
[[nodiscard]] ng::RowGroups ragged_groups(std::int64_t rows, std::int64_t multiple);

}  // namespace ng_test
