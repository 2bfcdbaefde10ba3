// SPDX-License-Identifier: Apache-2.0
//
// Products of forms with the `hopper` arithmetic: numbers that a tensor core takes and scales that stay outside
// (numerics/hopper_product.hpp says which), group by group through the tensor core, or, with plain kernels and for what
// the tensor core's library has no kernel, through the model of it; then our own FP32 addition where a gradient
// accumulates, then one rounding to the output's dtype.
#include "backend/cuda_backend.hpp"
#include "backend/product_operands.hpp"
#include "narrowgauge/base/check.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

int smallest_exponent_of(const Form& form, HopperSteps steps) {
  FormatId format = FormatId::bf16;
  if (steps == HopperSteps::fp8)
    format = form.quantized->spec.element_id == FormatId::e5m2 ? FormatId::e5m2 : FormatId::e4m3;
  return smallest_exponent(format_of(format));
}

}  // namespace

unsigned long long* CudaBackend::loss_counter() {
  if (carrier_losses_.data == nullptr) {
    carrier_losses_ = cuda::allocate(sizeof(unsigned long long));
    fill_bytes(carrier_losses_.data.get(), 0, carrier_losses_.bytes);
  }
  return carrier_losses_.as<unsigned long long>();
}

std::int64_t CudaBackend::carrier_losses() const {
  if (carrier_losses_.data == nullptr) return 0;
  return static_cast<std::int64_t>(to_host<unsigned long long>(carrier_losses_.data.get(), 1)[0]);
}

void CudaBackend::tensor_core_product(const Product& product, const HopperProduct& how) {
  const std::vector<ProductPart> parts = product_parts(product);
  if (library_ != nullptr && library_product(product, how, parts)) return;
  unsigned long long* const losses = library_ == nullptr ? loss_counter() : nullptr;  // else they are counted already
  const CarrierType type = how.steps == HopperSteps::bf16 ? CarrierType::f32_of_bf16 : CarrierType::f32;
  const CarriedOperand a = carry_operand(*product.a, product, type, how.a.rides, {}, losses, choice_);
  const CarriedOperand b = carry_operand(*product.b, product, type, how.b.rides, {}, losses, choice_);
  const CarriedScales scales_a = model_scales(*product.a, product, how.a.outside, how.scales);
  const CarriedScales scales_b = model_scales(*product.b, product, how.b.outside, how.scales);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const ProductPart& part = parts[i];
    const auto g = static_cast<std::int64_t>(i);
    const std::int64_t stride = how.scales == ScaleMode::tensor ? 0
                                : is_blockwise(how.scales)      ? (part.k + kScaleBlock - 1) / kScaleBlock
                                                                : 1;
    ModelProduct model;
    model.spec = how.core;
    model.a = {a.numbers.as<float>() + a.place(g, part.a_row, part.a_k), a.stride,
               smallest_exponent_of(*product.a, how.steps), scales_a.of_group(g), stride};
    model.b = {b.numbers.as<float>() + b.place(g, part.b_row, part.b_k), b.stride,
               smallest_exponent_of(*product.b, how.steps), scales_b.of_group(g), stride};
    model.k = part.k;
    model.out = row_slice(product.out, part.out_row, part.m);
    model.accumulate = product.accumulate;
    plain::model_product(model, nullptr);
  }
}

}  // namespace ng::cuda
