// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels that move rows: one thread one element, or one slot's dot product.
#include "plain/routing.hpp"

#include "narrowgauge/numerics/row_sums.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

/// Copies bits: elements of any dtype.
template <class Bits>
struct Permute {
  RowMoves moves;
  TensorView x, y;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / y.cols, c = i % y.cols;
    const std::int32_t token = moves.token_of_row[r];
    static_cast<Bits*>(y.data)[r * y.stride + c] =
        token < 0 ? Bits{0} : static_cast<const Bits*>(x.data)[token * x.stride + c];
  }
};

struct PermuteBackward {
  RowMoves moves;
  TensorView dy, dx;
  bool accumulate;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / dx.cols, c = i % dx.cols;
    float sum = 0.0f;
    bool first = true;
    for (std::int64_t k = 0; k < moves.slots; ++k) {
      const std::int32_t row = moves.row_of_slot[t * moves.slots + k];
      if (row < 0) continue;
      const float term = load_real(dy, row, c);
      sum = first ? term : add_rn(sum, term);
      first = false;
    }
    store_real(dx, t, c, accumulate ? add_rn(load_real(dx, t, c), sum) : sum);
  }
};

struct Combine {
  RowMoves moves;
  TensorView x, y;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / y.cols, c = i % y.cols;
    float sum = 0.0f;
    for (std::int64_t k = 0; k < moves.slots; ++k) {
      const std::int64_t slot = t * moves.slots + k;
      const std::int32_t row = moves.row_of_slot[slot];
      if (row >= 0) sum = fma_rn(moves.weight[slot], load_real(x, row, c), sum);
    }
    store_real(y, t, c, sum);
  }
};

struct CombineToRows {
  RowMoves moves;
  TensorView dy, dx;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / dx.cols, c = i % dx.cols;
    const std::int64_t token = moves.token_of_row[r];
    float d = 0.0f;
    if (token >= 0)
      d = mul_rn(moves.weight[token * moves.slots + moves.slot_of_row[r] % moves.slots], load_real(dy, token, c));
    store_real(dx, r, c, d);
  }
};

struct CombineToWeights {
  RowMoves moves;
  TensorView x, dy;
  float* d_weight;
  NG_HD void operator()(std::int64_t i) const {
    const std::int32_t row = moves.row_of_slot[i];
    d_weight[i] = row < 0 ? 0.0f : dot_of_chains(RealRow{dy, i / moves.slots}, RealRow{x, row}, x.cols);
  }
};

}  // namespace

void permute(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream) {
  switch (size_of(y.dtype)) {
    case 1:
      return for_each("permute", y.count(), stream, Permute<std::uint8_t>{moves, x, y});
    case 2:
      return for_each("permute", y.count(), stream, Permute<std::uint16_t>{moves, x, y});
    case 4:
      return for_each("permute", y.count(), stream, Permute<std::uint32_t>{moves, x, y});
    default:
      return for_each("permute", y.count(), stream, Permute<std::uint64_t>{moves, x, y});
  }
}

void permute_backward(const RowMoves& moves, const TensorView& dy, const TensorView& dx, bool accumulate,
                      Stream stream) {
  for_each("permute_backward", dx.count(), stream, PermuteBackward{moves, dy, dx, accumulate});
}

void combine(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream) {
  for_each("combine", y.count(), stream, Combine{moves, x, y});
}

void combine_backward(const RowMoves& moves, const TensorView& x, const TensorView& dy, const TensorView& dx,
                      float* d_weight, Stream stream) {
  for_each("combine_to_rows", dx.count(), stream, CombineToRows{moves, dy, dx});
  for_each("combine_to_weights", moves.tokens * moves.slots, stream, CombineToWeights{moves, x, dy, d_weight});
}

}  // namespace ng::cuda::plain
