// SPDX-License-Identifier: Apache-2.0
//
// The compensation product of an outlier split: B is turned once, so that an entry of A meets a whole row of it; one
// block does one row of the output, sixteen bytes of B a thread, in the order of the entries. Byte-equal to the plain
// kernel (tests/parity). Asynchronous on `stream`.
#pragma once

#include "plain/outlier_job.hpp"

struct CUstream_st;

namespace ng::cuda::fast {

/// Whether the kernels below serve b [N, K] and out [M, N]: grids that fit.
[[nodiscard]] bool residual_product_serves(const TensorView& b, const TensorView& out);

/// Bytes of b as the product wants it: [K, N rounded up to whole accesses], b's dtype.
[[nodiscard]] std::size_t turned_bytes(const TensorView& b);
void turn(const TensorView& b, void* turned, CUstream_st* stream);

/// out[m, n] += chain of row row0 + m of A and row n of b.
void add_residual_product(const ResidualView& a, std::int64_t row0, const TensorView& b, const void* turned,
                          const TensorView& out, CUstream_st* stream);

}  // namespace ng::cuda::fast
