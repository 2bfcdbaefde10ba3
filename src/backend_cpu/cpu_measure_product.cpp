// SPDX-License-Identifier: Apache-2.0
//
// Sampled elements of a product beside what an exact product would have given: of the same decoded operands, of the
// unquantized ones, and with only one of the two quantized. Every product of two FP32 numbers is exact in double, and
// their sums are exact, so neither order nor micro-batches enter. Also where a tap sees products.
#include <algorithm>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/backend/product_samples.hpp"
#include "narrowgauge/base/check.hpp"

namespace ng::cpu {

/// An operand as FP32 matrix [rows, depth], and the tensor scale of each group that is still to be applied.
struct CpuBackend::SampledOperand {
  std::vector<float> values;
  std::int64_t rows = 0, depth = 0, row_stride = 0, col_stride = 0;
  const float* tensor_scales = nullptr;

  [[nodiscard]] double at(std::int64_t r, std::int64_t k) const {
    return static_cast<double>(values[static_cast<std::size_t>(r * row_stride + k * col_stride)]);
  }
  [[nodiscard]] double scale(std::int64_t group) const {
    return tensor_scales == nullptr ? 1.0 : static_cast<double>(tensor_scales[group]);
  }
};

CpuBackend::SampledOperand CpuBackend::sampled_operand(const StepContext& context, const Form& form,
                                                       OperandVersion version) {
  SampledOperand operand;
  if (version == OperandVersion::quantized && form.kind == OperandKind::quantized) {
    const QuantizedTensor& q = *form.quantized;
    operand.rows = q.rows;
    operand.depth = q.cols;
    operand.values.resize(static_cast<std::size_t>(q.rows * q.cols));
    decode_rows(q, DecodedScales::block, 0, q.rows, operand.values.data(), q.cols);
    operand.row_stride = q.cols;
    operand.col_stride = 1;
    if (q.has_tensor_scale()) operand.tensor_scales = q.tensor_scales.as<float>();
    return operand;
  }
  const TensorView& x = version == OperandVersion::quantized ? form.plain.view : original_of(form);
  QuantizerSpec spec;
  const bool transforms = version == OperandVersion::transformed && form.kind == OperandKind::quantized;
  if (transforms) spec.hadamard = form.quantized->spec.hadamard;
  const FloatSource source =
      float_source(context, x, transforms ? form.quantized->groups : RowGroups{}, spec, form.orientation);
  operand.values.resize(static_cast<std::size_t>(x.rows * x.cols));
  for (std::int64_t r = 0; r < x.rows; ++r)
    std::copy_n(source.data + r * source.stride, x.cols, operand.values.begin() + r * x.cols);
  const bool column = form.orientation == Orientation::column;
  operand.rows = column ? x.cols : x.rows;
  operand.depth = column ? x.rows : x.cols;
  operand.row_stride = column ? 1 : x.cols;
  operand.col_stride = column ? x.cols : 1;
  return operand;
}

std::vector<float> CpuBackend::rows_before(const Product& product) {
  std::vector<float> rows;
  if (!product.accumulate) return rows;
  for (const std::int64_t r : sampled_indices(product.out.rows, kSampledRows)) {
    const float* row = reinterpret_cast<const float*>(product.out.row(r));
    rows.insert(rows.end(), row, row + product.out.cols);
  }
  return rows;
}

void CpuBackend::grouped_matmul(const StepContext& context, const Product& product) {
  NG_CHECK(product.a != nullptr && product.b != nullptr && product.groups != nullptr);
  if (tap_ == nullptr || product.site == nullptr || !tap_->wants_product(context, *product.site)) {
    multiply(product);
    return;
  }
  const std::vector<float> before = rows_before(product);
  multiply(product);
  tap_->multiplied(
      ProductEvent{context, *product.site, product.gemm, *product.a, *product.b, *product.groups, product.out, before});
}

std::vector<ProductElement> CpuBackend::measure_product(const ProductEvent& event) {
  // 1. Which elements.
  const TensorView& out = event.out;
  const ProductSamples samples = product_samples(event, out.placement.row_ids);
  if (samples.rows.empty()) return {};

  // 2. The operands in their versions.
  enum { kQuantized, kTransformed, kPlain, kVersions };
  SampledOperand a[kVersions], b[kVersions];
  const OperandVersion versions[kVersions] = {OperandVersion::quantized, OperandVersion::transformed,
                                              OperandVersion::plain};
  for (int v = 0; v < kVersions; ++v) {
    a[v] = sampled_operand(event.context, event.a, versions[v]);
    b[v] = sampled_operand(event.context, event.b, versions[v]);
  }

  // 3. Sums over k.
  std::vector<ProductElement> elements(samples.rows.size() * samples.columns.size());
  pool_.parallel_for(static_cast<std::int64_t>(samples.rows.size()), [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    const ProductSamples::Row& row = samples.rows[i];
    for (std::size_t j = 0; j < samples.columns.size(); ++j) {
      const std::int64_t column = samples.columns[j];
      const auto sum = [&](int first, int second) {
        UnroundedSum total;
        for (std::int64_t k = row.k0; k < row.k1; ++k)
          total += a[first].at(row.a_row, k) * b[second].at(row.b_row0 + column, row.b_k + k);
        return total;
      };
      const UnroundedSum sums[ProductSamples::kPairs] = {sum(kQuantized, kQuantized), sum(kPlain, kPlain),
                                                         sum(kQuantized, kTransformed), sum(kTransformed, kQuantized)};
      const std::byte* given = out.row(row.row);
      elements[i * samples.columns.size() + j] =
          sampled_element(event, samples, i, j, sums, a[kQuantized].scale(row.group), b[kQuantized].scale(row.group),
                          out.dtype == Dtype::bf16
                              ? float_of(std::uint32_t{reinterpret_cast<const std::uint16_t*>(given)[column]} << 16)
                              : reinterpret_cast<const float*>(given)[column]);
    }
  });
  return elements;
}

}  // namespace ng::cpu
