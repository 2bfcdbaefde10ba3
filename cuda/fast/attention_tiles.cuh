// SPDX-License-Identifier: Apache-2.0
//
// Products of attention on FP32 units: tiles of 128 x 128 scores and of 128 rows of an output, 256 threads, 8 x 8
// elements a thread, each element one fma chain in ascending term. Operands stream through shared memory as FP32, two
// stages deep; what comes next is on its way in registers while a stage is worked on.
//
// Thread (x, y) = (number % 16, number / 16) owns the rows y + 16 i. Of a row of scores it owns the columns
// x % 8 + 8 j of the first (x < 8) or second 64: one of the eight chains of a row sum. So a row belongs to 16
// neighbours of one warp, and no other warp reads its scores.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/attention.hpp"
#include "plain/elements.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

constexpr int kTile = 128;                ///< rows and columns of a tile of scores
constexpr int kStep = 32;                 ///< terms of a stage of a score product
constexpr int kStepStride = kStep + 4;    ///< floats from row to row of such a stage: no bank twice
constexpr int kScoreStride = kTile + 16;  ///< of the scores; the second 64 begin 8 later
constexpr int kStageFloats = kTile * kStepStride;
constexpr int kScoreFloats = kTile * kScoreStride;

/// Dynamic shared memory: two stages of two operands, the scores, four numbers a row.
constexpr int kAttentionSharedBytes = (4 * kStageFloats + kScoreFloats + 4 * kTile) * static_cast<int>(sizeof(float));

__device__ inline int thread_x() {
  return static_cast<int>(threadIdx.x) % 16;
}
__device__ inline int row_of(int i) {
  return static_cast<int>(threadIdx.x) / 16 + 16 * i;
}
__device__ inline int column_of(int j) {
  return thread_x() % 8 + 8 * j + thread_x() / 8 * 64;
}
/// Where the score of a column lies in its row.
__device__ inline int place_of(int column) {
  return column + column / 64 * 8;
}

/// Four neighbouring elements as they come from memory.
template <class T>
struct Four;
template <>
struct Four<float> {
  float4 bits;
  __device__ float4 widened() const { return bits; }
};
template <>
struct Four<std::uint16_t> {
  uint2 bits;
  __device__ float4 widened() const {
    return {float_of(bits.x << 16), float_of(bits.x & 0xffff0000u), float_of(bits.y << 16),
            float_of(bits.y & 0xffff0000u)};
  }
};

/// A head's columns from some row on; `rows` of them exist, what lies beyond reads as zero.
template <class T>
struct HeadRows {
  const T* data;
  std::int64_t stride;
  int rows;

  __device__ HeadRows(const TensorView& view, std::int64_t row, std::int64_t col, std::int64_t rows_left)
      : data(static_cast<const T*>(view.data) + row * view.stride + col),
        stride(view.stride),
        rows(static_cast<int>(rows_left < kTile ? rows_left : kTile)) {}

  __device__ Four<T> four(int row, int col, int cols) const {
    if (row < rows && col < cols) return {*reinterpret_cast<const decltype(Four<T>::bits)*>(data + row * stride + col)};
    return {};
  }
};

/// A thread's share of one operand of a stage, on its way: rows of 4 * kGroups columns.
template <class T, int kGroups>
__device__ void fetch(Four<T> (&raw)[4], const HeadRows<T>& from, int row, int col, int cols) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int group = static_cast<int>(threadIdx.x) + kThreadsPerBlock * i;
    raw[i] = from.four(row + group / kGroups, col + group % kGroups * 4, cols);
  }
}

template <class T, int kGroups>
__device__ void put(float* stage, const Four<T> (&raw)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int group = static_cast<int>(threadIdx.x) + kThreadsPerBlock * i;
    *reinterpret_cast<float4*>(stage + group / kGroups * (4 * kGroups + 4) + group % kGroups * 4) = raw[i].widened();
  }
}

__device__ inline float4 four_at(const float* at) {
  return *reinterpret_cast<const float4*>(at);
}

/// The operands under way and the stages that they go through. Every stage has one barrier, after it is filled: who
/// fills a stage knows that all threads have left the one before, and so this one.
template <class T>
struct AttentionStream {
  float* stages;
  int turn = 0;
  Four<T> a[4], b[4];

  __device__ float* stage_a() const { return stages + turn * 2 * kStageFloats; }
  __device__ float* stage_b() const { return stage_a() + kStageFloats; }

  /// Asks for the terms from `term` on of rows of scores.
  __device__ void fetch_scores(const HeadRows<T>& rows, const HeadRows<T>& columns, int term, int width) {
    fetch<T, kStep / 4>(a, rows, 0, term, width);
    fetch<T, kStep / 4>(b, columns, 0, term, width);
  }
  /// Asks for terms of an output of kCols columns.
  template <int kCols>
  __device__ void fetch_terms(const HeadRows<T>& rows, int term, int col, int cols) {
    fetch<T, kCols / 4>(b, rows, term, col, cols);
  }
};

/// s = rows times columns over `width` columns of the heads, whose first terms are under way. `next()` asks for what
/// follows the last.
template <class T, class Next>
__device__ __forceinline__ void score_product(AttentionStream<T>& stream, const HeadRows<T>& rows,
                                              const HeadRows<T>& columns, int width, float (&s)[8][8],
                                              const Next& next) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) s[i][j] = 0.0f;
#pragma unroll 1
  for (int term = 0; term < width; term += kStep) {
    put<T, kStep / 4>(stream.stage_a(), stream.a);
    put<T, kStep / 4>(stream.stage_b(), stream.b);
    __syncthreads();
    if (term + kStep < width)
      stream.fetch_scores(rows, columns, term + kStep, width);
    else
      next();
    const float* const a = stream.stage_a() + row_of(0) * kStepStride;
    const float* const b = stream.stage_b() + column_of(0) * kStepStride;
    const int count = width - term < kStep ? width - term : kStep;
#pragma unroll 1
    for (int k = 0; k < count; k += 4) {
      float4 x[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = four_at(a + 16 * i * kStepStride + k);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4 y = four_at(b + 8 * j * kStepStride + k);
#pragma unroll
        for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].x, y.x, s[i][j]);
#pragma unroll
        for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].y, y.y, s[i][j]);
#pragma unroll
        for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].z, y.z, s[i][j]);
#pragma unroll
        for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].w, y.w, s[i][j]);
      }
    }
    stream.turn ^= 1;
  }
}

/// Terms [k, k + 4) of a stage of an output: sum[i][c] += score(row i, term) * stage(term, column c).
template <int kCols, bool kMasked, class Visible>
__device__ __forceinline__ void add_terms(float (&sum)[8][kCols / 16], const float* scores, const float* stage, int k,
                                          const Visible& visible) {
  float4 p[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) p[i] = four_at(scores + 16 * i * kScoreStride);
#pragma unroll
  for (int d = 0; d < 4; ++d) {
    float x[kCols / 16];
#pragma unroll
    for (int c = 0; c < kCols / 16; c += 4) {
      const float4 four = four_at(stage + (k + d) * (kCols + 4) + 16 * c);
      x[c] = four.x, x[c + 1] = four.y, x[c + 2] = four.z, x[c + 3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float factor = d == 0 ? p[i].x : d == 1 ? p[i].y : d == 2 ? p[i].z : p[i].w;
      if (kMasked && !visible(row_of(i), d)) continue;
#pragma unroll
      for (int c = 0; c < kCols / 16; ++c) sum[i][c] = fma_rn(factor, x[c], sum[i][c]);
    }
  }
}

/// sum += scores (of this warp's rows, in shared memory) times `terms` rows, whose first are under way. Thread x owns
/// the columns 4 x + {0..3}, and those 64 later. Before the terms from t on, `before(t)`. `masked`: only the terms for
/// which visible(row, term) enter.
template <int kCols, class T, class Before, class Visible, class Next>
__device__ __forceinline__ void output_product(AttentionStream<T>& stream, const float* scores, const HeadRows<T>& rows,
                                               int terms, int col, int cols, float (&sum)[8][kCols / 16], bool masked,
                                               const Before& before, const Visible& visible, const Next& next) {
  constexpr int kTerms = 4096 / kCols;
  const float* const own = scores + row_of(0) * kScoreStride;
#pragma unroll 1
  for (int term = 0; term < terms; term += kTerms) {
    put<T, kCols / 4>(stream.stage_b(), stream.b);
    __syncthreads();
    if (term + kTerms < terms)
      stream.template fetch_terms<kCols>(rows, term + kTerms, col, cols);
    else
      next();
    before(term);
    const float* const stage = stream.stage_b() + 4 * thread_x();
    const float* const p = own + place_of(term);
    const int count = terms - term < kTerms ? terms - term : kTerms;
    if (masked) {
#pragma unroll 1
      for (int k = 0; k < count; k += 4)
        add_terms<kCols, true>(sum, p + k, stage, k, [&](int row, int d) { return visible(row, term + k + d); });
    } else {
#pragma unroll 1
      for (int k = 0; k < count; k += 4) add_terms<kCols, false>(sum, p + k, stage, k, [](int, int) { return true; });
    }
    stream.turn ^= 1;
  }
}

/// Writes a thread's part of `rows` rows from `row` on, columns [col, col + cols) of the head at `head_col`.
template <int kCols>
__device__ void store_rows(const TensorView& to, std::int64_t row, int rows, std::int64_t head_col, int col, int cols,
                           const float (&sum)[8][kCols / 16]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (row_of(i) >= rows) continue;
#pragma unroll
    for (int c = 0; c < kCols / 16; c += 4) {
      const int at = col + 4 * thread_x() + 16 * c;
      if (at >= cols) continue;
      const std::int64_t element = (row + row_of(i)) * to.stride + head_col + at;
      const float* const x = sum[i] + c;
      if (to.dtype == Dtype::f32)
        *reinterpret_cast<float4*>(static_cast<float*>(to.data) + element) = {x[0], x[1], x[2], x[3]};
      else
        *reinterpret_cast<uint2*>(static_cast<std::uint16_t*>(to.data) + element) = {
            static_cast<unsigned>(bf16_of(x[0])) | static_cast<unsigned>(bf16_of(x[1])) << 16,
            static_cast<unsigned>(bf16_of(x[2])) | static_cast<unsigned>(bf16_of(x[3])) << 16};
    }
  }
}

/// Whether four elements from any column that is a multiple of four on are one aligned access.
inline bool reads_by_four(const TensorView& view) {
  return view.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(view.data) % (4 * size_of(view.dtype)) == 0;
}

}  // namespace ng::cuda::fast
