// SPDX-License-Identifier: Apache-2.0
//
// Which GPU there is, or why there is none, and memory on it. One device: the first that the driver shows.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "narrowgauge/tensor/storage.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

struct DeviceInfo {
  std::string name;  ///< "NVIDIA H100 80GB HBM3"
  int major = 0;     ///< compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  std::string driver;   ///< newest CUDA version that the driver knows, "13.0"
  std::string runtime;  ///< version of the CUDA runtime in this program
};

/// Why this program cannot use a GPU here, in one sentence; nothing when it can. Never throws.
[[nodiscard]] std::optional<std::string> device_problem();

/// MachineError with device_problem()'s sentence when there is none.
[[nodiscard]] DeviceInfo device_info();

/// Device memory, given back with its last owner; not initialised. It may be reused at once by work that is queued
/// later on the default stream: who uses it on another stream joins that one first. MachineError when there is not
/// enough.
[[nodiscard]] Buffer allocate(std::size_t bytes);

/// Copies between host and device, complete on return.
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_to_host(void* to, const void* from, std::size_t bytes);

/// Within device memory; asynchronous on `stream`.
void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream = nullptr);
void copy_rows_on_device(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                         std::size_t row_bytes, std::size_t rows, Stream stream = nullptr);
void fill_bytes(void* to, int value, std::size_t bytes, Stream stream = nullptr);
void fill_rows(void* to, std::size_t pitch, int value, std::size_t row_bytes, std::size_t rows,
               Stream stream = nullptr);

/// A list of the host as a copy in device memory, and the other way round; complete on return.
template <class T>
[[nodiscard]] Buffer to_device(const std::vector<T>& values) {
  Buffer buffer = allocate(values.size() * sizeof(T));
  copy_to_device(buffer.data.get(), values.data(), values.size() * sizeof(T));
  return buffer;
}
template <class T>
[[nodiscard]] std::vector<T> to_host(const void* from, std::size_t count) {
  std::vector<T> values(count);
  copy_to_host(values.data(), from, count * sizeof(T));
  return values;
}

/// Waits for all work; reports errors of kernels that ran before.
void synchronize();

}  // namespace ng::cuda
