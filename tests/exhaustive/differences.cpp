// SPDX-License-Identifier: Apache-2.0
//
// The comparison loop of cuda_casts.hpp.
#include <cstdio>

#include "cuda_casts.hpp"
#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng_test {

std::uint64_t differences(const CudaCast& cast, std::uint32_t first, std::uint32_t last, std::uint32_t step) {
  const ng::ElementFormat format = ng::format_of(cast.format);
  std::uint64_t found = 0;
  for (std::uint64_t i = first; i <= last; i += step) {
    const auto bits = static_cast<std::uint32_t>(i);
    const float x = ng::float_of(bits);
    const std::uint32_t got = ng::encode(format, cast.choices, x);
    const std::uint32_t theirs = cast.encode(x);
    if (got == theirs) continue;
    std::printf("%s input %08x (%a): got %02x, CUDA %02x\n", cast.name, bits, static_cast<double>(x), got, theirs);
    if (++found == 5) break;
  }
  return found;
}

}  // namespace ng_test
