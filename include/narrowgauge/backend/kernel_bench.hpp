// SPDX-License-Identifier: Apache-2.0
//
// Speeds of a device's kernels as shares of what the device can do at most, measured in the same run: what `bench
// kernel` prints. Bytes are counted from the definition of the operation, inputs once and outputs once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ng {

/// What a kernel is measured against.
enum class Ceiling : std::uint8_t {
  copy,          ///< device-to-device copy of the same bytes, bytes read and written
  bf16_product,  ///< BF16 tensor-core product of 8192^3
  fp8_product,   ///< FP8 tensor-core product of 8192^3 with tensor scales and fast accumulation
  fp32_fma,      ///< chains of FP32 fused multiply-adds in registers, all multiprocessors
};

[[nodiscard]] constexpr const char* name_of(Ceiling ceiling) {
  return ceiling == Ceiling::copy           ? "copy"
         : ceiling == Ceiling::bf16_product ? "bf16 product"
         : ceiling == Ceiling::fp8_product  ? "fp8 product"
                                            : "fp32 fma";
}

struct KernelSpeed {
  std::string name;           ///< "quantize/nvfp4 column"
  std::string shape;          ///< "16384x8192 bf16"
  double milliseconds = 0.0;  ///< median
  double rate = 0.0;          ///< GB/s against copy, else TFLOP/s
  Ceiling ceiling = Ceiling::copy;
  double share = 0.0;  ///< of the ceiling; 0 where the ceiling could not be measured
};

struct KernelBenchOptions {
  std::vector<std::string> only;  ///< substrings of names; empty: all kernels
  int repeats = 20;

  [[nodiscard]] bool wants(const std::string& name) const {
    return only.empty() || std::any_of(only.begin(), only.end(),
                                       [&](const std::string& part) { return name.find(part) != std::string::npos; });
  }
};

struct KernelBenchReport {
  std::string device;
  std::string driver;   ///< newest CUDA version that the driver knows
  std::string runtime;  ///< CUDA version of this program
  std::vector<KernelSpeed> ceilings;
  std::vector<KernelSpeed> kernels;
};

/// `progress` gets every figure as soon as it is measured.
using KernelProgress = std::function<void(const KernelSpeed&)>;

/// Measures the CUDA kernels. UserError where CUDA is absent, MachineError without a GPU.
[[nodiscard]] KernelBenchReport bench_cuda_kernels(const KernelBenchOptions& options, const KernelProgress& progress);

}  // namespace ng
