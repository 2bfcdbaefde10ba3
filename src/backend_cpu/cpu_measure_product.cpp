// SPDX-License-Identifier: Apache-2.0
//
// Sampled elements of a product beside what an exact product would have given: of the same decoded operands, of the
// unquantized ones, and with only one of the two quantized. Every product of two FP32 numbers is exact in double, and
// their sums are exact, so neither order nor micro-batches enter. Also where a tap sees products.
#include <algorithm>
#include <vector>

#include "cpu_backend.hpp"
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
  const TensorView& x = version == OperandVersion::quantized ? form.plain.view : form.original.view;
  NG_CHECK(x.data != nullptr, "a product is looked at whose operands have lost their originals");
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
  const bool wgrad = event.gemm == Gemm::wgrad;
  const TensorView& out = event.out;
  const Placement& place = out.placement;

  // 1. Which elements: rows of the view whose logical row is sampled.
  const std::vector<std::int64_t> wanted = sampled_indices(wgrad ? out.rows : place.rows, kSampledRows);
  const std::vector<std::int64_t> columns = sampled_indices(out.cols, kSampledColumns);
  struct Row {
    std::int64_t row, logical, group, sample;
  };
  std::vector<Row> rows;
  const RowGroups& groups = event.groups;
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t height = wgrad ? out.rows / groups.count() : 0;
    const std::int64_t first = wgrad ? g * height : groups.begin(g, out.rows);
    const std::int64_t last = wgrad ? first + height : groups.end(g, out.rows);
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t logical = wgrad ? r : logical_row(place, r);
      const auto found = std::lower_bound(wanted.begin(), wanted.end(), logical);
      if (found != wanted.end() && *found == logical) rows.push_back({r, logical, g, found - wanted.begin()});
    }
  }
  if (rows.empty()) return {};

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
  const std::int64_t n = out.cols;
  std::vector<ProductElement> elements(rows.size() * columns.size());
  pool_.parallel_for(static_cast<std::int64_t>(rows.size()), [&](std::int64_t i) {
    const Row& row = rows[static_cast<std::size_t>(i)];
    const std::int64_t height = wgrad ? out.rows / groups.count() : 0;
    const std::int64_t a_row = wgrad ? row.row - row.group * height : row.row;
    const std::int64_t k0 = wgrad ? groups.begin(row.group, a[kPlain].depth) : 0;
    const std::int64_t k1 = wgrad ? groups.end(row.group, a[kPlain].depth) : a[kPlain].depth;
    for (std::size_t j = 0; j < columns.size(); ++j) {
      const std::int64_t column = columns[j];
      const std::int64_t b_row = event.gemm == Gemm::fprop ? row.group * n + column : column;
      const std::int64_t b_k = event.gemm == Gemm::dgrad ? row.group * a[kPlain].depth : 0;
      const auto sum = [&](int first, int second) {
        UnroundedSum total;
        for (std::int64_t k = k0; k < k1; ++k) total += a[first].at(a_row, k) * b[second].at(b_row, b_k + k);
        const double scale = a[first].scale(row.group) * b[second].scale(row.group);
        return scale == 1.0 ? total : UnroundedSum(total.value() * scale);
      };
      ProductElement& element = elements[static_cast<std::size_t>(i) * columns.size() + j];
      element.place = row.logical * place.cols + place.col0 + column;
      element.exact = sum(kQuantized, kQuantized);
      element.plain = sum(kPlain, kPlain);
      element.first = sum(kQuantized, kTransformed);
      element.second = sum(kTransformed, kQuantized);
      const std::byte* given = out.row(row.row);
      element.given +=
          static_cast<double>(out.dtype == Dtype::bf16
                                  ? float_of(std::uint32_t{reinterpret_cast<const std::uint16_t*>(given)[column]} << 16)
                                  : reinterpret_cast<const float*>(given)[column]);
      if (!event.before.empty())
        element.given += -static_cast<double>(event.before[static_cast<std::size_t>(row.sample * n + column)]);
    }
  });
  return elements;
}

}  // namespace ng::cpu
