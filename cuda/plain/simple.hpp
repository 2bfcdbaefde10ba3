// SPDX-License-Identifier: Apache-2.0
//
// Kernels that only round and add. f32 and bf16 views; asynchronous on `stream`.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// to = round(from).
void cast(const TensorView& from, const TensorView& to, Stream stream);
/// out = round(a + b).
void add(const TensorView& a, const TensorView& b, const TensorView& out, Stream stream);

}  // namespace ng::cuda::plain
