// SPDX-License-Identifier: Apache-2.0
//
// A product's forms made ready for kernels: which rows, columns and k belong to which group, the numbers of an operand
// copied, its outside scales laid out.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/quantize_plan.hpp"
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

/// Multiples to which an operand's copy is padded with zeros.
struct Padding {
  std::int64_t rows = 1;
  std::int64_t depth = 1;
};

/// Groups of an operand: of its own tiles where it is quantized, else of the product. In a copy each starts at a
/// multiple of the padding of the grouped axis.
[[nodiscard]] OperandGroups operand_groups(const Form& form, const Product& product, const Padding& padding);

/// Numbers of a form, copied: [rows, stride].
struct CarriedOperand {
  Buffer numbers;
  std::int64_t rows = 0;
  std::int64_t stride = 0;
  bool grouped_rows = true;
  OperandGroups groups{};

  /// Where in the copy the element of (row, k) is, the first of group g.
  [[nodiscard]] std::int64_t place(std::int64_t g, std::int64_t row, std::int64_t k) const {
    return grouped_rows ? groups.place[g] * stride + k : row * stride + groups.place[g];
  }
};

/// `losses`: device counter, or nullptr.
[[nodiscard]] CarriedOperand carry_operand(const Form& form, const Product& product, CarrierType type, bool with_scales,
                                           const Padding& padding, unsigned long long* losses, KernelChoice choice);

/// Outside scales of an operand, group after group.
struct CarriedScales {
  OutsideScaleJob job{};
  Buffer values;

  [[nodiscard]] const float* of_group(std::int64_t g) const {
    return values.as<float>() + job.before(static_cast<std::int32_t>(g));
  }
};

/// For the model: [row][block], one block where the mode is not blockwise.
[[nodiscard]] CarriedScales model_scales(const Form& form, const Product& product, OutsideScale outside,
                                         ScaleMode mode);
/// In the library's layouts (LibraryOperand), rows padded as the operand's copy.
[[nodiscard]] CarriedScales library_scales(const Form& form, const Product& product, OutsideScale outside,
                                           ScaleMode mode, const Padding& padding);

}  // namespace ng::cuda
