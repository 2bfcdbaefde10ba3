// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer's entry to one target, NG_FUZZ_TARGET.
#include <cstddef>

#include "fuzz_targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ng::fuzz::NG_FUZZ_TARGET({data, size});
  return 0;
}
