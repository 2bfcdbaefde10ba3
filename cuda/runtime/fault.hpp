// SPDX-License-Identifier: Apache-2.0
//
// How a kernel says that a promise is broken (an id out of range): it notes index and value in a word of device memory,
// where the lowest index wins. Who looks at the word, and with which words it complains: backend/fault_words.hpp.
#pragma once

#include <cstdint>

#include "runtime/for_each.hpp"

namespace ng::cuda {

/// 0: no fault. Else the index, inverted, in the upper 28 bits, the value, biased, in the lower 36.
using FaultWord = unsigned long long;

constexpr int kFaultValueBits = 36;
constexpr std::int64_t kFaultLargestIndex = (std::int64_t{1} << (64 - kFaultValueBits)) - 2;
constexpr std::int64_t kFaultLargestValue = (std::int64_t{1} << (kFaultValueBits - 1)) - 1;

struct Fault {
  std::int64_t index;
  std::int64_t value;
};

/// Both bounded by what the word can hold: an index to 2^28 - 2, a value to 2^35 - 1 in magnitude.
NG_HD FaultWord fault_word(Fault fault) {
  const std::int64_t index = fault.index < kFaultLargestIndex ? fault.index : kFaultLargestIndex;
  const std::int64_t value = fault.value > kFaultLargestValue    ? kFaultLargestValue
                             : fault.value < -kFaultLargestValue ? -kFaultLargestValue
                                                                 : fault.value;
  return static_cast<FaultWord>(kFaultLargestIndex + 1 - index) << kFaultValueBits |
         static_cast<FaultWord>(value + kFaultLargestValue);
}

NG_HD Fault fault_of(FaultWord word) {
  const FaultWord value_mask = (FaultWord{1} << kFaultValueBits) - 1;
  return {kFaultLargestIndex + 1 - static_cast<std::int64_t>(word >> kFaultValueBits),
          static_cast<std::int64_t>(word & value_mask) - kFaultLargestValue};
}

/// For kernels: index `index` has the value `value`, which it must not have.
NG_HD void note_fault(FaultWord* word, std::int64_t index, std::int64_t value) {
  atomic_max(word, fault_word({index, value}));
}

}  // namespace ng::cuda
