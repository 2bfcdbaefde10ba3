// SPDX-License-Identifier: Apache-2.0
//
// A warp takes one token and a piece of its row, or four of its slots. What is read once is used for all slots; sums
// run over the slots in their order, and the eight chains of a dot product in eight lanes.
#include "fast/routing.hpp"

#include <cstdint>

#include "fast/eights.cuh"
#include "fast/warp.cuh"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kVectors = 4;   // 16-byte vectors that a lane copies
constexpr int kAhead = 4;     // slots whose rows a lane loads before it uses them
constexpr int kTogether = 4;  // slots of a warp in a backward pass: as many times eight chains as lanes

/// Piece of a token's row that a warp works on.
struct Piece {
  std::int64_t token, index;
  int lane;
};

__device__ Piece piece_of(std::int64_t pieces) {
  const std::int64_t warp = thread_number() / kWarp;
  return {warp / pieces, warp % pieces, static_cast<int>(threadIdx.x % kWarp)};
}

NG_HD std::int64_t pieces_of(std::int64_t count, std::int64_t piece) {
  return (count + piece - 1) / piece;
}

/// Vectors of y's rows of all slots of a token from one read of x.
__global__ void permute_kernel(RowMoves moves, const uint4* x, std::int64_t x_stride, uint4* y, std::int64_t y_stride,
                               std::int64_t vectors) {
  const Piece piece = piece_of(pieces_of(vectors, kVectors * kWarp));
  if (piece.token >= moves.tokens) return;
  const std::int64_t first = piece.index * kVectors * kWarp + piece.lane;
  uint4 vector[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    if (first + i * kWarp < vectors) vector[i] = x[piece.token * x_stride + first + i * kWarp];
  for (std::int64_t k = 0; k < moves.slots; ++k) {
    const std::int64_t row = moves.row_of_slot[piece.token * moves.slots + k];
    if (row < 0) continue;
#pragma unroll
    for (int i = 0; i < kVectors; ++i)
      if (first + i * kWarp < vectors) y[row * y_stride + first + i * kWarp] = vector[i];
  }
}

/// Zeros in the padding rows: a warp looks at 32 rows.
__global__ void clear_padding_kernel(RowMoves moves, uint4* y, std::int64_t y_stride, std::int64_t vectors) {
  const std::int64_t first = thread_number() / kWarp * kWarp;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (first >= moves.rows) return;
  const bool padding = first + lane < moves.rows && moves.token_of_row[first + lane] < 0;
  for (unsigned rows = __ballot_sync(kAllLanes, padding); rows != 0; rows &= rows - 1) {
    uint4* const row = y + (first + __ffs(static_cast<int>(rows)) - 1) * y_stride;
    for (std::int64_t i = lane; i < vectors; i += kWarp) row[i] = uint4{0, 0, 0, 0};
  }
}

/// Calls `use(slot, row's eight)` for the slots of a token that have a row, ascending; loads run ahead.
template <class X, class Use>
__device__ void for_slots(const RowMoves& moves, std::int64_t token, const Rows<X>& x, std::int64_t eight,
                          const Use& use) {
  for (std::int64_t k = 0; k < moves.slots; k += kAhead) {
    Eight ahead[kAhead];
    std::int32_t row[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      row[i] = k + i < moves.slots ? moves.row_of_slot[token * moves.slots + k + i] : -1;
      if (row[i] >= 0) ahead[i].load(x.at(row[i], eight));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (row[i] >= 0) use(token * moves.slots + k + i, ahead[i]);
  }
}

template <class X, class Y>
__global__ void combine_kernel(RowMoves moves, Rows<X> x, Rows<Y> y, std::int64_t eights) {
  const Piece piece = piece_of(pieces_of(eights, kWarp));
  const std::int64_t eight = piece.index * kWarp + piece.lane;
  if (piece.token >= moves.tokens || eight >= eights) return;
  Eight sum;
  sum.clear();
  for_slots(moves, piece.token, x, eight, [&](std::int64_t slot, const Eight& row) {
    const float weight = moves.weight[slot];
#pragma unroll
    for (int i = 0; i < kEight; ++i) sum.value[i] = fma_rn(weight, row.value[i], sum.value[i]);
  });
  sum.store(y.at(piece.token, eight));
}

template <class Dy, class Dx>
__global__ void permute_backward_kernel(RowMoves moves, Rows<Dy> dy, Rows<Dx> dx, bool accumulate,
                                        std::int64_t eights) {
  const Piece piece = piece_of(pieces_of(eights, kWarp));
  const std::int64_t eight = piece.index * kWarp + piece.lane;
  if (piece.token >= moves.tokens || eight >= eights) return;
  Eight sum;
  sum.clear();
  bool first = true;
  for_slots(moves, piece.token, dy, eight, [&](std::int64_t /*slot*/, const Eight& row) {
#pragma unroll
    for (int i = 0; i < kEight; ++i) sum.value[i] = first ? row.value[i] : add_rn(sum.value[i], row.value[i]);
    first = false;
  });
  if (accumulate) {
    Eight before;
    before.load(dx.at(piece.token, eight));
#pragma unroll
    for (int i = 0; i < kEight; ++i) sum.value[i] = add_rn(before.value[i], sum.value[i]);
  }
  sum.store(dx.at(piece.token, eight));
}

/// Rows of shared memory, eight banks apart.
constexpr int kSharedRow = kWarp * kEight + kEight;

/// Rows of dx and entries of d_weight of four slots of a token: lanes load eight columns each, then lane 8 q + c runs
/// chain c of slot q.
template <class X, class Dy, class Dx>
__global__ void combine_backward_kernel(RowMoves moves, Rows<X> x, Rows<Dy> dy, Rows<Dx> dx, float* d_weight,
                                        std::int64_t eights) {
  __shared__ float sm_rows[kThreadsPerBlock / kWarp][kTogether + 1][kSharedRow];
  const Piece piece = piece_of(pieces_of(moves.slots, kTogether));
  if (piece.token >= moves.tokens) return;
  float(&sm)[kTogether + 1][kSharedRow] = sm_rows[threadIdx.x / kWarp];
  std::int32_t row[kTogether];
  float weight[kTogether];
  const std::int64_t first_slot = piece.token * moves.slots + piece.index * kTogether;
#pragma unroll
  for (int q = 0; q < kTogether; ++q) {
    const bool is_slot = piece.index * kTogether + q < moves.slots;
    row[q] = is_slot ? moves.row_of_slot[first_slot + q] : -1;
    weight[q] = is_slot ? moves.weight[first_slot + q] : 0.0f;
  }
  const int own = piece.lane / kEight;
  const int chain = piece.lane % kEight;
  float sum = 0.0f;
  for (std::int64_t begin = 0; begin < eights; begin += kWarp) {
    const std::int64_t eight = begin + piece.lane;
    if (eight < eights) {
      Eight gradient;
      gradient.load(dy.at(piece.token, eight));
      Eight values[kTogether];
#pragma unroll
      for (int q = 0; q < kTogether; ++q)
        if (row[q] >= 0) values[q].load(x.at(row[q], eight));
      gradient.store(sm[kTogether] + piece.lane * kEight);
#pragma unroll
      for (int q = 0; q < kTogether; ++q) {
        if (row[q] < 0) continue;
        values[q].store(sm[q] + piece.lane * kEight);
        Eight scaled;
#pragma unroll
        for (int i = 0; i < kEight; ++i) scaled.value[i] = mul_rn(weight[q], gradient.value[i]);
        scaled.store(dx.at(row[q], eight));
      }
    }
    __syncwarp();
    const int count = static_cast<int>(eights - begin < kWarp ? eights - begin : kWarp);
    for (int i = 0; i < count; ++i) sum = fma_rn(sm[kTogether][i * kEight + chain], sm[own][i * kEight + chain], sum);
    __syncwarp();
  }
  for (int distance = 1; distance < kEight; distance *= 2) sum = add_rn(sum, __shfl_xor_sync(kAllLanes, sum, distance));
  if (chain == 0 && piece.index * kTogether + own < moves.slots)
    d_weight[first_slot + own] = moves.row_of_slot[first_slot + own] < 0 ? 0.0f : sum;
}

/// Calls `run` with a pointer of the dtype's element.
template <class Run>
void with_element(Dtype dtype, const Run& run) {
  if (dtype == Dtype::f32)
    run(static_cast<float*>(nullptr));
  else
    run(static_cast<std::uint16_t*>(nullptr));
}

std::int64_t vectors_of(const TensorView& view) {
  return view.cols * static_cast<std::int64_t>(size_of(view.dtype)) / 16;
}
std::int64_t vector_stride(const TensorView& view) {
  return view.stride * static_cast<std::int64_t>(size_of(view.dtype)) / 16;
}

void clear_padding(const RowMoves& moves, const TensorView& y, Stream stream) {
  launch("clear_padding", clear_padding_kernel, pieces_of(moves.rows, kWarp) * kWarp, stream, moves,
         static_cast<uint4*>(y.data), vector_stride(y), vectors_of(y));
}

}  // namespace

bool moves_serve(std::initializer_list<TensorView> views) {
  for (const TensorView& view : views) {
    if (view.dtype != Dtype::f32 && view.dtype != Dtype::bf16) return false;
    if (view.cols % kEight != 0 || view.stride * static_cast<std::int64_t>(size_of(view.dtype)) % 16 != 0) return false;
    if (reinterpret_cast<std::uintptr_t>(view.data) % 16 != 0) return false;
  }
  return true;
}

void permute(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream) {
  const std::int64_t vectors = vectors_of(y);
  launch("permute", permute_kernel, moves.tokens * pieces_of(vectors, kVectors * kWarp) * kWarp, stream, moves,
         static_cast<const uint4*>(x.data), vector_stride(x), static_cast<uint4*>(y.data), vector_stride(y), vectors);
  clear_padding(moves, y, stream);
}

void permute_backward(const RowMoves& moves, const TensorView& dy, const TensorView& dx, bool accumulate,
                      Stream stream) {
  const std::int64_t eights = dx.cols / kEight;
  with_element(dy.dtype, [&]<class Dy>(Dy*) {
    with_element(dx.dtype, [&]<class Dx>(Dx*) {
      launch("permute_backward", permute_backward_kernel<Dy, Dx>, moves.tokens * pieces_of(eights, kWarp) * kWarp,
             stream, moves, Rows<Dy>(dy), Rows<Dx>(dx), accumulate, eights);
    });
  });
}

void combine(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream) {
  const std::int64_t eights = y.cols / kEight;
  with_element(x.dtype, [&]<class X>(X*) {
    with_element(y.dtype, [&]<class Y>(Y*) {
      launch("combine", combine_kernel<X, Y>, moves.tokens * pieces_of(eights, kWarp) * kWarp, stream, moves,
             Rows<X>(x), Rows<Y>(y), eights);
    });
  });
}

void combine_backward(const RowMoves& moves, const TensorView& x, const TensorView& dy, const TensorView& dx,
                      float* d_weight, Stream stream) {
  const std::int64_t eights = x.cols / kEight;
  with_element(x.dtype, [&]<class X>(X*) {
    with_element(dy.dtype, [&]<class Dy>(Dy*) {
      with_element(dx.dtype, [&]<class Dx>(Dx*) {
        launch("combine_backward", combine_backward_kernel<X, Dy, Dx>,
               moves.tokens * pieces_of(moves.slots, kTogether) * kWarp, stream, moves, Rows<X>(x), Rows<Dy>(dy),
               Rows<Dx>(dx), d_weight, eights);
      });
    });
  });
  clear_padding(moves, dx, stream);
}

}  // namespace ng::cuda::fast
