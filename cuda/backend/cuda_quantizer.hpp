// SPDX-License-Identifier: Apache-2.0
//
// One quantization or one dequantization on the GPU, without a backend. Views and tensors are device memory; results
// have the bytes of the CPU backend's.
#pragma once

#include "backend/quantize_plan.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

/// A quantized tensor as kernels read it; `out` stays empty. Its group extents are in `extents`, device memory.
[[nodiscard]] DequantizeJob describe_dequantize(const QuantizedTensor& q, Buffer& extents);

/// As Backend::dequantize: decoded values as quantized, rounded once to out's dtype (f32 or bf16).
void dequantize(const QuantizedTensor& q, const TensorView& out, KernelChoice choice = KernelChoice::fastest);

class CudaQuantizer {
 public:
  /// MachineError, with the reason, when there is no GPU to use.
  explicit CudaQuantizer(KernelChoice choice = KernelChoice::fastest);

  [[nodiscard]] const DeviceInfo& device() const { return device_; }

  /// As Backend::quantize, but without outlier splits (a broken promise); x and x.placement.row_ids
  /// are device memory. See QuantizePlan for `known_amax`.
  [[nodiscard]] QuantizedTensor quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                         const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                         const std::uint32_t* known_amax = nullptr) const;

  void dequantize(const QuantizedTensor& q, const TensorView& out) const { cuda::dequantize(q, out, choice_); }

 private:
  DeviceInfo device_;
  KernelChoice choice_;
};

}  // namespace ng::cuda
