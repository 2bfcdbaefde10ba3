// SPDX-License-Identifier: Apache-2.0
//
// The arguments of the backend's operations: plain structs of views and numbers. Shapes use the letters B batch
// (sequences), T tokens (B times sequence length), C hidden, H query heads, G key/value heads, D head size, V
// vocabulary, E experts, K experts per token, F expert width, R rows of the permuted tensor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "narrowgauge/backend/attention_shape.hpp"
#include "narrowgauge/backend/measurement.hpp"
#include "narrowgauge/numerics/adamw.hpp"
#include "narrowgauge/numerics/router_spec.hpp"
#include "narrowgauge/observe/tap.hpp"
#include "narrowgauge/tensor/amax_history.hpp"
#include "narrowgauge/tensor/tensor_forms.hpp"

namespace ng {

/// A form that some product wants of a tensor.
struct FormRequest {
  Gemm gemm = Gemm::fprop;
  Operand operand = Operand::activation;
  OperandSpec spec{};
  const Site* site = nullptr;  ///< names the edge: random draws and taps
  /// With delayed scaling (spec.amax): what to scale by, and where a training pass notes what it sees. Null, or without
  /// a past: the tensor's own amax.
  AmaxHistory* history = nullptr;
};

/// D[M, N] = A[M, K] B[N, K]^T of one group, or of each group of rows:
/// fprop  A rows grouped, B stacked by group: D[r_g, N] = A[r_g, K] B_g[N, K]^T
/// dgrad  the same with B the column forms of the stacked weight
/// wgrad  contraction over the grouped rows: D_g[M, N] = A[:, r_g] B[:, r_g]^T, D stacked by group
struct Product {
  Gemm gemm = Gemm::fprop;
  const Site* site = nullptr;
  const Form* a = nullptr;
  const Form* b = nullptr;
  TensorView out{};
  /// FP32 only. A chain of `ieee` continues from the value in `out`; a tensor core's result is added to it, rounded
  /// once.
  bool accumulate = false;
  /// Row groups of the activation or grad_output; empty: one group.
  const RowGroups* groups = nullptr;
  Carrier carrier = Carrier::bf16;
  Accumulate accumulation = Accumulate::promoted;
  /// fprop: the FP32 result before its rounding gets add_residual_product of A's residual with B, decoded, or with the
  /// unquantized `weight`.
  Compensate compensate = Compensate::none;
  const TensorView* weight = nullptr;
};

/// Where each token goes. Expert rows are ordered by (expert, token, slot) and padded to `row_alignment`; a dropped
/// slot has none.
struct Routing {
  Tensor probabilities;  ///< [T, E] f32, softmax of the logits
  Tensor scores;         ///< [T, E] f32, s of the gate; under softmax the probabilities themselves
  Tensor shares;         ///< [T, E] f32, scores over their sum; under softmax the probabilities themselves
  Tensor expert;         ///< [T, K] i32, by falling selection score, ties to the lower index
  Tensor full_weight;    ///< [T, K] f32, combine weights as if nothing were dropped
  Tensor weight;         ///< [T, K] f32, combine weights; 0 for dropped slots; dropless: full_weight itself
  Tensor row_of_slot;    ///< [T, K] i32, row in the permuted tensor, -1 for a dropped slot
  Tensor token_of_row;   ///< [1, R] i32, -1 for padding
  Tensor slot_of_row;    ///< [1, R] i64, a Placement's row_ids: token * K + slot in the logical step; padding rows have
                         ///< ids of their own from (tokens of the step) * K on
  Tensor log_sum_exp;    ///< [1, T] f32, of the logits
  RowGroups groups;      ///< E groups of permuted rows, padding included; host
  std::vector<std::int64_t> counts;           ///< [E] slots that chose each expert, dropped ones included; host
  std::vector<std::int64_t> sequence_counts;  ///< [sequences, E], the same by sequence; host
  std::int64_t dropped = 0;                   ///< slots
  std::int64_t rows = 0;                      ///< R
  double aux_loss = 0.0;                      ///< coefficient included
  double z_loss = 0.0;
  double entropy = 0.0;  ///< mean over tokens of the entropy of the shares, nats
};

struct AdamWSpec {
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float epsilon = 1e-8f;
  float weight_decay = 0.1f;
};

/// Scalars that change from step to step; they live in one place so that nothing else of a step does.
struct StepScalars {
  float learning_rate = 0.0f;
  float clip_factor = 1.0f;       ///< gradients are multiplied by this
  float bias_correction1 = 1.0f;  ///< 1 / (1 - beta1^t)
  float bias_correction2 = 1.0f;  ///< 1 / (1 - beta2^t)
};

/// What AdamW's arithmetic wants of both.
inline AdamWScalars adamw_scalars(const AdamWSpec& spec, const StepScalars& scalars, bool decay) {
  return {spec.beta1,
          spec.beta2,
          spec.epsilon,
          decay ? spec.weight_decay : 0.0f,
          scalars.learning_rate,
          scalars.clip_factor,
          scalars.bias_correction1,
          scalars.bias_correction2};
}

/// One parameter tensor with its optimizer state, all of `count` elements.
struct ParameterUpdate {
  TensorView master;    ///< f32
  TensorView gradient;  ///< f32
  TensorView first;     ///< f32, m
  TensorView second;    ///< f32, v
  bool decay = true;
};

}  // namespace ng
