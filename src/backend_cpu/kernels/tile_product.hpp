// SPDX-License-Identifier: Apache-2.0
//
// Products of small matrices that are in cache already: no packing. c[m, n] = the fma chains of gemm.cpp in ascending
// k, A with any strides, B row-major along the columns of c. Only for files compiled once per instruction set.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/ieee_rn.hpp"

#if NG_ISA_LEVEL >= 3
#include <immintrin.h>
#endif

namespace ng::cpu::NG_ISA {
namespace {

/// Columns come in multiples of this; callers pad with zeros.
constexpr std::int64_t kTileProductCols = 16;

struct TileProduct {
  const float* a;
  std::int64_t a_row, a_col;
  const float* b;
  std::int64_t ldb;
  float* c;
  std::int64_t ldc;
  std::int64_t k;
  bool from_c;  ///< the chains continue from c, else start at +0
};

#if NG_ISA_LEVEL >= 3
template <int kRows>
NG_HD void product_rows(const TileProduct& p, std::int64_t row, std::int64_t col) {
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + col;
  float* const c = p.c + row * p.ldc + col;
  __m256 sum[kRows][2];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    sum[i][0] = p.from_c ? _mm256_loadu_ps(c + i * p.ldc) : _mm256_setzero_ps();
    sum[i][1] = p.from_c ? _mm256_loadu_ps(c + i * p.ldc + 8) : _mm256_setzero_ps();
  }
  for (std::int64_t k = 0; k < p.k; ++k, a += p.a_col, b += p.ldb) {
    const __m256 b0 = _mm256_loadu_ps(b);
    const __m256 b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m256 ai = _mm256_broadcast_ss(a + i * p.a_row);
      sum[i][0] = _mm256_fmadd_ps(ai, b0, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(ai, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    _mm256_storeu_ps(c + i * p.ldc, sum[i][0]);
    _mm256_storeu_ps(c + i * p.ldc + 8, sum[i][1]);
  }
}
#else
template <int kRows>
NG_HD void product_rows(const TileProduct& p, std::int64_t row, std::int64_t col) {
  for (int i = 0; i < kRows; ++i) {
    const float* const a = p.a + (row + i) * p.a_row;
    float* const c = p.c + (row + i) * p.ldc + col;
    for (std::int64_t j = 0; j < kTileProductCols; ++j) {
      float sum = p.from_c ? c[j] : 0.0f;
      for (std::int64_t k = 0; k < p.k; ++k) sum = fma_rn(a[k * p.a_col], p.b[k * p.ldb + col + j], sum);
      c[j] = sum;
    }
  }
}
#endif

/// All m rows and n columns, n rounded up to kTileProductCols.
void tile_product(const TileProduct& p, std::int64_t m, std::int64_t n) {
  for (std::int64_t col = 0; col < n; col += kTileProductCols) {
    std::int64_t row = 0;
    for (; row + 6 <= m; row += 6) product_rows<6>(p, row, col);
    switch (m - row) {
      case 5:
        product_rows<5>(p, row, col);
        break;
      case 4:
        product_rows<4>(p, row, col);
        break;
      case 3:
        product_rows<3>(p, row, col);
        break;
      case 2:
        product_rows<2>(p, row, col);
        break;
      case 1:
        product_rows<1>(p, row, col);
        break;
      default:
        break;
    }
  }
}

}  // namespace
}  // namespace ng::cpu::NG_ISA
