// SPDX-License-Identifier: Apache-2.0
//
// D = A B^T in FP32: every output element is one fma chain in ascending k. Blocking, packing and the instruction set
// change the speed and never a bit, since each element's chain is carried in FP32 through memory between blocks of k.
// Compiled once per instruction set.
#include "gemm.hpp"

#include "narrowgauge/numerics/ieee_rn.hpp"

#if NG_ISA_LEVEL >= 3
#include <immintrin.h>
#endif

#include "kernels.hpp"

namespace ng::cpu::NG_ISA {

namespace {

constexpr std::int64_t kTileRows = 6;   // of A, broadcast one by one
constexpr std::int64_t kTileCols = 16;  // of B, two vectors of eight
constexpr std::int64_t kBlockK = 256;   // a packed panel of B stays in the first-level cache
constexpr std::int64_t kBlockRows = 96;
constexpr std::int64_t kBlockCols = 1024;
static_assert(kBlockK * (kBlockRows + kBlockCols) <= static_cast<std::int64_t>(kGemmScratchFloats));

NG_HD std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

/// Panels of `width` rows, k running fastest across panels: out[panel][k][width], missing rows are zeros.
NG_HD void pack(const StridedMatrix& m, std::int64_t row0, std::int64_t rows, std::int64_t k0, std::int64_t ks,
                std::int64_t width, float* out) {
  for (std::int64_t r = 0; r < rows; r += width) {
    const std::int64_t have = smaller(width, rows - r);
    const float* from = m.data + (row0 + r) * m.row_stride + k0 * m.col_stride;
    if (m.row_stride == 1 && have == width) {
      for (std::int64_t k = 0; k < ks; ++k)
        for (std::int64_t i = 0; i < width; ++i) out[k * width + i] = from[k * m.col_stride + i];
    } else {
      for (std::int64_t i = 0; i < width; ++i) {
        if (i < have)
          for (std::int64_t k = 0; k < ks; ++k) out[k * width + i] = from[i * m.row_stride + k * m.col_stride];
        else
          for (std::int64_t k = 0; k < ks; ++k) out[k * width + i] = 0.0f;
      }
    }
    out += ks * width;
  }
}

/// c[6][16] (rows ldc apart) = chain over ks steps from the values in c, or from +0.
#if NG_ISA_LEVEL >= 3
NG_HD void micro_kernel(const float* a, const float* b, std::int64_t ks, float* c, std::int64_t ldc, bool from_c) {
  __m256 sum[kTileRows][2];
  for (int i = 0; i < kTileRows; ++i) {
    sum[i][0] = from_c ? _mm256_loadu_ps(c + i * ldc) : _mm256_setzero_ps();
    sum[i][1] = from_c ? _mm256_loadu_ps(c + i * ldc + 8) : _mm256_setzero_ps();
  }
  for (std::int64_t k = 0; k < ks; ++k) {
    const __m256 b0 = _mm256_loadu_ps(b + k * kTileCols);
    const __m256 b1 = _mm256_loadu_ps(b + k * kTileCols + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kTileRows; ++i) {
      const __m256 ai = _mm256_broadcast_ss(a + k * kTileRows + i);
      sum[i][0] = _mm256_fmadd_ps(ai, b0, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(ai, b1, sum[i][1]);
    }
  }
  for (int i = 0; i < kTileRows; ++i) {
    _mm256_storeu_ps(c + i * ldc, sum[i][0]);
    _mm256_storeu_ps(c + i * ldc + 8, sum[i][1]);
  }
}
#else
NG_HD void micro_kernel(const float* a, const float* b, std::int64_t ks, float* c, std::int64_t ldc, bool from_c) {
  for (int i = 0; i < kTileRows; ++i) {
    for (int j = 0; j < kTileCols; ++j) {
      float sum = from_c ? c[i * ldc + j] : 0.0f;
      for (std::int64_t k = 0; k < ks; ++k) sum = fma_rn(a[k * kTileRows + i], b[k * kTileCols + j], sum);
      c[i * ldc + j] = sum;
    }
  }
}
#endif

/// A tile at the border: through a full-size tile of its own.
void border_kernel(const float* a, const float* b, std::int64_t ks, float* c, std::int64_t ldc, std::int64_t rows,
                   std::int64_t cols, bool from_c) {
  float tile[kTileRows * kTileCols] = {};
  if (from_c)
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) tile[i * kTileCols + j] = c[i * ldc + j];
  micro_kernel(a, b, ks, tile, kTileCols, true);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) c[i * ldc + j] = tile[i * kTileCols + j];
}

}  // namespace

void gemm_chain(StridedMatrix a, StridedMatrix b, float* c, std::int64_t ldc, std::int64_t m, std::int64_t n,
                std::int64_t k, bool accumulate, float* scratch) {
  if (k == 0 && !accumulate)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) c[i * ldc + j] = 0.0f;
  float* packed_b = scratch;
  float* packed_a = scratch + kBlockK * kBlockCols;
  for (std::int64_t n0 = 0; n0 < n; n0 += kBlockCols) {
    const std::int64_t ns = smaller(kBlockCols, n - n0);
    for (std::int64_t k0 = 0; k0 < k; k0 += kBlockK) {
      const std::int64_t ks = smaller(kBlockK, k - k0);
      const bool from_c = accumulate || k0 > 0;
      pack(b, n0, ns, k0, ks, kTileCols, packed_b);
      for (std::int64_t m0 = 0; m0 < m; m0 += kBlockRows) {
        const std::int64_t ms = smaller(kBlockRows, m - m0);
        pack(a, m0, ms, k0, ks, kTileRows, packed_a);
        for (std::int64_t j = 0; j < ns; j += kTileCols) {
          for (std::int64_t i = 0; i < ms; i += kTileRows) {
            const float* pa = packed_a + i * ks;
            const float* pb = packed_b + j * ks;
            float* to = c + (m0 + i) * ldc + n0 + j;
            if (i + kTileRows <= ms && j + kTileCols <= ns)
              micro_kernel(pa, pb, ks, to, ldc, from_c);
            else
              border_kernel(pa, pb, ks, to, ldc, smaller(kTileRows, ms - i), smaller(kTileCols, ns - j), from_c);
          }
        }
      }
    }
  }
}

}  // namespace ng::cpu::NG_ISA
