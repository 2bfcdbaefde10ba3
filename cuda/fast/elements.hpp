// SPDX-License-Identifier: Apache-2.0
//
// Operations on single elements, eight a thread: cast, add, SwiGLU, rotation, embedding, AdamW. They serve views for
// which are_eight_views holds (eight_views.cuh) and the conditions written here; else the plain kernels do.
#pragma once

#include "narrowgauge/backend/attention_shape.hpp"
#include "narrowgauge/numerics/adamw.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/fault.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

[[nodiscard]] bool elements_serve(std::initializer_list<const TensorView*> views);

void cast(const TensorView& from, const TensorView& to, Stream stream);
void add(const TensorView& a, const TensorView& b, const TensorView& out, Stream stream);
void swiglu(const TensorView& x, const TensorView& y, Stream stream);
void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx, Stream stream);
void embedding(const TensorView& table, const TensorView& ids, const TensorView& y, FaultWord* fault, Stream stream);

/// Heads of which each half is whole eights.
[[nodiscard]] bool rope_serves(const TensorView& table, const TensorView& qkv);
void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse, Stream stream);

/// Lists that begin at multiples of 16 bytes, of any length.
[[nodiscard]] bool adamw_serves(const float* gradient, const float* master, const float* first, const float* second);
void adamw(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
           std::int64_t count, Stream stream);

}  // namespace ng::cuda::fast
