// SPDX-License-Identifier: Apache-2.0
//
// Correctly rounded products, element by element (numerics/exact_product.hpp).
#include <algorithm>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/numerics/exact_product.hpp"
#include "thread_pool.hpp"

namespace ng::cpu {

void exact_matmul(ScaleMode mode, ProductOutput output, const ProductMatrix& a, const ProductMatrix& b,
                  const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc, int threads) {
  const bool inner = a.block_scales != nullptr;
  std::int64_t step = size.k;
  if (is_blockwise(mode)) step = kScaleBlock;
  if (inner) step = std::min(step, size.block_scale_k);
  ThreadPool pool(threads);
  pool.parallel_for(a.rows, [&](std::int64_t m) {
    ExactProduct element;
    for (std::int64_t n = 0; n < b.rows; ++n) {
      element.start();
      const ElementScales s = scales.element(m, n);
      for (std::int64_t k = 0; k < size.k; k += step) {
        ScaleFactors factors;
        if (mode != ScaleMode::none) {
          const std::int64_t at = is_blockwise(mode) ? k / kScaleBlock : 0;
          factors.multiply(s.a[at]);
          factors.multiply(s.b[at]);
        }
        if (inner) {
          factors.multiply(a.block_scales[m * a.block_scale_stride + k / size.block_scale_k]);
          factors.multiply(b.block_scales[n * b.block_scale_stride + k / size.block_scale_k]);
        }
        element.add(a.data + m * a.stride + k, b.data + n * b.stride + k, std::min(step, size.k - k), factors);
      }
      out[m * ldc + n] = element.result(output);
    }
  });
}

}  // namespace ng::cpu
