// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernels that measure sampled elements of products. Asynchronous on `stream`.
#pragma once

#include "plain/measure_product_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

void gather_pieces(const GatherJob& job, Stream stream);
void transform_pieces(const TransformJob& job, Stream stream);
/// Sums of products of FP32 numbers, which doubles hold, without rounding.
void sum_products(const ProductSumsJob& job, Stream stream);
void gather_given(const GivenJob& job, Stream stream);

}  // namespace ng::cuda::plain
