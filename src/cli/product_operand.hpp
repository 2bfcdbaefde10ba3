// SPDX-License-Identifier: Apache-2.0
//
// Products as the program computes them: the CPU backend's fast path where the spec is one of its products, the
// verifier's reference elsewhere.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/io/array.hpp"
#include "narrowgauge/validate/reference_product.hpp"

namespace ng::cli {

/// What the backend takes, pointing into `operands`.
struct BackendOperands {
  cpu::ProductMatrix a, b;
  cpu::ProductScales scales;
  cpu::MatmulSize size;
};
[[nodiscard]] BackendOperands backend_operands(const validate::ProductOperands& operands, ScaleMode mode);

/// FP32, BF16 or FP16 numbers of the output's type as an array.
[[nodiscard]] Array result_array(const std::vector<float>& result, ProductOutput output, std::int64_t m,
                                 std::int64_t n);

/// VerifyOptions::product on all cores; bits equal reference_product's.
[[nodiscard]] Array product_answer(const std::string& spec, const std::map<std::string, Array>& operands);

}  // namespace ng::cli
