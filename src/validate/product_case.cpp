// SPDX-License-Identifier: Apache-2.0
//
// product_case.hpp: results of any type as bits.
#include "narrowgauge/validate/product_case.hpp"

#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {

std::optional<Explanation> explain_product_case(const Case& c, const SearchLimits& limits) {
  if (!c.result) return std::nullopt;
  const ProductSpec spec = product_of(c.spec);
  ReferenceProduct reference(ProductOperands::from(c.operands, spec));
  if (c.result->rows() != reference.rows() || c.result->cols() != reference.cols()) return std::nullopt;
  std::vector<std::uint32_t> got;
  const Array& result = *c.result;
  if (result.dtype == Dtype::f32) {
    for (const float x : result.as<float>()) got.push_back(bits_of(x));
  } else if (result.dtype == Dtype::u32) {
    for (const std::uint32_t x : result.as<std::uint32_t>()) got.push_back(x);
  } else if (result.dtype == Dtype::bf16 || result.dtype == Dtype::f16 || result.dtype == Dtype::u16) {
    for (std::size_t i = 0; i + 1 < result.data.size(); i += 2)
      got.push_back(std::to_integer<std::uint32_t>(result.data[i]) | std::to_integer<std::uint32_t>(result.data[i + 1])
                                                                         << 8);
  } else {
    return std::nullopt;
  }
  ProductExplanation explanation = explain_product(spec, reference, got, limits);
  return Explanation{std::move(explanation.choices), std::move(explanation.search)};
}

}  // namespace ng::validate
