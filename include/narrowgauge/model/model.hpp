// SPDX-License-Identifier: Apache-2.0
//
// The decoder-only mixture-of-experts transformer: forward and backward as a flat list of backend and communicator
// calls. The mathematics is in src/model/README.md. The model asks its Edges for the forms of every operand and never
// learns which recipe is on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/model/edges.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/model/parameters.hpp"
#include "narrowgauge/parallel/communicator.hpp"

namespace ng {

/// A micro-batch: `sequences` sequences of `length` tokens, and where it lies in the step.
struct Batch {
  std::span<const std::int32_t> ids;      ///< [sequences * length]
  std::span<const std::int32_t> targets;  ///< [sequences * length]
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  std::int64_t step_tokens = 0;  ///< tokens of the whole step, over all micro-batches and ranks
  std::int64_t first_token = 0;  ///< position of this micro-batch's first token in the step
};

/// What one MoE layer did with a micro-batch.
struct MoeStatistics {
  std::int64_t layer = 0;
  std::vector<std::int64_t> counts;  ///< slots that chose each expert, dropped ones included
  std::int64_t dropped = 0;          ///< slots
  double entropy = 0.0;              ///< mean over tokens, nats
  double aux_loss = 0.0;             ///< coefficient included
  double z_loss = 0.0;
};

struct ForwardResult {
  Tensor token_loss;  ///< [1, tokens] f32, nats
  std::vector<MoeStatistics> moe;
};

class Model {
 public:
  Model(const ModelConfig& config, Backend& backend, Communicator& communicator, std::uint32_t seed);
  ~Model();

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }

  /// Losses only; nothing is kept for a backward pass.
  ForwardResult evaluate(const StepContext& context, const Batch& batch, Edges& edges);
  /// Losses and gradients of mean over step_tokens of the cross entropy, plus auxiliary and z losses weighted by this
  /// micro-batch's share of the step. Gradients are added to parameters().gradient.
  ForwardResult train(const StepContext& context, const Batch& batch, Edges& edges);

  /// After the last micro-batch of a step: what is done once to the sum of its gradients (estimators of weights).
  void finish_gradients(Edges& edges);

  /// Rows of an expert are padded with zeros to a multiple of this, which must be one of the Hadamard transform of
  /// wgrad. It changes no bit of a finite result, but for the sign of a weight gradient that underflows to zero.
  void set_row_alignment(std::int64_t rows) { row_alignment_ = rows; }

  /// Bytes that the last training micro-batch kept for its backward pass, by storage: "bf16", "f32", an element format
  /// with its scales, "index".
  const std::map<std::string, std::int64_t>& saved_bytes() const { return saved_bytes_; }

 private:
  struct Saved;
  struct LatentSaved;
  struct LayerSaved;
  struct FeedForwardSaved;

  Tensor activation(OperandKind kind, std::int64_t cols, const Batch& batch);
  /// Y of the layer; of x remains what the backward pass needs.
  Tensor linear(const StepContext& context, LinearEdges& edges, const Parameter& weight, TensorForms& x,
                OperandKind out, const RowGroups& weight_groups);
  /// dx = dy W into `dx`; the weight's gradient is accumulated.
  void linear_backward(const StepContext& context, LinearEdges& edges, Parameter& weight, const TensorForms& x,
                       const Tensor& dy, const TensorView& dx);
  TensorForms forms(const StepContext& context, LinearEdges& edges, Operand operand, const Tensor& x,
                    const RowGroups& groups);

  /// saved.cpp: what the backward pass sees of x, the decoded codes or the original; codes of a tensor; the count.
  Tensor seen_backward(const TensorForms& x);
  std::shared_ptr<const QuantizedTensor> saved_codes(const StepContext& context, const LinearEdges& edges,
                                                     const Tensor& x, const RowGroups& groups);
  void count_saved(const Saved& saved);

  ForwardResult forward(const StepContext& context, const Batch& batch, Edges& edges, Saved& saved, bool with_backward);
  /// One linear layer of attention with its input's forms, and its backward.
  Tensor project(const StepContext& context, Edges& edges, Linear which, std::int64_t layer, const Tensor& x,
                 TensorForms& input);
  Tensor project_backward(const StepContext& context, const Batch& batch, Edges& edges, Linear which,
                          std::int64_t layer, const Tensor& dy, const TensorForms& input);
  Tensor normed(const Parameter& gain, const TensorView& x, OperandKind kind, const Batch& batch, Tensor& rstd);
  /// Rotated queries, keys and values of h, and the gradient of h; d_qkv is used up.
  Tensor grouped_heads(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                       const Tensor& h, LayerSaved& saved);
  Tensor grouped_heads_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                                const Tensor& d_qkv, LayerSaved& saved);
  Tensor latent_heads(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer, const Tensor& h,
                      LayerSaved& saved);
  Tensor latent_heads_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                               const Tensor& d_qkv, LayerSaved& saved);
  Tensor attention_block(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                         const Tensor& x, LayerSaved& saved);
  /// From the gradient of the residual after attention to that before it, in place.
  void attention_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                          const Tensor& dx, LayerSaved& saved);
  Tensor feed_forward(const StepContext& context, Edges& edges, Linear fc1, Linear fc2, std::int64_t layer,
                      const Tensor& x, const RowGroups& groups, OperandKind out, FeedForwardSaved& saved);
  Tensor feed_forward_backward(const StepContext& context, Edges& edges, Linear fc1, Linear fc2, std::int64_t layer,
                               const Tensor& dy, OperandKind out, FeedForwardSaved& saved);
  Tensor moe_block(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer, const Tensor& h,
                   LayerSaved& saved, ForwardResult& result);
  Tensor moe_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                      const Tensor& dy, LayerSaved& saved);
  void backward(const StepContext& context, const Batch& batch, Edges& edges, Saved& saved);
  RouterSpec router_spec(const Batch& batch) const;

  ModelConfig config_;
  Backend& backend_;
  Communicator& communicator_;
  Parameters parameters_;
  Tensor rope_table_;  // [context, rope_width] f32
  std::int64_t row_alignment_ = 32;
  std::map<std::string, std::int64_t> saved_bytes_;
};

}  // namespace ng
