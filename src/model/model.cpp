// SPDX-License-Identifier: Apache-2.0
//
// The model from tokens to losses and back, but for attention (attention.cpp) and the feed-forward parts
// (feed_forward.cpp).
#include "narrowgauge/model/model.hpp"

#include <cmath>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "saved.hpp"

namespace ng {

namespace {

/// cos (first half) and sin (second half) of t * theta^(-2i/R), R columns, each rounded to FP32 once.
std::vector<float> rope_angles(const ModelConfig& c) {
  const std::int64_t width = c.rope_width();
  const std::int64_t half = width / 2;
  std::vector<float> table(static_cast<std::size_t>(c.context * width));
  for (std::int64_t t = 0; t < c.context; ++t) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(width);
      const SineCosine angle = sine_cosine_rn(static_cast<double>(t) * exp_rn(exponent * log_rn(c.rope_theta)));
      table[static_cast<std::size_t>(t * width + i)] = static_cast<float>(angle.cosine);
      table[static_cast<std::size_t>(t * width + half + i)] = static_cast<float>(angle.sine);
    }
  }
  return table;
}

}  // namespace

Model::Model(const ModelConfig& config, Backend& backend, Communicator& communicator, std::uint32_t seed)
    : config_(config), backend_(backend), communicator_(communicator), parameters_(config, backend, seed) {
  rope_table_ = backend_.tensor(Dtype::f32, config.context, config.rope_width());
  const std::vector<float> angles = rope_angles(config);
  backend_.upload(rope_table_.view, angles.data());
}

Model::~Model() = default;

Tensor Model::activation(OperandKind kind, std::int64_t cols, const Batch& batch) {
  Tensor t = backend_.tensor(dtype_of(kind), batch.sequences * batch.length, cols);
  t.view.placement = Placement{batch.step_tokens, cols, batch.first_token, 0, nullptr};
  return t;
}

TensorForms Model::forms(const StepContext& context, LinearEdges& edges, Operand operand, const Tensor& x,
                         const RowGroups& groups) {
  const bool train = context.phase == Phase::train;
  const SavedKind kept = operand == Operand::activation && train ? edges.spec.saved.kind : SavedKind::original;
  std::vector<FormRequest> now;
  for (const FormRequest& request : edges.requests[static_cast<int>(operand)]) {
    const bool backward = request.gemm != Gemm::fprop;
    const bool later = kept == SavedKind::recomputed || request.spec.source == FormSource::saved;
    if (!backward || (train && !(operand == Operand::activation && later))) now.push_back(request);
  }
  TensorForms result = backend_.produce(context, x, groups, now);
  if (kept == SavedKind::codes) result.saved = saved_codes(context, edges, x, groups);
  return result;
}

Tensor Model::linear(const StepContext& context, LinearEdges& edges, const Parameter& weight, TensorForms& x,
                     OperandKind out, const RowGroups& weight_groups) {
  // The weight's forms serve all micro-batches of a step; an evaluation before the step needs only the first of them.
  if (edges.weight_step != context.step ||
      (context.phase == Phase::train && edges.weight.find(Gemm::dgrad) == nullptr)) {
    edges.weight = forms(context, edges, Operand::weight, weight.master, weight_groups);
    edges.weight_step = context.step;
  }
  const Form* a = x.find(Gemm::fprop);
  const std::int64_t rows = x.original.view.rows;
  const std::int64_t cols = weight.shape[weight.shape.size() - 2];
  Tensor y = backend_.tensor(dtype_of(out), rows, cols);
  y.view.placement = x.original.view.placement;
  y.view.placement.cols = cols;
  const Product product{Gemm::fprop,
                        &edges.product_sites[static_cast<int>(Gemm::fprop)],
                        a,
                        edges.weight.find(Gemm::fprop),
                        y.view,
                        false,
                        &x.groups,
                        edges.spec.gemm[static_cast<int>(Gemm::fprop)].carrier,
                        edges.spec.gemm[static_cast<int>(Gemm::fprop)].accumulate,
                        edges.spec.gemm[static_cast<int>(Gemm::fprop)].compensate,
                        &weight.master.view};
  if (weight_groups.offsets.empty())
    backend_.matmul(context, product);
  else
    backend_.grouped_matmul(context, product);
  // The forward's form has served, and nobody reads the original again: wgrad has its form, or it will be made of what
  // was saved or computed again. (The output of attention is kept by attention, which reads it once more.)
  std::erase_if(x.forms, [](const Form& form) { return form.gemm != Gemm::wgrad; });
  x.original.buffer = Buffer{};
  x.original.view.data = nullptr;
  return y;
}

void Model::linear_backward(const StepContext& context, LinearEdges& edges, Parameter& weight, const TensorForms& x,
                            const Tensor& dy, const TensorView& dx) {
  const TensorForms gradient = forms(context, edges, Operand::grad_output, dy, x.groups);
  const Form* activation_form = x.find(Gemm::wgrad);
  TensorForms late;
  if (activation_form == nullptr) {
    for (const FormRequest& request : edges.requests[static_cast<int>(Operand::activation)])
      if (request.gemm == Gemm::wgrad)
        late = backend_.produce(context, seen_backward(x), x.groups, std::span(&request, 1));
    activation_form = late.find(Gemm::wgrad);
  }
  const bool grouped = weight.shape.size() == 3;
  const auto multiply = [&](Gemm gemm, const Form* a, const Form* b, const TensorView& out, bool accumulate) {
    const GemmSpec& spec = edges.spec.gemm[static_cast<int>(gemm)];
    const Product product{
        gemm,           &edges.product_sites[static_cast<int>(gemm)], a, b, out, accumulate, &x.groups, spec.carrier,
        spec.accumulate};
    if (grouped)
      backend_.grouped_matmul(context, product);
    else
      backend_.matmul(context, product);
  };
  multiply(Gemm::dgrad, gradient.find(Gemm::dgrad), edges.weight.find(Gemm::dgrad), dx, false);
  multiply(Gemm::wgrad, gradient.find(Gemm::wgrad), activation_form, weight.gradient.view, true);
}

ForwardResult Model::forward(const StepContext& context, const Batch& batch, Edges& edges, Saved& saved,
                             bool with_backward) {
  const std::int64_t tokens = batch.sequences * batch.length;
  NG_CHECK_EQ(static_cast<std::int64_t>(batch.ids.size()), tokens);
  NG_CHECK_EQ(static_cast<std::int64_t>(batch.targets.size()), tokens);
  NG_CHECK(batch.length <= config_.context);
  const TensorKinds& kinds = edges.tensors();
  const float epsilon = static_cast<float>(config_.norm_epsilon);
  ForwardResult result;

  saved.ids = backend_.tensor(Dtype::i32, 1, tokens);
  saved.targets = backend_.tensor(Dtype::i32, 1, tokens);
  backend_.upload(saved.ids.view, batch.ids.data());
  backend_.upload(saved.targets.view, batch.targets.data());

  Tensor x = activation(edges.embedding(), config_.hidden, batch);
  backend_.embedding(parameters_.at("embedding").master.view, saved.ids.view, x.view);
  if (dtype_of(kinds.residual) != x.view.dtype) {
    Tensor carried = activation(kinds.residual, config_.hidden, batch);
    backend_.cast(x.view, carried.view);
    x = carried;
  }
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    LayerSaved kept;
    x = attention_block(context, batch, edges, layer, x, kept);
    kept.ffn_rstd = backend_.tensor(Dtype::f32, 1, tokens);
    Tensor h = activation(kinds.residual, config_.hidden, batch);
    backend_.rms_norm(x.view, parameters_.layer(layer, "ffn_norm").master.view, epsilon, h.view, kept.ffn_rstd.view);
    const Tensor y = config_.is_dense(layer) ? feed_forward(context, edges, Linear::dense_fc1, Linear::dense_fc2, layer,
                                                            h, RowGroups{}, kinds.gemm_output, kept.dense)
                                             : moe_block(context, batch, edges, layer, h, kept, result);
    Tensor next = activation(kinds.residual, config_.hidden, batch);
    backend_.add(x.view, y.view, next.view);
    x = next;
    if (with_backward) saved.layers.push_back(std::move(kept));
  }

  saved.last = x;
  saved.last_rstd = backend_.tensor(Dtype::f32, 1, tokens);
  Tensor h = activation(kinds.residual, config_.hidden, batch);
  backend_.rms_norm(x.view, parameters_.at("final_norm").master.view, epsilon, h.view, saved.last_rstd.view);
  LinearEdges& head = edges.linear(kOutsideLayers, Linear::head);
  Parameter& head_weight = parameters_.at(config_.tied_head ? "embedding" : "head");
  saved.head_input = forms(context, head, Operand::activation, h, RowGroups{});
  const Tensor logits = linear(context, head, head_weight, saved.head_input, kinds.logits, {});
  result.token_loss = backend_.tensor(Dtype::f32, 1, tokens);
  TensorView d_logits{};
  if (with_backward) {
    saved.d_logits = activation(kinds.gemm_output, config_.vocabulary, batch);
    d_logits = saved.d_logits.view;
  }
  backend_.cross_entropy(logits.view, saved.targets.view, 1.0f / static_cast<float>(batch.step_tokens),
                         result.token_loss.view, d_logits);
  return result;
}

void Model::backward(const StepContext& context, const Batch& batch, Edges& edges, Saved& saved) {
  const TensorKinds& kinds = edges.tensors();
  Parameter& head_weight = parameters_.at(config_.tied_head ? "embedding" : "head");
  Tensor dh = activation(kinds.gemm_output, config_.hidden, batch);
  linear_backward(context, edges.linear(kOutsideLayers, Linear::head), head_weight, saved.head_input, saved.d_logits,
                  dh.view);
  Tensor dx = activation(kinds.residual, config_.hidden, batch);
  Parameter& final_norm = parameters_.at("final_norm");
  backend_.rms_norm_backward(saved.last.view, final_norm.master.view, saved.last_rstd.view, dh.view, dx.view, false,
                             final_norm.gradient.view);
  saved.d_logits = Tensor{};

  for (std::int64_t layer = config_.layers; layer-- > 0;) {
    LayerSaved& kept = saved.layers[static_cast<std::size_t>(layer)];
    dh = config_.is_dense(layer) ? feed_forward_backward(context, edges, Linear::dense_fc1, Linear::dense_fc2, layer,
                                                         dx, kinds.gemm_output, kept.dense)
                                 : moe_backward(context, batch, edges, layer, dx, kept);
    Parameter& ffn_norm = parameters_.layer(layer, "ffn_norm");
    backend_.rms_norm_backward(kept.middle.view, ffn_norm.master.view, kept.ffn_rstd.view, dh.view, dx.view, true,
                               ffn_norm.gradient.view);

    attention_backward(context, batch, edges, layer, dx, kept);
    kept = LayerSaved{};
  }
  backend_.embedding_backward(saved.ids.view, dx.view, parameters_.at("embedding").gradient.view);
}

void Model::finish_gradients(Edges& edges) {
  for (LinearEdges& linear : edges.all()) {
    const OperandSpec& spec = operand_spec(linear.spec, Operand::weight, Gemm::fprop);
    if (spec.estimator.kind == EstimatorKind::straight_through) continue;
    Parameter& weight = parameters_.at(linear.name);
    backend_.multiply_by_estimator(spec.estimator, spec.quantizer, linear.weight.groups, weight.master.view,
                                   weight.gradient.view);
  }
}

ForwardResult Model::evaluate(const StepContext& context, const Batch& batch, Edges& edges) {
  Saved saved;
  return forward(context, batch, edges, saved, false);
}

ForwardResult Model::train(const StepContext& context, const Batch& batch, Edges& edges) {
  NG_CHECK(context.phase == Phase::train);
  Saved saved;
  ForwardResult result = forward(context, batch, edges, saved, true);
  count_saved(saved);
  backward(context, batch, edges, saved);
  return result;
}

}  // namespace ng
