// SPDX-License-Identifier: Apache-2.0
//
// Four streams and five events for the life of the program.
#include "runtime/stream_fan.hpp"

#include <cuda_runtime_api.h>

#include <exception>

#include "runtime/check.hpp"

namespace ng::cuda {

namespace {

struct Queues {
  Stream streams[kFanStreams] = {};
  cudaEvent_t ends[kFanStreams] = {};
  cudaEvent_t start = nullptr;

  Queues() {
    NG_CUDA_CHECK(cudaEventCreateWithFlags(&start, cudaEventDisableTiming));
    for (int i = 0; i < kFanStreams; ++i) {
      NG_CUDA_CHECK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
      NG_CUDA_CHECK(cudaEventCreateWithFlags(&ends[i], cudaEventDisableTiming));
    }
  }
};

Queues& queues() {
  static Queues all;  // never destroyed by us: the driver may be gone first
  return all;
}

}  // namespace

StreamFan::StreamFan() {
  NG_CUDA_CHECK(cudaEventRecord(queues().start, nullptr));
  for (const Stream stream : queues().streams) NG_CUDA_CHECK(cudaStreamWaitEvent(stream, queues().start, 0));
}

StreamFan::~StreamFan() {
  for (int i = 0; i < kFanStreams; ++i)
    if (cudaEventRecord(queues().ends[i], queues().streams[i]) != cudaSuccess ||
        cudaStreamWaitEvent(nullptr, queues().ends[i], 0) != cudaSuccess)
      std::terminate();  // later work would not wait: nothing computed from here on could be trusted
}

Stream StreamFan::stream(int i) const {
  return queues().streams[i];
}

}  // namespace ng::cuda
