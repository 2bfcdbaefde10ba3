// SPDX-License-Identifier: Apache-2.0
//
// Products of forms with the `ieee` arithmetic (for `hopper`, cpu_tensor_core.cpp): operands decoded to FP32 (code
// times block scale, one rounding), one fma chain per output, then the tensor scales, then one rounding to the output's
// dtype.
#include <algorithm>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 192;  // of the output; a multiple of the product's own tile

}  // namespace

/// An operand as FP32 matrix [rows, K] with any strides, and the tensor scale of each group that is still to be
/// applied.
struct CpuBackend::FloatOperand {
  StridedMatrix matrix{};
  std::int64_t rows = 0;
  std::int64_t depth = 0;
  const float* tensor_scales = nullptr;
  std::vector<float> copy;
};

CpuBackend::FloatOperand CpuBackend::float_operand(const Form& form) {
  FloatOperand operand;
  if (form.kind == OperandKind::quantized) {
    const QuantizedTensor& q = *form.quantized;
    operand.rows = q.rows;
    operand.depth = q.cols;
    operand.copy.resize(static_cast<std::size_t>(q.rows * q.cols));
    pool_.parallel_ranges(q.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      decode_rows(q, DecodedScales::block, begin, end, operand.copy.data() + begin * q.cols, q.cols);
    });
    operand.matrix = {operand.copy.data(), q.cols, 1};
    if (q.has_tensor_scale()) operand.tensor_scales = q.tensor_scales.as<float>();
    return operand;
  }
  const TensorView& x = form.plain.view;
  const bool column = form.orientation == Orientation::column;
  operand.rows = column ? x.cols : x.rows;
  operand.depth = column ? x.rows : x.cols;
  const float* data = x.as<float>();
  std::int64_t stride = x.stride;
  if (x.dtype == Dtype::bf16) {
    operand.copy.resize(static_cast<std::size_t>(x.rows * x.cols));
    pool_.parallel_ranges(x.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(x.row(r)), operand.copy.data() + r * x.cols, x.cols);
    });
    data = operand.copy.data();
    stride = x.cols;
  } else {
    NG_CHECK(x.dtype == Dtype::f32);
  }
  operand.matrix = column ? StridedMatrix{data, 1, stride} : StridedMatrix{data, stride, 1};
  return operand;
}

/// One product of floats into rows of `out`, cut into fixed pieces of rows.
void CpuBackend::float_product(const StridedMatrix& a, const StridedMatrix& b, std::int64_t m, std::int64_t n,
                               std::int64_t k, const float* scale_a, const float* scale_b, const TensorView& out,
                               bool accumulate, std::int64_t piece) {
  const std::int64_t row0 = piece * kRowsPerPiece;
  const std::int64_t rows = std::min(kRowsPerPiece, m - row0);
  thread_local std::vector<float> scratch;
  thread_local std::vector<float> result;
  scratch.resize(kGemmScratchFloats);
  StridedMatrix part = a;
  part.data += row0 * a.row_stride;
  const bool scaled = scale_a != nullptr || scale_b != nullptr;
  if (out.dtype == Dtype::f32 && !scaled) {
    kernels_.gemm_chain(part, b, out.as<float>() + row0 * out.stride, out.stride, rows, n, k, accumulate,
                        scratch.data());
    return;
  }
  result.resize(static_cast<std::size_t>(rows * n));
  kernels_.gemm_chain(part, b, result.data(), n, rows, n, k, false, scratch.data());
  if (scaled) {
    const float scale = mul_rn(scale_a != nullptr ? *scale_a : 1.0f, scale_b != nullptr ? *scale_b : 1.0f);
    for (float& value : result) value = mul_rn(value, scale);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = result.data() + r * n;
    if (out.dtype == Dtype::bf16) {
      kernels_.round_bf16(from, reinterpret_cast<std::uint16_t*>(out.row(row0 + r)), n);
    } else {
      float* to = reinterpret_cast<float*>(out.row(row0 + r));
      if (accumulate)
        kernels_.add(to, from, to, n);
      else
        std::copy(from, from + n, to);
    }
  }
}

/// The product in FP32, the compensation of each group, one rounding.
void CpuBackend::compensated_product(const Product& product) {
  NG_CHECK(product.gemm == Gemm::fprop && product.a->quantized->residual != nullptr);
  const Tensor sums = tensor(Dtype::f32, product.out.rows, product.out.cols);
  Product plain = product;
  plain.compensate = Compensate::none;
  plain.out = sums.view;
  multiply(plain);
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
                      row_slice(sums.view, begin, rows));
  }
  cast(sums.view, product.out);
}

void CpuBackend::matmul(const StepContext& context, const Product& product) {
  Product grouped = product;
  const RowGroups one;
  grouped.groups = &one;
  grouped_matmul(context, grouped);
}

void CpuBackend::multiply(const Product& product) {
  if (product.compensate != Compensate::none) return compensated_product(product);
  if (options_.arithmetic == Arithmetic::hopper) {
    const auto spec_of = [](const Form& form) {
      OperandSpec spec;
      spec.kind = form.kind;
      if (form.quantized != nullptr) spec.quantizer = form.quantized->spec;
      return spec;
    };
    const HopperProduct how =
        hopper_product({spec_of(*product.a), spec_of(*product.b), product.carrier, product.accumulation});
    NG_CHECK(how.refusal == HopperRefusal::none, "no tensor core has the product ", product.site->name);
    if (how.steps != HopperSteps::fp32_chain) return tensor_core_product(product, how);
  }
  const FloatOperand a = float_operand(*product.a);
  const FloatOperand b = float_operand(*product.b);
  const RowGroups& groups = *product.groups;
  const std::int64_t count = groups.count();
  const bool wgrad = product.gemm == Gemm::wgrad;
  const TensorView& out = product.out;
  NG_CHECK(!product.accumulate || out.dtype == Dtype::f32);
  // wgrad contracts over the grouped rows; otherwise A's rows are grouped and B is a stack of one matrix per group.
  const std::int64_t n = wgrad ? b.rows : (product.gemm == Gemm::fprop ? b.rows / count : b.rows);
  NG_CHECK_EQ(out.cols, n);

  struct Piece {
    std::int64_t group;
    std::int64_t index;
  };
  std::vector<Piece> pieces;
  for (std::int64_t g = 0; g < count; ++g) {
    const std::int64_t rows = wgrad ? a.rows : groups.end(g, a.rows) - groups.begin(g, a.rows);
    for (std::int64_t i = 0; i * kRowsPerPiece < rows; ++i) pieces.push_back({g, i});
  }
  pool_.parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t p) {
    const auto [g, index] = pieces[static_cast<std::size_t>(p)];
    StridedMatrix ma = a.matrix;
    StridedMatrix mb = b.matrix;
    std::int64_t m = a.rows;
    std::int64_t k = a.depth;
    TensorView to = out;
    if (wgrad) {
      const std::int64_t begin = groups.begin(g, a.depth);
      k = groups.end(g, a.depth) - begin;
      ma.data += begin * ma.col_stride;
      mb.data += begin * mb.col_stride;
      to = row_slice(out, g * m, m);
    } else {
      const std::int64_t begin = groups.begin(g, a.rows);
      m = groups.end(g, a.rows) - begin;
      ma.data += begin * ma.row_stride;
      to = row_slice(out, begin, m);
      if (product.gemm == Gemm::fprop)
        mb.data += g * n * mb.row_stride;  // expert g's rows of the stacked weight
      else
        mb.data += g * k * mb.col_stride;  // expert g's columns of the transposed stack
    }
    float_product(ma, mb, m, n, k, a.tensor_scales != nullptr ? a.tensor_scales + g : nullptr,
                  b.tensor_scales != nullptr ? b.tensor_scales + g : nullptr, to, product.accumulate, index);
  });
}

}  // namespace ng::cpu
