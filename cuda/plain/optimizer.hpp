// SPDX-License-Identifier: Apache-2.0
//
// Loss, AdamW and initial values (see Backend); asynchronous on `stream`. A target out of range, or a row that has no
// random numbers, becomes a fault in the given word.
#pragma once

#include "narrowgauge/numerics/adamw.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/fault.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// What the gradient of a row's loss needs of the row.
struct RowSoftmax {
  float maximum;
  float sum;
};

/// `rows`: one for each row of logits, scratch; no gradient where d_logits has no data. d_logits may be logits.
void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, float* token_loss,
                   const TensorView& d_logits, RowSoftmax* rows, FaultWord* fault, Stream stream);

/// `count` parameters.
void adamw(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
           std::int64_t count, Stream stream);

/// See normal_number; the fault is the row with the first element that it would have.
void fill_normal(const TensorView& view, const RandomStream& stream_of_bits, double deviation, FaultWord* fault,
                 Stream stream);

}  // namespace ng::cuda::plain
