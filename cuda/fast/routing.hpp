// SPDX-License-Identifier: Apache-2.0
//
// Rows between token order and expert order at memory speed: a token's rows in a warp's hands, 16-byte accesses.
// Byte-equal to plain/routing.hpp (tests/parity).
#pragma once

#include <initializer_list>

#include "plain/routing.hpp"

namespace ng::cuda::fast {

/// Whether the kernels below serve these matrices: rows of f32 or bf16, of whole multiples of eight elements, 16-byte
/// aligned.
[[nodiscard]] bool moves_serve(std::initializer_list<TensorView> views);

/// What the plain kernels of these names do.
void permute(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream);
void permute_backward(const RowMoves& moves, const TensorView& dy, const TensorView& dx, bool accumulate,
                      Stream stream);
void combine(const RowMoves& moves, const TensorView& x, const TensorView& y, Stream stream);
void combine_backward(const RowMoves& moves, const TensorView& x, const TensorView& dy, const TensorView& dx,
                      float* d_weight, Stream stream);

}  // namespace ng::cuda::fast
