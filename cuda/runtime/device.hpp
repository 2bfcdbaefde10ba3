// SPDX-License-Identifier: Apache-2.0
//
// Which GPU there is, or why there is none, and memory on it. One device: the first that the driver shows.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "narrowgauge/tensor/storage.hpp"

namespace ng::cuda {

struct DeviceInfo {
  std::string name;              ///< "NVIDIA H100 80GB HBM3"
  int major = 0;                 ///< compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  std::string driver;            ///< newest CUDA version that the driver knows, "13.0"
  std::string runtime;           ///< version of the CUDA runtime in this program
};

/// Why this program cannot use a GPU here, in one sentence; nothing when it can. Never throws.
[[nodiscard]] std::optional<std::string> device_problem();

/// MachineError with device_problem()'s sentence when there is none.
[[nodiscard]] DeviceInfo device_info();

/// Device memory, freed with its last owner; not initialised. MachineError when there is not enough.
[[nodiscard]] Buffer allocate(std::size_t bytes);

/// Copies between host and device, complete on return.
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_to_host(void* to, const void* from, std::size_t bytes);
void fill_bytes(void* to, int value, std::size_t bytes);

/// Waits for all work; reports errors of kernels that ran before.
void synchronize();

}  // namespace ng::cuda
