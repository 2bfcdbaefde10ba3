// SPDX-License-Identifier: Apache-2.0
//
// State of delayed scaling: amaxes of one tensor in earlier steps, and what this step has seen so far. Training owns
// it, hands it to the operations with a form's request, saves and restores it. Operations of a training pass note what
// they see; evaluation and recomputation only read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"

namespace ng {

struct AmaxHistory {
  AmaxHistorySpec spec;
  std::int64_t groups = 0;     ///< scales of the tensor: one per expert, or one; 0 until the first amax is noted
  std::vector<float> past;     ///< [steps, groups], oldest first, at most spec.history steps
  std::vector<float> current;  ///< [groups], largest amax over the micro-batches of this step; empty: none yet

  /// Amaxes of a micro-batch.
  void note(const float* amax, std::int64_t count) {
    NG_CHECK(groups == 0 || groups == count, "amaxes of ", count, " groups, before ", groups);
    groups = count;
    if (current.empty()) current.assign(static_cast<std::size_t>(count), 0.0f);
    for (std::size_t g = 0; g < current.size(); ++g)
      current[g] = larger(current[g], amax[g]);
  }

  /// The amax of each group to scale by: over the past steps; empty before there is any.
  [[nodiscard]] std::vector<float> reduced() const {
    if (past.empty()) return {};
    const auto count = static_cast<std::size_t>(groups);
    std::vector<float> result(past.end() - static_cast<std::ptrdiff_t>(count), past.end());
    if (spec.reduce == AmaxReduce::most_recent) return result;
    for (std::size_t i = 0; i < past.size(); ++i)
      result[i % count] = larger(result[i % count], past[i]);
    return result;
  }

  /// Ends the step. A group that saw nothing but zeros (an expert without tokens) repeats its last entry.
  void advance() {
    if (current.empty()) return;
    const auto count = static_cast<std::size_t>(groups);
    for (std::size_t g = 0; g < count && !past.empty(); ++g)
      if (current[g] == 0.0f) current[g] = past[past.size() - count + g];
    past.insert(past.end(), current.begin(), current.end());
    if (past.size() > count * static_cast<std::size_t>(spec.history))
      past.erase(past.begin(), past.begin() + static_cast<std::ptrdiff_t>(count));
    current.clear();
  }

 private:
  /// NaN stays.
  static float larger(float a, float b) { return std::isnan(a) || a >= b ? a : b; }
};

}  // namespace ng
