// SPDX-License-Identifier: Apache-2.0
//
// What may be seen of a step. A site names a tensor edge (`layer.3/fc1/activation/fprop`); a backend shows a tap the
// tensor before and after quantization and gets nothing back. No storage here.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "narrowgauge/tensor/quantized_tensor.hpp"
#include "narrowgauge/tensor/step_context.hpp"
#include "narrowgauge/tensor/tensor_forms.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng {

/// A named tensor edge. `index` numbers the sites of a model from 0; `tensor_id` is the first 32 bits of SHA-256 of the
/// name and keys random draws, so that new sites never move old ones.
struct Site {
  std::string name;
  std::uint32_t index = 0;
  std::uint32_t tensor_id = 0;
};

/// A tensor and its quantized form, as one operation saw them. `original` lies as the model has it (never transposed);
/// `quantized` may be its row or column form. Valid during the call only.
struct QuantizationEvent {
  const StepContext& context;
  const Site& site;
  const TensorView& original;
  const RowGroups& groups;
  const QuantizedTensor& quantized;
};

/// A product as one operation saw it. `a` and `b` carry their originals; `groups` as the operation took them. `before`:
/// what the product was added to, at its sampled rows (sampled_indices) in order, [rows, cols] f32; empty when nothing
/// was there. Valid during the call only.
struct ProductEvent {
  const StepContext& context;
  const Site& site;
  Gemm gemm = Gemm::fprop;
  const Form& a;
  const Form& b;
  const RowGroups& groups;
  const TensorView& out;
  std::span<const float> before;
};

class Tap {
 public:
  virtual ~Tap() = default;
  /// One branch for an unplanned site.
  virtual bool wants(const StepContext& context, const Site& site) const = 0;
  virtual void quantized(const QuantizationEvent& event) = 0;

  /// Of a product's site.
  virtual bool wants_product(const StepContext&, const Site&) const { return false; }
  /// Of an operand's site: its product is wanted, so that the form has to keep its original.
  virtual bool wants_original(const StepContext&, const Site&) const { return false; }
  virtual void multiplied(const ProductEvent&) {}
};

}  // namespace ng
