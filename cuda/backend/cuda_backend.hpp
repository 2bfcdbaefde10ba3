// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend: every operation of the interface as kernels, with the bytes of the CPU backend. Contracts are in
// narrowgauge/backend/backend.hpp; here is only who holds what. Bodies: cuda_backend.cpp (memory, cast, add),
// cuda_forms.cpp (quantization), cuda_outliers.cpp, cuda_estimator.cpp, cuda_measure*.cpp, cuda_products.cpp,
// cuda_tensor_core.cpp, cuda_library_products.cpp, cuda_layers.cpp, cuda_heads.cpp, cuda_attention.cpp,
// cuda_router.cpp, cuda_routing.cpp, cuda_optimizer.cpp. They are plain C++ that reaches the device through `runtime`
// and the launchers of `plain` and `fast` alone, so that tests/parity/on_host can build them against host memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/cublaslt_matmul.hpp"
#include "backend/fault_words.hpp"
#include "backend/product_operands.hpp"
#include "backend/quantize_plan.hpp"
#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"

namespace ng::cuda {

class CudaBackend final : public Backend {
 public:
  /// MachineError, with the reason, when there is no GPU to use.
  CudaBackend(const BackendOptions& options, KernelChoice choice);

  std::string name() const override { return "cuda"; }
  std::string device() const override;
  Arithmetic arithmetic() const override { return options_.arithmetic; }
  void set_tap(Tap* tap) override { tap_ = tap; }

  Buffer allocate(std::size_t bytes) override;
  void fill_zero(const TensorView& view) override;
  void upload(const TensorView& to, const void* from) override;
  /// Also complains about faults that kernels noted since the last one.
  void download(void* to, const TensorView& from) const override;

  TensorForms produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                      std::span<const FormRequest> requests) override;
  QuantizedTensor quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, const Site& site) override;
  Buffer tensor_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                     const QuantizerSpec& spec, Orientation orientation) override;
  QuantizedTensor quantize_known_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                      const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                      const Buffer& amax) override;
  void dequantize(const QuantizedTensor& x, const TensorView& out) override;
  Measurement measure(const QuantizationEvent& event, const MeasureRequest& request) override;
  std::vector<ProductElement> measure_product(const ProductEvent& event) override;

  void matmul(const StepContext& context, const Product& product) override;
  void grouped_matmul(const StepContext& context, const Product& product) override;
  std::int64_t carrier_losses() const override;
  void multiply_by_estimator(const EstimatorSpec& estimator, const QuantizerSpec& spec, const RowGroups& groups,
                             const TensorView& weight, const TensorView& gradient) override;
  void add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) override;

  void embedding(const TensorView& table, const TensorView& ids, const TensorView& y) override;
  void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) override;
  void rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                const TensorView& rstd) override;
  void rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd, const TensorView& dy,
                         const TensorView& dx, bool accumulate, const TensorView& d_gain) override;
  void add(const TensorView& a, const TensorView& b, const TensorView& out) override;
  void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) override;
  void qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
               const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) override;
  void qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                        const TensorView& k_gain, const TensorView& rstd, const TensorView& d_qkv,
                        const TensorView& d_q_gain, const TensorView& d_k_gain) override;
  void latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q, const TensorView& kv,
                    const TensorView& shared_key, const TensorView& qkv) override;
  void latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                             const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) override;
  void attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                 const TensorView& log_sum_exp) override;
  void attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                          const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) override;
  void swiglu(const TensorView& x, const TensorView& y) override;
  void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) override;

  Routing route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
                const TensorView& bias) override;
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

  std::string product_kernels() const override;
  std::string library_kernels() const override;
  /// The tensor-core kernels that cuBLASLt took so far; none with plain kernels or `ieee`.
  [[nodiscard]] std::vector<LibraryAlgorithm> library_algorithms() const;

 private:
  /// Whether a fast kernel may be asked.
  [[nodiscard]] bool fast() const { return choice_ == KernelChoice::fastest; }

  // cuda_forms.cpp
  /// With a history: notes the amax of a training pass. What the form is scaled by, or no data: its own amax.
  Buffer scaling_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                      const FormRequest& request, Orientation orientation);
  /// `amax`: as tensor_amax makes it, or no data.
  QuantizedTensor quantize_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                  const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                  const Buffer& amax);
  /// The fprop form decoded, in the axes of the original.
  Tensor decoded_fprop(const TensorForms& forms, DecodedResidual residual, Dtype dtype);

  // cuda_products.cpp
  /// grouped_matmul, unseen by any tap.
  void multiply(const Product& product);
  void compensated_product(const Product& product);

  // cuda_tensor_core.cpp
  void tensor_core_product(const Product& product, const HopperProduct& how);
  /// The same through cuBLASLt; false, and nothing done but the count of losses, where it has no kernel.
  bool library_product(const Product& product, const HopperProduct& how, const std::vector<ProductPart>& parts);
  unsigned long long* loss_counter();

  BackendOptions options_;
  KernelChoice choice_;
  Tap* tap_ = nullptr;
  mutable FaultWords faults_;
  std::unique_ptr<TensorCoreLibrary> library_;  ///< where fast kernels and `hopper` are asked for
  Buffer carrier_losses_;  ///< one unsigned long long; absent before the first product that may lose
};

/// A CUDA backend with the given kernels; for tests. See make_cuda_backend.
[[nodiscard]] std::unique_ptr<Backend> make_backend_of(const BackendOptions& options, KernelChoice choice);

}  // namespace ng::cuda
