// SPDX-License-Identifier: Apache-2.0
//
// A product's forms made ready for kernels: which rows, columns and k belong to which group, the numbers of an operand
// copied, its outside scales laid out.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "plain/carriers.hpp"
#include "plain/products.hpp"

namespace ng::cuda {

/// What of the operands and of the output is one group's: D[out_row + i, j] over A[a_row + i, a_k + l] and
/// B[b_row + j, b_k + l], i < m, j < n, l < k.
struct ProductPart {
  std::int64_t m, n, k;
  std::int64_t a_row, a_k, b_row, b_k, out_row;
};

/// Rows and depth of an operand as the product sees it.
struct OperandShape {
  std::int64_t rows = 0;
  std::int64_t depth = 0;
};
[[nodiscard]] OperandShape shape_of(const Form& form);

/// One part for each group, empty ones included. Checks the output's shape.
[[nodiscard]] std::vector<ProductPart> product_parts(const Product& product);

/// The specs that hopper_product asks for.
[[nodiscard]] GemmSpec gemm_spec_of(const Product& product);

/// Groups of an operand: of its own tiles where it is quantized, else of the product. In a copy each group of the depth
/// starts at a multiple of `alignment` (where rows are grouped, nothing is padded).
[[nodiscard]] OperandGroups operand_groups(const Form& form, const Product& product, std::int64_t alignment);

/// Numbers of a form, copied: [rows, stride], group g's first column at place[g] where the depth is grouped.
struct CarriedOperand {
  Buffer numbers;
  std::int64_t stride = 0;
  bool grouped_rows = true;
  OperandGroups groups{};

  /// Column of group g's first k in the copy.
  [[nodiscard]] std::int64_t column(std::int64_t g, std::int64_t k_in_operand) const {
    return grouped_rows ? k_in_operand : groups.place[g];
  }
};

/// `losses`: device counter, or nullptr. The stride is a multiple of `alignment` elements.
[[nodiscard]] CarriedOperand carry_operand(const Form& form, const Product& product, CarrierType type, bool with_scales,
                                           std::int64_t alignment, unsigned long long* losses);

/// A job for the outside scales of a form; places, layout and target are the caller's.
[[nodiscard]] OutsideScaleJob outside_scale_job(const Form& form, const Product& product, OutsideScale outside);

}  // namespace ng::cuda
