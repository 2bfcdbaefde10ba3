// SPDX-License-Identifier: Apache-2.0
//
// Embedding and SwiGLU of f32 and bf16 views (see Backend); asynchronous on `stream`. An id out of range becomes a
// fault in the given word: its token and the id.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/fault.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// A list of ids, or -1 with a fault where one is not in [0, below); below 2^31.
void ids_as_list(const TensorView& ids, std::int64_t below, std::int32_t* list, FaultWord* fault, Stream stream);
void embedding(const TensorView& table, const TensorView& ids, const TensorView& y, FaultWord* fault, Stream stream);
void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table, FaultWord* fault,
                        Stream stream);
void swiglu(const TensorView& x, const TensorView& y, Stream stream);
void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx, Stream stream);

}  // namespace ng::cuda::plain
