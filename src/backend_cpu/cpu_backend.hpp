// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend: every operation of the interface as loops over rows, cut into fixed pieces for the threads.
// Contracts are in narrowgauge/backend/backend.hpp; here is only who holds what. Bodies: cpu_backend.cpp (memory, cast,
// add), cpu_forms.cpp (quantization), cpu_products.cpp, cpu_tensor_core.cpp, cpu_layers.cpp, cpu_heads.cpp,
// cpu_attention.cpp, cpu_router.cpp, cpu_routing.cpp, cpu_optimizer.cpp.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.hpp"
#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
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
  std::int64_t carrier_losses() const override { return carrier_losses_; }
  std::string product_kernels() const override {
    return options_.arithmetic == Arithmetic::ieee ? "cpu tiled 6x16" : "cpu model";
  }
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

 private:
  /// FP32 rows of a tensor, and where they lie: the tensor itself if it is FP32, else a widened copy; transformed if
  /// the spec says so.
  struct FloatSource {
    const float* data;
    std::int64_t stride;
    std::vector<float> copy;
  };
  struct FloatOperand;

  // cpu_quantize.cpp; `amax`: nullptr, or the tensor's amax of each group (or one for all)
  QuantizedTensor quantize_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                  const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                  const float* amax);

  // cpu_outliers.cpp
  /// Clamps the outliers of `source`; returns what they lost, if the spec keeps it.
  std::shared_ptr<const SparseResidual> split_outliers(const QuantizerSpec& spec, Orientation orientation,
                                                       const TensorView& x, const RowGroups& groups,
                                                       FloatSource& source);
  /// add_residual_product with rows [row0, row0 + out.rows) of A.
  void add_residual_rows(const SparseResidual& a, std::int64_t row0, const TensorView& b, const TensorView& out);
  /// decoded[r * cols + c] += residual, in the axes as quantized.
  static void add_residual(const SparseResidual& residual, std::vector<float>& decoded);

  // cpu_forms.cpp
  /// One quantized form; with a history, scaled by it.
  QuantizedTensor quantize_request(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                   const FormRequest& request, Orientation orientation);
  /// The fprop form decoded, in the axes of the original.
  Tensor decoded_fprop(const TensorForms& forms, DecodedResidual residual, Dtype dtype);
  FloatSource float_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation);
  /// Rows [row0, row1) of the decoded matrix as quantized; out points at row row0.
  enum class DecodedScales : std::uint8_t { none, block, all };  // all: block and tensor scale
  void decode_rows(const QuantizedTensor& q, DecodedScales which, std::int64_t row0, std::int64_t row1, float* out,
                   std::int64_t stride) const;

  // cpu_measure.cpp, cpu_measure_scales.cpp; `measured`: rows of the original that are no padding
  std::vector<float> decoded_in_original_axes(const QuantizedTensor& q) const;
  std::vector<float> tile_limits(const QuantizedTensor& q) const;
  void measure_scales(const QuantizationEvent& event, const std::vector<std::uint8_t>& measured, bool list,
                      Measurement& result) const;
  void measure_scale_gap(const QuantizedTensor& columns, const QuantizedTensor& rows,
                         const std::vector<std::uint8_t>& measured, MeasureSums& sums) const;
  void measure_transposes(const QuantizedTensor& q, const std::vector<float>& decoded,
                          const std::vector<std::uint8_t>& measured, MeasureSums& sums) const;
  std::vector<std::int64_t> code_counts(const QuantizedTensor& q, const std::vector<std::uint8_t>& measured) const;

  // cpu_measure_product.cpp
  struct SampledOperand;
  /// As the product took it; as its quantizer was given it; as it was before any transform.
  enum class OperandVersion : std::uint8_t { quantized, transformed, plain };
  SampledOperand sampled_operand(const StepContext& context, const Form& form, OperandVersion version);
  /// What lies in `out` at the sampled rows, before a product is added to it.
  static std::vector<float> rows_before(const Product& product);

  // cpu_products.cpp
  /// grouped_matmul, unseen by any tap.
  void multiply(const Product& product);
  FloatOperand float_operand(const Form& form);
  void float_product(const StridedMatrix& a, const StridedMatrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                     const float* scale_a, const float* scale_b, const TensorView& out, bool accumulate,
                     std::int64_t piece);

  void compensated_product(const Product& product);

  // cpu_tensor_core.cpp
  struct CarriedOperand;
  CarriedOperand carried_form(const Form& form, const CarriedOperandSpec& spec, HopperSteps steps);
  void tensor_core_product(const Product& product, const HopperProduct& how);

  BackendOptions options_;
  const CpuKernels& kernels_;
  ThreadPool pool_;
  Tap* tap_ = nullptr;
  std::int64_t carrier_losses_ = 0;
};

}  // namespace ng::cpu
