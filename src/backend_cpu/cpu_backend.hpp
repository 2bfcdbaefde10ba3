// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend: every operation of the interface as loops over rows, cut into fixed pieces for the threads. Contracts
// are in narrowgauge/backend/backend.hpp; here is only who holds what. Bodies: cpu_backend.cpp (memory, cast, add),
// cpu_forms.cpp (quantization), cpu_products.cpp, cpu_layers.cpp, cpu_attention.cpp, cpu_routing.cpp, cpu_optimizer.cpp.
#pragma once

#include <string>

#include "kernels/kernels.hpp"
#include "narrowgauge/backend/backend.hpp"
#include "thread_pool.hpp"

namespace ng::cpu {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);

  std::string name() const override { return "cpu"; }
  std::string device() const override;
  Arithmetic arithmetic() const override { return options_.arithmetic; }
  void set_tap(Tap* tap) override { tap_ = tap; }

  Buffer allocate(std::size_t bytes) override;
  void fill_zero(const TensorView& view) override;
  void upload(const TensorView& to, const void* from) override;
  void download(void* to, const TensorView& from) const override;

  TensorForms produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                      std::span<const FormRequest> requests) override;
  QuantizedTensor quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, const Site& site) override;
  void dequantize(const QuantizedTensor& x, const TensorView& out) override;
  MeasureSums measure(const QuantizationEvent& event, const QuantizerSpec* row_spec) override;

  void matmul(const StepContext& context, const Product& product) override;
  void grouped_matmul(const StepContext& context, const Product& product) override;

  void embedding(const TensorView& table, const TensorView& ids, const TensorView& y) override;
  void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) override;
  void rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                const TensorView& rstd) override;
  void rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd, const TensorView& dy,
                         const TensorView& dx, bool accumulate, const TensorView& d_gain) override;
  void add(const TensorView& a, const TensorView& b, const TensorView& out) override;
  void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) override;
  void attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                 const TensorView& log_sum_exp) override;
  void attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                          const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) override;
  void swiglu(const TensorView& x, const TensorView& y) override;
  void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) override;

  Routing route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens) override;
  void route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight, float loss_scale,
                      const TensorView& d_logits) override;
  void permute(const Routing& routing, const TensorView& x, const TensorView& y) override;
  void permute_backward(const Routing& routing, const TensorView& dy, const TensorView& dx, bool accumulate) override;
  void combine(const Routing& routing, const TensorView& x, const TensorView& y) override;
  void combine_backward(const Routing& routing, const TensorView& x, const TensorView& dy, const TensorView& dx,
                        const TensorView& d_weight) override;

  void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, const TensorView& token_loss,
                     const TensorView& d_logits) override;
  double sum_of_squares(const TensorView& x) override;
  double sum(const TensorView& x) override;
  void adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) override;
  void cast(const TensorView& from, const TensorView& to) override;
  void fill_normal(const TensorView& view, const RandomStream& stream, double deviation) override;

 private:
  BackendOptions options_;
  const CpuKernels& kernels_;
  ThreadPool pool_;
  Tap* tap_ = nullptr;
};

}  // namespace ng::cpu
