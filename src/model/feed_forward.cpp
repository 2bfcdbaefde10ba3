// SPDX-License-Identifier: Apache-2.0
//
// The feed-forward parts of the model: one SwiGLU pair of linear layers, used by dense layers, shared experts and
// experts alike, and the routing around the experts.
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/model/model.hpp"
#include "saved.hpp"

namespace ng {

namespace {

RowGroups stack_groups(const Parameter& weight) {
  RowGroups groups;
  if (weight.shape.size() != 3) return groups;
  for (std::int64_t e = 0; e <= weight.shape[0]; ++e) groups.offsets.push_back(e * weight.shape[1]);
  return groups;
}

/// A tensor with the rows and the placement of another.
Tensor like(Backend& backend, const TensorView& rows_of, OperandKind kind, std::int64_t cols) {
  Tensor t = backend.tensor(dtype_of(kind), rows_of.rows, cols);
  t.view.placement = rows_of.placement;
  t.view.placement.cols = cols;
  return t;
}

}  // namespace

RouterSpec Model::router_spec(const Batch& batch) const {
  RouterSpec spec;
  spec.experts = config_.experts;
  spec.top_k = config_.top_k;
  spec.renormalize = config_.renormalize;
  spec.aux_coefficient = static_cast<float>(config_.aux_coefficient);
  spec.z_coefficient = static_cast<float>(config_.z_coefficient);
  spec.row_alignment = row_alignment_;
  spec.gate = config_.gate;
  spec.routed_scaling = static_cast<float>(config_.routed_scaling);
  spec.groups = config_.route_groups;
  spec.groups_kept = config_.route_groups_kept;
  spec.group_score = config_.group_score;
  spec.balance = config_.balance;
  spec.capacity_factor = config_.capacity_factor;
  spec.drop = config_.drop;
  spec.sequence_length = batch.length;
  return spec;
}

Tensor Model::feed_forward(const StepContext& context, Edges& edges, Linear fc1, Linear fc2, std::int64_t layer,
                           const Tensor& x, const RowGroups& groups, OperandKind out, FeedForwardSaved& saved) {
  const TensorKinds& kinds = edges.tensors();
  const Parameter& w1 = parameters_.layer(layer, std::string(name_of(fc1)));
  const Parameter& w2 = parameters_.layer(layer, std::string(name_of(fc2)));
  LinearEdges& edges1 = edges.linear(layer, fc1);
  LinearEdges& edges2 = edges.linear(layer, fc2);
  saved.input = forms(context, edges1, Operand::activation, x, groups);
  saved.gate_up = linear(context, edges1, w1, saved.input, kinds.gemm_output, stack_groups(w1));
  Tensor hidden = like(backend_, saved.gate_up.view, kinds.gemm_output, saved.gate_up.view.cols / 2);
  backend_.swiglu(saved.gate_up.view, hidden.view);
  saved.hidden = forms(context, edges2, Operand::activation, hidden, groups);
  if (context.phase == Phase::train && edges2.spec.saved.kind == SavedKind::recomputed) {
    saved.gate_up_codes = TensorForms{saved.gate_up, groups, {}, saved_codes(context, edges2, saved.gate_up, groups)};
    saved.gate_up_codes.original.buffer = Buffer{};
    saved.gate_up_codes.original.view.data = nullptr;
    saved.gate_up = Tensor{};
  }
  return linear(context, edges2, w2, saved.hidden, out, stack_groups(w2));
}

Tensor Model::feed_forward_backward(const StepContext& context, Edges& edges, Linear fc1, Linear fc2,
                                    std::int64_t layer, const Tensor& dy, OperandKind out, FeedForwardSaved& saved) {
  const TensorKinds& kinds = edges.tensors();
  Parameter& w1 = parameters_.layer(layer, std::string(name_of(fc1)));
  Parameter& w2 = parameters_.layer(layer, std::string(name_of(fc2)));
  const Tensor gate_up = saved.gate_up ? saved.gate_up : seen_backward(saved.gate_up_codes);
  if (!saved.gate_up) {
    saved.hidden.original = like(backend_, dy.view, kinds.gemm_output, w2.shape.back());
    backend_.swiglu(gate_up.view, saved.hidden.original.view);
  }
  Tensor d_hidden = like(backend_, dy.view, kinds.gemm_output, w2.shape.back());
  linear_backward(context, edges.linear(layer, fc2), w2, saved.hidden, dy, d_hidden.view);
  Tensor d_gate_up = like(backend_, dy.view, kinds.gemm_output, gate_up.view.cols);
  backend_.swiglu_backward(gate_up.view, d_hidden.view, d_gate_up.view);
  Tensor dx = like(backend_, dy.view, out, w1.shape.back());
  linear_backward(context, edges.linear(layer, fc1), w1, saved.input, d_gate_up, dx.view);
  return dx;
}

Tensor Model::moe_block(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                        const Tensor& h, LayerSaved& saved, ForwardResult& result) {
  const TensorKinds& kinds = edges.tensors();
  LinearEdges& router = edges.linear(layer, Linear::router);
  saved.router_input = forms(context, router, Operand::activation, h, RowGroups{});
  const Tensor logits =
      linear(context, router, parameters_.layer(layer, "router"), saved.router_input, kinds.logits, {});
  const TensorView bias = config_.bias_rate > 0.0 ? parameters_.layer(layer, "router_bias").master.view : TensorView{};
  saved.routing = backend_.route(router_spec(batch), logits.view, h.view.placement, bias);
  const Routing& routing = saved.routing;
  result.moe.push_back(
      MoeStatistics{layer, routing.counts, routing.dropped, routing.entropy, routing.aux_loss, routing.z_loss});

  Tensor rows = backend_.tensor(dtype_of(kinds.dispatch), routing.rows, config_.hidden);
  rows.view.placement = Placement{batch.step_tokens * config_.top_k, config_.hidden, 0, 0,
                                  routing.slot_of_row.view.as<const std::int64_t>()};
  backend_.permute(routing, h.view, rows.view);
  rows = communicator_.dispatch(routing, rows);
  saved.expert_rows =
      feed_forward(context, edges, Linear::fc1, Linear::fc2, layer, rows, routing.groups, kinds.combine, saved.experts);
  saved.expert_rows = communicator_.combine(routing, saved.expert_rows);
  Tensor y = activation(kinds.gemm_output, config_.hidden, batch);
  backend_.combine(routing, saved.expert_rows.view, y.view);
  if (config_.shared_experts > 0) {
    const Tensor shared = feed_forward(context, edges, Linear::shared_fc1, Linear::shared_fc2, layer, h, RowGroups{},
                                       kinds.gemm_output, saved.dense);
    backend_.add(y.view, shared.view, y.view);
  }
  return y;
}

Tensor Model::moe_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                           const Tensor& dy, LayerSaved& saved) {
  const TensorKinds& kinds = edges.tensors();
  const Routing& routing = saved.routing;
  const std::int64_t tokens = dy.view.rows;

  // 1. Through the combination to the experts' rows and the combine weights.
  Tensor d_rows = like(backend_, saved.expert_rows.view, kinds.combine_grad, config_.hidden);
  const Tensor d_weight = backend_.tensor(Dtype::f32, tokens, config_.top_k);
  backend_.combine_backward(routing, saved.expert_rows.view, dy.view, d_rows.view, d_weight.view);
  // 2. Through the experts, back to the tokens.
  d_rows = communicator_.dispatch(routing, d_rows);
  Tensor d_permuted = feed_forward_backward(context, edges, Linear::fc1, Linear::fc2, layer, d_rows,
                                            kinds.dispatch_grad, saved.experts);
  d_permuted = communicator_.combine(routing, d_permuted);
  Tensor dh = activation(kinds.gemm_output, config_.hidden, batch);
  backend_.permute_backward(routing, d_permuted.view, dh.view, false);
  // 3. The shared experts, then the router; each is added with one rounding.
  if (config_.shared_experts > 0) {
    const Tensor d_shared = feed_forward_backward(context, edges, Linear::shared_fc1, Linear::shared_fc2, layer, dy,
                                                  kinds.gemm_output, saved.dense);
    backend_.add(dh.view, d_shared.view, dh.view);
  }
  const float share = static_cast<float>(static_cast<double>(tokens) / static_cast<double>(batch.step_tokens));
  Tensor d_logits = activation(OperandKind::f32, config_.experts, batch);
  backend_.route_backward(router_spec(batch), routing, d_weight.view, share, d_logits.view);
  const Tensor d_router = activation(kinds.gemm_output, config_.hidden, batch);
  linear_backward(context, edges.linear(layer, Linear::router), parameters_.layer(layer, "router"), saved.router_input,
                  d_logits, d_router.view);
  backend_.add(dh.view, d_router.view, dh.view);
  return dh;
}

}  // namespace ng
