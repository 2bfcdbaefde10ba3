// SPDX-License-Identifier: Apache-2.0
//
// product_operand.hpp: strides by mode, and the choice of the path.
#include "product_operand.hpp"

#include <algorithm>
#include <thread>

#include "narrowgauge/numerics/accumulator_catalog.hpp"

namespace ng::cli {

using validate::ProductSpec;

BackendOperands backend_operands(const validate::ProductOperands& in, ScaleMode mode) {
  const std::int64_t k = in.a.cols;
  const std::int64_t blocks = is_blockwise(mode) ? (k + kScaleBlock - 1) / kScaleBlock : 1;
  const std::int64_t stride = mode == ScaleMode::tensor ? 0 : blocks;
  BackendOperands to{
      {in.a.values.data(), in.a.rows, k, in.a.format},
      {in.b.values.data(), in.b.rows, k, in.b.format},
      {in.scale_a.data(), stride, in.scale_b.data(), stride, mode == ScaleMode::block_128x128 ? kScaleBlock : 1},
      {k}};
  if (in.block_a.kind == OperandScales::none) return to;
  to.a.block_scales = in.block_a.values.data();
  to.b.block_scales = in.block_b.values.data();
  to.a.block_scale_stride = in.block_a.blocks;
  to.b.block_scale_stride = in.block_b.blocks;
  to.size.block_scale_k = validate::block_scale_k(in.block_a.kind);
  to.size.block_scale_format = validate::block_scale_format(in.block_a.kind);
  return to;
}

Array result_array(const std::vector<float>& result, ProductOutput output, std::int64_t m, std::int64_t n) {
  if (output == ProductOutput::f32) return Array::from<float>({m, n}, result);
  std::vector<std::uint16_t> narrow;
  narrow.reserve(result.size());
  for (const float value : result) narrow.push_back(static_cast<std::uint16_t>(output_bits(output, value)));
  return Array::from_bytes(output == ProductOutput::bf16 ? Dtype::bf16 : Dtype::f16, {m, n},
                           std::as_bytes(std::span(narrow)));
}

Array product_answer(const std::string& text, const std::map<std::string, Array>& operands) {
  const ProductSpec spec = validate::product_of(text);
  // The backend's products: every other choice as it stands by default.
  ProductSpec plain;
  plain.arithmetic = spec.arithmetic;
  plain.a_format = spec.a_format, plain.b_format = spec.b_format;
  plain.accumulate = spec.accumulate, plain.accumulator = spec.accumulator;
  plain.scale_mode = spec.scale_mode, plain.splits = spec.splits, plain.out_format = spec.out_format;
  const auto in = validate::ProductOperands::from(operands, spec);
  if (!(plain == spec)) return validate::reference_product(text, operands);
  const validate::ReferenceProduct reference(in);
  if (!reference.impossible(spec).empty()) return validate::reference_product(text, operands);  // says why not

  const BackendOperands given = backend_operands(in, spec.scale_mode);
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<float> result(static_cast<std::size_t>(in.a.rows * in.b.rows));
  if (spec.arithmetic == "exact" || spec.arithmetic == "ieee")
    (spec.arithmetic == "exact" ? cpu::exact_matmul : cpu::ieee_matmul)(spec.scale_mode, spec.out_format, given.a,
                                                                        given.b, given.scales, given.size,
                                                                        result.data(), in.b.rows, threads);
  else
    cpu::tensor_core_matmul(reference.tensor_core_spec(spec), given.a, given.b, given.scales, given.size, result.data(),
                            in.b.rows, threads);
  return result_array(result, spec.out_format, in.a.rows, in.b.rows);
}

}  // namespace ng::cli
