// SPDX-License-Identifier: Apache-2.0
//
// Products D[M, N] = A[M, K] B[N, K]^T of one group, one thread for each output; asynchronous on `stream`.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/tensor_core_product.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// A matrix of f32 or bf16 with any strides, in elements.
struct StridedReals {
  const void* data = nullptr;
  Dtype dtype = Dtype::f32;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

/// One FP32 fma chain for each output in ascending k, from +0; where `accumulate` and no scale is given it continues
/// from `out`. Then times fp32(scale_a * scale_b), where one of them is given; then rounded to `out`, or added to it.
struct ChainProduct {
  StridedReals a, b;
  std::int64_t k = 0;
  TensorView out{};  ///< [M, N] f32 or bf16
  bool accumulate = false;
  const float* scale_a = nullptr;
  const float* scale_b = nullptr;
};

/// Numbers of an operand of the tensor-core model, in FP32, and its outside scales, `scale_stride` apart from row to
/// row.
struct ModelOperand {
  const float* numbers = nullptr;
  std::int64_t stride = 0;
  int smallest_exponent = 0;  ///< of the numbers' format
  const float* scales = nullptr;
  std::int64_t scale_stride = 0;
};

/// tensor_core_element for each output, rounded once to `out`; FP32 ones are added to it where `accumulate`.
struct ModelProduct {
  TensorCoreSpec spec{};
  ModelOperand a, b;
  std::int64_t k = 0;
  TensorView out{};
  bool accumulate = false;
};

/// From FP32 sums of a tensor core [M, N] to `out`: scales that it did not apply, then as ModelProduct.
struct FinishProduct {
  const float* sums = nullptr;
  std::int64_t stride = 0;
  ScaleMode scales = ScaleMode::none;  ///< none, tensor, outer
  const float* scales_a = nullptr;     ///< one, or one for each row of A
  const float* scales_b = nullptr;
  TensorView out{};
  bool accumulate = false;
};

}  // namespace ng::cuda

namespace ng::cuda::plain {

void chain_product(const ChainProduct& product, Stream stream);
void model_product(const ModelProduct& product, Stream stream);
void finish_product(const FinishProduct& product, Stream stream);

}  // namespace ng::cuda::plain
