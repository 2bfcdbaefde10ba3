// SPDX-License-Identifier: Apache-2.0
//
// Best time of a piece of work over repeated runs of at least a tenth of a second in all.
#pragma once

#include <algorithm>
#include <chrono>

namespace ng_bench {

template <class Work>
double best_seconds(const Work& work) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  double total = 0.0;
  for (int i = 0; i < 5 || total < 0.5; ++i) {
    const auto start = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

}  // namespace ng_bench
