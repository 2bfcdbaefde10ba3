// SPDX-License-Identifier: Apache-2.0
//
// The movement of rows between token order and expert order, where the router (cuda_router.cpp) sent them.
#include "backend/cuda_backend.hpp"
#include "backend/view_checks.hpp"
#include "fast/routing.hpp"
#include "plain/routing.hpp"

namespace ng::cuda {

namespace {

RowMoves moves_of(const Routing& routing) {
  RowMoves moves;
  moves.tokens = routing.probabilities.view.rows;
  moves.slots = routing.expert.view.cols;
  moves.rows = routing.rows;
  moves.row_of_slot = routing.row_of_slot.view.as<const std::int32_t>();
  moves.token_of_row = routing.token_of_row.view.as<const std::int32_t>();
  moves.slot_of_row = routing.slot_of_row.view.as<const std::int64_t>();
  moves.weight = routing.weight.view.as<const float>();
  return moves;
}

}  // namespace

void CudaBackend::permute(const Routing& routing, const TensorView& x, const TensorView& y) {
  const RowMoves moves = moves_of(routing);
  check_shape(x, moves.tokens, y.cols);
  NG_CHECK_EQ(y.rows, moves.rows);
  NG_CHECK_EQ(x.dtype, y.dtype);
  if (fast() && fast::moves_serve({x, y})) return fast::permute(moves, x, y, nullptr);
  plain::permute(moves, x, y, nullptr);
}

void CudaBackend::permute_backward(const Routing& routing, const TensorView& dy, const TensorView& dx,
                                   bool accumulate) {
  const RowMoves moves = moves_of(routing);
  check_shape(dx, moves.tokens, dy.cols);
  NG_CHECK_EQ(dy.rows, moves.rows);
  check_real(dy);
  check_real(dx);
  if (fast() && fast::moves_serve({dy, dx})) return fast::permute_backward(moves, dy, dx, accumulate, nullptr);
  plain::permute_backward(moves, dy, dx, accumulate, nullptr);
}

void CudaBackend::combine(const Routing& routing, const TensorView& x, const TensorView& y) {
  const RowMoves moves = moves_of(routing);
  check_shape(y, moves.tokens, x.cols);
  NG_CHECK_EQ(x.rows, moves.rows);
  check_real(x);
  check_real(y);
  if (fast() && fast::moves_serve({x, y})) return fast::combine(moves, x, y, nullptr);
  plain::combine(moves, x, y, nullptr);
}

void CudaBackend::combine_backward(const Routing& routing, const TensorView& x, const TensorView& dy,
                                   const TensorView& dx, const TensorView& d_weight) {
  const RowMoves moves = moves_of(routing);
  check_shape(x, moves.rows, dy.cols);
  check_shape(dx, moves.rows, dy.cols);
  check_shape(dy, moves.tokens, dy.cols);
  for (const TensorView* view : {&x, &dy, &dx}) check_real(*view);
  float* const dw = list_of_floats(d_weight, moves.tokens * moves.slots);
  if (fast() && fast::moves_serve({x, dy, dx})) return fast::combine_backward(moves, x, dy, dx, dw, nullptr);
  plain::combine_backward(moves, x, dy, dx, dw, nullptr);
}

}  // namespace ng::cuda
