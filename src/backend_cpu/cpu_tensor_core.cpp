// SPDX-License-Identifier: Apache-2.0
//
// Products of forms with the `hopper` arithmetic: numbers that a tensor core takes and scales that stay outside
// (numerics/hopper_product.hpp says which), group by group through the tensor-core model, then our own FP32 addition
// where a gradient accumulates, then one rounding to the output's dtype.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "tensor_core_product.hpp"

namespace ng::cpu {

/// The numbers of one operand as FP32 values, [rows, depth], the contraction along rows.
struct CpuBackend::CarriedOperand {
  std::vector<float> numbers;
  std::int64_t rows = 0;
  std::int64_t depth = 0;
  FormatId format = FormatId::bf16;
  CarriedOperandSpec spec;
  const QuantizedTensor* quantized = nullptr;

  /// Its outside scales of rows [row0, row0 + count) in group g, one for each row and block of 128 of k (`blocks`).
  [[nodiscard]] std::vector<float> outside_scales(std::int64_t g, std::int64_t row0, std::int64_t count,
                                                  std::int64_t blocks) const {
    std::vector<float> scales(static_cast<std::size_t>(count * blocks), 1.0f);
    if (spec.outside == OutsideScale::none) return scales;
    const QuantizedTensor& q = *quantized;
    if (q.has_tensor_scale()) {
      std::fill(scales.begin(), scales.end(), q.tensor_scales.as<float>()[g]);
      return scales;
    }
    const bool row_form = q.orientation == Orientation::row;
    if (!row_form && q.groups.begin(g, q.cols) == q.groups.end(g, q.cols)) return scales;  // no k: no tiles
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t in_group = row_form ? row0 + i - q.groups.begin(g, q.rows) : row0 + i;
      const std::int64_t tile_row = q.spec.tile_rows == 0 ? 0 : in_group / q.spec.tile_rows;
      const std::int64_t at = row_form ? (offset + tile_row) * q.scale_cols : tile_row * q.scale_cols + offset;
      for (std::int64_t k = 0; k < blocks; ++k)
        scales[static_cast<std::size_t>(i * blocks + k)] =
            q.scales.as<float>()[at + (q.spec.tile_cols == 0 ? 0 : k * kScaleBlock / q.spec.tile_cols)];
    }
    return scales;
  }
};

CpuBackend::CarriedOperand CpuBackend::carried_form(const Form& form, const CarriedOperandSpec& spec,
                                                    HopperSteps steps) {
  CarriedOperand operand;
  operand.spec = spec;
  if (form.kind != OperandKind::quantized) {
    const TensorView& x = form.plain.view;
    NG_CHECK(x.dtype == Dtype::bf16);
    std::vector<float> rows(static_cast<std::size_t>(x.rows * x.cols));
    pool_.parallel_ranges(x.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(x.row(r)), rows.data() + r * x.cols, x.cols);
    });
    const bool column = form.orientation == Orientation::column;
    operand.rows = column ? x.cols : x.rows;
    operand.depth = column ? x.rows : x.cols;
    if (column) {
      operand.numbers.resize(rows.size());
      kernels_.transpose(rows.data(), x.cols, x.rows, x.cols, operand.numbers.data(), x.rows);
    } else {
      operand.numbers = std::move(rows);
    }
    return operand;
  }
  const QuantizedTensor& q = *form.quantized;
  operand.quantized = &q;
  operand.rows = q.rows;
  operand.depth = q.cols;
  operand.numbers.resize(static_cast<std::size_t>(q.rows * q.cols));
  if (steps == HopperSteps::fp8) operand.format = q.spec.element_id == FormatId::e5m2 ? FormatId::e5m2 : FormatId::e4m3;
  std::vector<std::int64_t> losses(static_cast<std::size_t>((q.rows + 63) / 64), 0);
  pool_.parallel_ranges(q.rows, 64, [&](std::int64_t begin, std::int64_t end) {
    float* const numbers = operand.numbers.data() + begin * q.cols;
    decode_rows(q, spec.rides ? DecodedScales::block : DecodedScales::none, begin, end, numbers, q.cols);
    if (steps != HopperSteps::bf16) return;
    for (std::int64_t i = 0; i < (end - begin) * q.cols; ++i) {
      const float held = float_of(output_bits(ProductOutput::bf16, numbers[i]) << 16);
      if (held == numbers[i] || std::isnan(numbers[i])) continue;  // a scale without a number is no loss of the carrier
      ++losses[static_cast<std::size_t>(begin / 64)];
      numbers[i] = held;
    }
  });
  for (const std::int64_t lost : losses) carrier_losses_ += lost;
  return operand;
}

void CpuBackend::tensor_core_product(const Product& product, const HopperProduct& how) {
  const CarriedOperand a = carried_form(*product.a, how.a, how.steps);
  const CarriedOperand b = carried_form(*product.b, how.b, how.steps);
  const RowGroups& groups = *product.groups;
  const std::int64_t count = groups.count();
  const bool wgrad = product.gemm == Gemm::wgrad;
  const TensorView& out = product.out;
  NG_CHECK(!product.accumulate || out.dtype == Dtype::f32);
  const std::int64_t n = product.gemm == Gemm::fprop ? b.rows / count : b.rows;
  NG_CHECK_EQ(out.cols, n);
  const bool blockwise = is_blockwise(how.scales);

  std::vector<float> result;
  for (std::int64_t g = 0; g < count; ++g) {
    // 1. What of the operands and of the output is this group's.
    const std::int64_t begin = groups.begin(g, wgrad ? a.depth : a.rows);
    const std::int64_t length = groups.end(g, wgrad ? a.depth : a.rows) - begin;
    const std::int64_t m = wgrad ? a.rows : length;
    const std::int64_t k = wgrad ? length : a.depth;
    const std::int64_t a_row = wgrad ? 0 : begin;
    const std::int64_t b_row = product.gemm == Gemm::fprop ? g * n : 0;
    const std::int64_t a_k = wgrad ? begin : 0;
    const std::int64_t b_k = wgrad ? begin : product.gemm == Gemm::dgrad ? g * k : 0;
    const TensorView to = row_slice(out, wgrad ? g * m : begin, m);
    if (m == 0) continue;
    // 2. The product.
    const std::int64_t blocks = blockwise ? (k + kScaleBlock - 1) / kScaleBlock : 1;
    const std::vector<float> scales_a = a.outside_scales(g, a_row, m, blocks);
    const std::vector<float> scales_b = b.outside_scales(g, b_row, n, blocks);
    const bool one = how.scales == ScaleMode::tensor;
    const ProductScales scales{scales_a.data(), one ? 0 : blocks, scales_b.data(), one ? 0 : blocks, 1};
    const ProductMatrix left{a.numbers.data() + a_row * a.depth + a_k, m, a.depth, a.format};
    const ProductMatrix right{b.numbers.data() + b_row * b.depth + b_k, n, b.depth, b.format};
    result.resize(static_cast<std::size_t>(m * n));
    tensor_core_matmul(kernels_, pool_, how.core, left, right, scales, MatmulSize{k}, result.data(), n);
    // 3. Into the output.
    for (std::int64_t r = 0; r < m; ++r) {
      const float* from = result.data() + r * n;
      if (out.dtype == Dtype::bf16) {
        for (std::int64_t c = 0; c < n; ++c)
          reinterpret_cast<std::uint16_t*>(to.row(r))[c] =
              static_cast<std::uint16_t>(output_bits(ProductOutput::bf16, from[c]));
      } else if (product.accumulate) {
        kernels_.add(reinterpret_cast<const float*>(to.row(r)), from, reinterpret_cast<float*>(to.row(r)), n);
      } else {
        std::copy(from, from + n, reinterpret_cast<float*>(to.row(r)));
      }
    }
  }
}

}  // namespace ng::cpu
