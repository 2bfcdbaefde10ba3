// SPDX-License-Identifier: Apache-2.0
//
// One value with all the forms in which products want it: plain, or quantized along its rows or columns. All forms of a
// value come from one call of the backend (`produce`), so that a fast backend reads the original once. The model hands
// forms on without looking inside.
#pragma once

#include <memory>
#include <vector>

#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"
#include "narrowgauge/tensor/storage.hpp"

namespace ng {

/// How a plain (not quantized) operand or carried tensor is stored.
constexpr Dtype dtype_of(OperandKind plain) {
  return plain == OperandKind::f32 ? Dtype::f32 : Dtype::bf16;
}

struct Form {
  Gemm gemm = Gemm::fprop;
  Orientation orientation = Orientation::row;
  OperandKind kind = OperandKind::bf16;
  Tensor plain;                                      ///< kind f32 or bf16: as the original lies, never transposed
  std::shared_ptr<const QuantizedTensor> quantized;  ///< kind quantized
  Tensor original{};  ///< what it was made from; kept only while somebody looks at its product
};

struct TensorForms {
  Tensor original;  ///< may be released once no form aliases it
  RowGroups groups;
  std::vector<Form> forms;
  std::shared_ptr<const QuantizedTensor>
      saved{};  ///< what the backward pass sees instead of the original, if it is there

  /// The form that `gemm` asked for, or nullptr.
  const Form* find(Gemm gemm) const {
    for (const Form& form : forms)
      if (form.gemm == gemm) return &form;
    return nullptr;
  }
};

}  // namespace ng
