// SPDX-License-Identifier: Apache-2.0
//
// Pairs of events around each run.
#include "runtime/timer.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "runtime/check.hpp"

namespace ng::cuda {

namespace {

struct Event {
  cudaEvent_t event{};
  Event() { NG_CUDA_CHECK(cudaEventCreate(&event)); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

}  // namespace

double median_milliseconds(const std::function<void()>& work, int repeats) {
  const Event begin, end;
  std::vector<float> times;
  for (int i = -2; i < repeats; ++i) {
    NG_CUDA_CHECK(cudaEventRecord(begin.event, nullptr));
    work();
    NG_CUDA_CHECK(cudaEventRecord(end.event, nullptr));
    NG_CUDA_CHECK(cudaEventSynchronize(end.event));
    float milliseconds = 0.0f;
    NG_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.event, end.event));
    if (i >= 0) times.push_back(milliseconds);
  }
  std::sort(times.begin(), times.end());
  return times.empty() ? 0.0 : static_cast<double>(times[times.size() / 2]);
}

}  // namespace ng::cuda
