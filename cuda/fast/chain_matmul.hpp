// SPDX-License-Identifier: Apache-2.0
//
// The products of plain/products.hpp's chain_product for all groups in one launch, at the speed of FP32 multiply-adds:
// tiles of 128x128 outputs, 8x8 in the registers of a thread, each output one chain in ascending k, never split.
#pragma once

#include <span>

#include "plain/products.hpp"

namespace ng::cuda::fast {

/// Whether every operand lies along k or along its rows without gaps.
[[nodiscard]] bool chain_matmul_serves(std::span<const ChainProduct> products);
/// Outputs must not overlap. Asynchronous on `stream`.
void chain_matmul(std::span<const ChainProduct> products, Stream stream);

}  // namespace ng::cuda::fast
