// SPDX-License-Identifier: Apache-2.0
//
// plain/carriers.hpp's carry of codes, at the speed of memory: eight numbers a thread, a scale looked up once for the
// numbers that share it. Run on the host by the same text.
#pragma once

#include "plain/carriers.hpp"

namespace ng::cuda::fast {

/// Codes of a format that quick_decode.hpp has, to BF16 or to FP8 codes, rows of the copy a multiple of 8.
[[nodiscard]] bool serves_carry(const CarrierJob& job);
void carry(const CarrierJob& job, Stream stream);

}  // namespace ng::cuda::fast
