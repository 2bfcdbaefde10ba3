// SPDX-License-Identifier: Apache-2.0
//
// Forms and views of one product.
#include "operations/products.hpp"

namespace ng_test {

using namespace ng;

namespace {

const Site kSite{"layer.1/fc1/product", 3, 77};

RowGroups equal_groups(std::int64_t count, std::int64_t rows) {
  RowGroups groups;
  for (std::int64_t g = 0; g <= count; ++g) groups.offsets.push_back(g * rows);
  return groups;
}

/// The form that a product wants of `x`.
Form form_of(Backend& b, const OperandSpec& spec, Operand operand, Gemm gemm, const Tensor& x,
             const RowGroups& groups) {
  Form form{gemm, orientation_of(operand, gemm), spec.kind, {}, {}};
  StepContext context;
  context.seed = 5;
  if (spec.kind == OperandKind::quantized)
    form.quantized =
        std::make_shared<QuantizedTensor>(b.quantize(context, x.view, groups, spec.quantizer, form.orientation, kSite));
  else
    form.plain = x;
  return form;
}

}  // namespace

OperandSpec quantized(const QuantizerSpec& quantizer) {
  OperandSpec spec;
  spec.kind = OperandKind::quantized;
  spec.quantizer = quantizer;
  return spec;
}

OperandSpec plain(OperandKind kind) {
  OperandSpec spec;
  spec.kind = kind;
  return spec;
}

Outputs multiply(Backend& b, const Shape& shape, const GemmSpec& spec, Gemm gemm, const Choice& choice) {
  const std::int64_t experts = shape.groups.count();
  const RowGroups weight_groups = shape.groups.offsets.empty() ? RowGroups{} : equal_groups(experts, shape.out);
  const auto source = [&](Operand operand, const OperandSpec& of) {
    const Dtype dtype = of.kind == OperandKind::f32 ? Dtype::f32 : Dtype::bf16;
    const std::uint32_t seed = choice.seed * 3 + static_cast<std::uint32_t>(operand);
    if (operand == Operand::weight)
      return tensor_of(b, dtype, experts * shape.out, shape.in, choice.values, seed, shape.padding);
    return tensor_of(b, dtype, shape.rows, operand == Operand::activation ? shape.in : shape.out, choice.values, seed,
                     shape.padding);
  };
  const auto form = [&](Operand operand, const OperandSpec& of) {
    return form_of(b, of, operand, gemm, source(operand, of),
                   operand == Operand::weight ? weight_groups : shape.groups);
  };
  const Form first = form(operand_a(gemm), spec.a), second = form(operand_b(gemm), spec.b);
  const bool compensates = gemm == Gemm::fprop && spec.compensate != Compensate::none;
  const Tensor weight = compensates ? source(Operand::weight, plain(OperandKind::f32)) : Tensor{};
  const std::int64_t rows = gemm == Gemm::wgrad ? experts * shape.out : shape.rows;
  const std::int64_t cols = gemm == Gemm::fprop ? shape.out : shape.in;
  const Tensor out = tensor_of(b, choice.out, rows, cols, Values::normal, choice.seed + 7, shape.padding);
  Product product;
  product.gemm = gemm;
  product.site = &kSite;
  product.a = &first;
  product.b = &second;
  product.out = out.view;
  product.accumulate = choice.accumulate;
  product.groups = &shape.groups;
  product.carrier = spec.carrier;
  product.accumulation = spec.accumulate;
  if (compensates) product.compensate = spec.compensate;
  product.weight = &weight.view;
  if (shape.groups.offsets.empty())
    b.matmul({}, product);
  else
    b.grouped_matmul({}, product);
  Outputs outputs;
  outputs.add(b, "out", out.view);
  outputs.add("losses", std::vector<std::int64_t>{b.carrier_losses()});
  return outputs;
}

}  // namespace ng_test
