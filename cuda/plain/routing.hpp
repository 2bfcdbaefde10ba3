// SPDX-License-Identifier: Apache-2.0
//
// Kernels that move rows between token order and expert order. Asynchronous on `stream`.
#pragma once

#include <cstdint>

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// Where rows go: the lists of a Routing in device memory.
struct RowMoves {
  std::int64_t tokens = 0;
  std::int64_t slots = 0;  ///< of a token
  std::int64_t rows = 0;
  const std::int32_t* row_of_slot = nullptr;   ///< [T, K]
  const std::int32_t* token_of_row = nullptr;  ///< [rows]
  const std::int64_t* slot_of_row = nullptr;   ///< [rows], modulo K the slot of its token
  const float* weight = nullptr;               ///< [T, K]
};

namespace plain {

/// What the operations of these names do; see Backend.
void permute(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream);
void permute_backward(const RowMoves& moves, const TensorView& dy, const TensorView& dx, bool accumulate,
                      Stream stream);
void combine(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream);
/// `d_weight`: [T, K].
void combine_backward(const RowMoves& moves, const TensorView& x, const TensorView& dy, const TensorView& dx,
                      float* d_weight, Stream stream);

}  // namespace plain

}  // namespace ng::cuda
