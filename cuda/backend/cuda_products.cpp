// SPDX-License-Identifier: Apache-2.0
//
// Products of forms with the `ieee` arithmetic (for `hopper`, cuda_tensor_core.cpp): operands decoded to FP32 (code
// times block scale, one rounding), one fma chain per output, then the tensor scales, then one rounding to the output's
// dtype. Also the compensation of outlier splits, and where a tap sees products.
#include "backend/cuda_backend.hpp"
#include "backend/outliers.hpp"
#include "backend/product_operands.hpp"
#include "fast/chain_matmul.hpp"
#include "narrowgauge/base/check.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

/// An operand of the chain, and the tensor scale of each group that is still to be applied.
struct ChainOperand {
  StridedReals reals{};
  const float* tensor_scales = nullptr;
  Buffer copy;

  [[nodiscard]] StridedReals at(std::int64_t row, std::int64_t col) const {
    StridedReals part = reals;
    part.data = static_cast<const std::byte*>(reals.data) +
                (row * reals.row_stride + col * reals.col_stride) * static_cast<std::int64_t>(size_of(reals.dtype));
    return part;
  }
};

ChainOperand chain_operand(const Form& form, const Product& product, KernelChoice choice) {
  ChainOperand operand;
  if (form.kind == OperandKind::quantized) {
    const CarriedOperand carried = carry_operand(form, product, CarrierType::f32, true, {}, nullptr, choice);
    operand.copy = carried.numbers;
    operand.reals = {operand.copy.data.get(), Dtype::f32, carried.stride, 1};
    if (form.quantized->has_tensor_scale()) operand.tensor_scales = form.quantized->tensor_scales.as<float>();
    return operand;
  }
  const TensorView& x = form.plain.view;
  NG_CHECK(x.dtype == Dtype::f32 || x.dtype == Dtype::bf16);
  const bool column = form.orientation == Orientation::column;
  operand.reals = {x.data, x.dtype, column ? 1 : x.stride, column ? x.stride : 1};
  return operand;
}

}  // namespace

void CudaBackend::matmul(const StepContext& context, const Product& product) {
  Product grouped = product;
  const RowGroups one;
  grouped.groups = &one;
  grouped_matmul(context, grouped);
}

void CudaBackend::grouped_matmul(const StepContext& context, const Product& product) {
  NG_CHECK(product.a != nullptr && product.b != nullptr && product.groups != nullptr);
  if (tap_ == nullptr || product.site == nullptr || !tap_->wants_product(context, *product.site)) {
    multiply(product);
    return;
  }
  std::vector<float> before;
  if (product.accumulate) {
    for (const std::int64_t r : sampled_indices(product.out.rows, kSampledRows)) {
      const std::vector<float> row = to_host<float>(product.out.row(r), static_cast<std::size_t>(product.out.cols));
      before.insert(before.end(), row.begin(), row.end());
    }
  }
  multiply(product);
  tap_->multiplied(
      ProductEvent{context, *product.site, product.gemm, *product.a, *product.b, *product.groups, product.out, before});
}

void CudaBackend::multiply(const Product& product) {
  if (product.compensate != Compensate::none) return compensated_product(product);
  if (options_.arithmetic == Arithmetic::hopper) {
    const HopperProduct how = hopper_product(gemm_spec_of(product));
    NG_CHECK(how.refusal == HopperRefusal::none, "no tensor core has the product ", product.site->name);
    if (how.steps != HopperSteps::fp32_chain) return tensor_core_product(product, how);
  }
  const std::vector<ProductPart> parts = product_parts(product);
  const ChainOperand a = chain_operand(*product.a, product, choice_);
  const ChainOperand b = chain_operand(*product.b, product, choice_);
  std::vector<ChainProduct> chains;
  for (std::size_t g = 0; g < parts.size(); ++g) {
    const ProductPart& part = parts[g];
    ChainProduct chain;
    chain.a = a.at(part.a_row, part.a_k);
    chain.b = b.at(part.b_row, part.b_k);
    chain.k = part.k;
    chain.out = row_slice(product.out, part.out_row, part.m);
    chain.accumulate = product.accumulate;
    chain.scale_a = a.tensor_scales != nullptr ? a.tensor_scales + g : nullptr;
    chain.scale_b = b.tensor_scales != nullptr ? b.tensor_scales + g : nullptr;
    chains.push_back(chain);
  }
  if (fast() && fast::chain_matmul_serves(chains)) return fast::chain_matmul(chains, nullptr);
  for (const ChainProduct& chain : chains) plain::chain_product(chain, nullptr);
}

void CudaBackend::compensated_product(const Product& product) {
  NG_CHECK(product.gemm == Gemm::fprop && product.a->quantized->residual != nullptr);
  const Tensor sums = tensor(Dtype::f32, product.out.rows, product.out.cols);
  Product uncompensated = product;
  uncompensated.compensate = Compensate::none;
  uncompensated.out = sums.view;
  multiply(uncompensated);
  Tensor decoded;
  TensorView weight;
  if (product.compensate == Compensate::original) {
    weight = *product.weight;
  } else if (product.b->kind != OperandKind::quantized) {
    weight = product.b->plain.view;
  } else {
    decoded = tensor(Dtype::f32, product.b->quantized->rows, product.b->quantized->cols);
    dequantize(*product.b->quantized, decoded.view);
    weight = decoded.view;
  }
  const RowGroups& groups = *product.groups;
  const std::int64_t n = weight.rows / groups.count();
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t begin = groups.begin(g, sums.view.rows);
    const std::int64_t rows = groups.end(g, sums.view.rows) - begin;
    add_residual_rows(*product.a->quantized->residual, begin, row_slice(weight, g * n, n),
                      row_slice(sums.view, begin, rows), choice_);
  }
  cast(sums.view, product.out);
}

}  // namespace ng::cuda
