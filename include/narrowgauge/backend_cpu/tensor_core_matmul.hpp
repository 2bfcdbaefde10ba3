// SPDX-License-Identifier: Apache-2.0
//
// D = A B^T on the CPU with the arithmetic of a tensor core, equal in every bit to `tensor_core_element` of
// numerics/tensor_core_product.hpp and fast where the accumulator allows it; and beside it the correctly
// rounded product and the FP32 one.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng::cpu {

/// Rows of numbers that `format` can hold, with the FP32 values; row r at data + r * stride, k running along it.
struct ProductMatrix {
  const float* data;
  std::int64_t rows;
  std::int64_t stride;
  FormatId format;
  /// Scales inside the accumulator's step (MX, NVFP4), one for each `scale_k` values of k, or null. As FP32 values.
  const float* block_scales = nullptr;
  std::int64_t block_scale_stride = 0;
};

/// FP32 scales by mode (ScaleMode): a + m * a_stride and b + (n / b_rows) * b_stride are the scales of row m and n.
struct ProductScales {
  const float* a = nullptr;
  std::int64_t a_stride = 0;
  const float* b = nullptr;
  std::int64_t b_stride = 0;
  std::int64_t b_rows = 1;

  ElementScales element(std::int64_t m, std::int64_t n) const { return {a + m * a_stride, b + n / b_rows * b_stride}; }
};

struct MatmulSize {
  std::int64_t k;
  std::int64_t block_scale_k = 1;                ///< values of k per block scale
  FormatId block_scale_format = FormatId::e8m0;  ///< of the block scales
};

/// out[m * ldc + n]: results in spec.output, as FP32 numbers (output_value says which; a BF16 NaN is 0x7FFF0000). Any M, N, K; K = 0 gives +0.
/// Threads change no bit. `baseline`: without the instruction set of this machine, for tests.
void tensor_core_matmul(const TensorCoreSpec& spec, const ProductMatrix& a, const ProductMatrix& b,
                        const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc,
                        int threads = 1, bool baseline = false);

/// The correctly rounded product: the sum of all scaled products without any rounding, then one to nearest even to FP32
/// or BF16 or FP16. Every mode of scales means the same exact factors. Specials as IEEE 754; the NaN is a GPU's. An exact sum
/// of zero is +0.
void exact_matmul(ScaleMode mode, ProductOutput output, const ProductMatrix& a, const ProductMatrix& b,
                  const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc, int threads = 1);

/// FP32 accumulation: one fma chain in ascending k from +0; with blockwise scales a fresh chain for every 128 of K,
/// promoted as ScaleMode says. Then the other scales and the output's rounding as on a tensor core. Block scales of the
/// operands are not taken.
void ieee_matmul(ScaleMode mode, ProductOutput output, const ProductMatrix& a, const ProductMatrix& b,
                 const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc, int threads = 1);

}  // namespace ng::cpu
