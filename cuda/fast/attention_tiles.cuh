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

/// Writes them, rounded to BF16 where `to` is.
__device__ inline void store_four(float* to, const float4& four) {
  *reinterpret_cast<float4*>(to) = four;
}
__device__ inline void store_four(std::uint16_t* to, const float4& four) {
  const auto pair = [](float low, float high) {
    return static_cast<std::uint32_t>(bf16_of(low)) | static_cast<std::uint32_t>(bf16_of(high)) << 16;
  };
  *reinterpret_cast<uint2*>(to) = {pair(four.x, four.y), pair(four.z, four.w)};
}

/// A head's columns from some row on; `rows` of them exist, what lies beyond reads as zero.
template <class T>
struct HeadRows {
  const T* data;
  std::int64_t stride;
  int rows;

  __device__ HeadRows(const T* first, std::int64_t row_stride, int existing)
      : data(first), stride(row_stride), rows(existing) {}
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
template <int kGroups, class T, int kFours>
__device__ void fetch(Four<T> (&raw)[kFours], const HeadRows<T>& from, int row, int col, int cols) {
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    const int group = static_cast<int>(threadIdx.x) + kThreadsPerBlock * i;
    raw[i] = from.four(row + group / kGroups, col + group % kGroups * 4, cols);
  }
}

/// Into a stage whose rows are four floats apart: no bank twice.
template <int kGroups, class T, int kFours>
__device__ void put(float* stage, const Four<T> (&raw)[kFours]) {
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
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
    fetch<kStep / 4>(a, rows, 0, term, width);
    fetch<kStep / 4>(b, columns, 0, term, width);
  }
  /// Asks for terms of an output of kCols columns.
  template <int kCols>
  __device__ void fetch_terms(const HeadRows<T>& rows, int term, int col, int cols) {
    fetch<kCols / 4>(b, rows, term, col, cols);
  }
};

/// Four terms of 8 x 8 scores. Meanwhile the rows of the next four come into `next`, the columns one ahead into y.
__device__ __forceinline__ void add_four_scores(float (&s)[8][8], const float4 (&x)[8], float4 (&next)[8], float4& y,
                                                const float* a, const float* b) {
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float4 y_next = j < 7 ? four_at(b + 8 * (j + 1) * kStepStride) : four_at(b + 4);
    next[j] = four_at(a + 16 * j * kStepStride + 4);
#pragma unroll
    for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].x, y.x, s[i][j]);
#pragma unroll
    for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].y, y.y, s[i][j]);
#pragma unroll
    for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].z, y.z, s[i][j]);
#pragma unroll
    for (int i = 0; i < 8; ++i) s[i][j] = fma_rn(x[i].w, y.w, s[i][j]);
    y = y_next;
  }
}

/// `count` terms, a multiple of four, of a stage; a and b: of this thread's first row and column. What is read ahead at
/// the end lies in the rows' padding.
__device__ __forceinline__ void add_scores(float (&s)[8][8], const float* a, const float* b, int count) {
  float4 even[8];
  float4 odd[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) even[i] = four_at(a + 16 * i * kStepStride);
  float4 y = four_at(b);
  int k = 0;
#pragma unroll 1
  for (; k + 8 <= count; k += 8) {
    add_four_scores(s, even, odd, y, a + k, b + k);
    add_four_scores(s, odd, even, y, a + k + 4, b + k + 4);
  }
  if (k < count) add_four_scores(s, even, odd, y, a + k, b + k);
}

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
    put<kStep / 4>(stream.stage_a(), stream.a);
    put<kStep / 4>(stream.stage_b(), stream.b);
    __syncthreads();
    if (term + kStep < width)
      stream.fetch_scores(rows, columns, term + kStep, width);
    else
      next();
    add_scores(s, stream.stage_a() + row_of(0) * kStepStride, stream.stage_b() + column_of(0) * kStepStride,
               width - term < kStep ? width - term : kStep);
    stream.turn ^= 1;
  }
}

/// The columns 4 x + {0..3}, and those 64 later, of one row of a stage.
template <int kCols>
__device__ __forceinline__ void load_columns(float (&x)[kCols / 16], const float* row) {
#pragma unroll
  for (int c = 0; c < kCols / 16; c += 4) {
    const float4 four = four_at(row + 16 * c);
    x[c] = four.x, x[c + 1] = four.y, x[c + 2] = four.z, x[c + 3] = four.w;
  }
}

__device__ __forceinline__ float element_of(const float4& four, int d) {
  return d == 0 ? four.x : d == 1 ? four.y : d == 2 ? four.z : four.w;
}

/// Four terms of an output: sum[i][c] += factor(row i, term) * stage(term, column c), where visible(row, term of the
/// four). Meanwhile the factors of the next four come into `next`, the columns one ahead into x.
template <int kCols, int kStride, class Visible>
__device__ __forceinline__ void add_four_terms(float (&sum)[8][kCols / 16], const float4 (&p)[8], float4 (&next)[8],
                                               float (&x)[kCols / 16], const float* factors, const float* stage,
                                               const Visible& visible) {
#pragma unroll
  for (int d = 0; d < 4; ++d) {
    float x_next[kCols / 16];
    load_columns<kCols>(x_next, stage + (d + 1) * (kCols + 4));
#pragma unroll
    for (int i = 2 * d; i < 2 * d + 2; ++i) next[i] = four_at(factors + 16 * i * kStride + 4);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (!visible(row_of(i), d)) continue;
#pragma unroll
      for (int c = 0; c < kCols / 16; ++c) sum[i][c] = fma_rn(element_of(p[i], d), x[c], sum[i][c]);
    }
#pragma unroll
    for (int c = 0; c < kCols / 16; ++c) x[c] = x_next[c];
  }
}

/// `count` terms of a stage. factors: of this thread's first row, rows kStride apart; stage: at its first column. Both
/// may be read four terms beyond.
template <int kCols, int kStride, class Visible>
__device__ __forceinline__ void add_terms(float (&sum)[8][kCols / 16], const float* factors, const float* stage,
                                          int count, const Visible& visible) {
  float4 even[8];
  float4 odd[8];
  float x[kCols / 16];
#pragma unroll
  for (int i = 0; i < 8; ++i) even[i] = four_at(factors + 16 * i * kStride);
  load_columns<kCols>(x, stage);
  int k = 0;
#pragma unroll 1
  for (; k + 8 <= count; k += 8) {
    add_four_terms<kCols, kStride>(sum, even, odd, x, factors + k, stage + k * (kCols + 4),
                                   [&](int row, int d) { return visible(row, k + d); });
    add_four_terms<kCols, kStride>(sum, odd, even, x, factors + k + 4, stage + (k + 4) * (kCols + 4),
                                   [&](int row, int d) { return visible(row, k + 4 + d); });
  }
  if (k < count)
    add_four_terms<kCols, kStride>(sum, even, odd, x, factors + k, stage + k * (kCols + 4),
                                   [&](int row, int d) { return visible(row, k + d); });
}

/// What every row sees.
struct AllVisible {
  __device__ bool operator()(int, int) const { return true; }
};

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
    put<kCols / 4>(stream.stage_b(), stream.b);
    __syncthreads();
    if (term + kTerms < terms)
      stream.template fetch_terms<kCols>(rows, term + kTerms, col, cols);
    else
      next();
    before(term);
    const float* const stage = stream.stage_b() + 4 * thread_x();
    const float* const p = own + place_of(term);
    const int count = terms - term < kTerms ? (terms - term + 3) / 4 * 4 : kTerms;  // whole fours: then masked
    if (masked)
      add_terms<kCols, kScoreStride>(sum, p, stage, count, [&](int row, int k) { return visible(row, term + k); });
    else
      add_terms<kCols, kScoreStride>(sum, p, stage, count, AllVisible{});
    stream.turn ^= 1;
  }
}

/// Writes a thread's part of `rows` rows from `row` on, columns [col, col + cols) of the head at `head_col`.
/// `row_of_part(i)`: which row sum[i] is of.
template <int kCols, class RowOfPart>
__device__ void store_rows(const TensorView& to, std::int64_t row, int rows, std::int64_t head_col, int col, int cols,
                           const float (&sum)[8][kCols / 16], const RowOfPart& row_of_part) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int part = row_of_part(i);
    if (part >= rows) continue;
#pragma unroll
    for (int c = 0; c < kCols / 16; c += 4) {
      const int at = col + 4 * thread_x() + 16 * c;
      if (at >= cols) continue;
      const std::int64_t element = (row + part) * to.stride + head_col + at;
      const float4 four = {sum[i][c], sum[i][c + 1], sum[i][c + 2], sum[i][c + 3]};
      if (to.dtype == Dtype::f32)
        store_four(static_cast<float*>(to.data) + element, four);
      else
        store_four(static_cast<std::uint16_t*>(to.data) + element, four);
    }
  }
}

/// Whether four elements from any column that is a multiple of four on are one aligned access.
inline bool reads_by_four(const TensorView& view) {
  return view.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(view.data) % (4 * size_of(view.dtype)) == 0;
}

}  // namespace ng::cuda::fast
