// SPDX-License-Identifier: Apache-2.0
//
// The attention part of a layer: how queries, keys and values are made of the residual (one product with norms of
// queries and keys, or the products and norms of latent attention), attention itself, and the way back.
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/model/model.hpp"
#include "saved.hpp"

namespace ng {

namespace {

AttentionShape attention_shape(const ModelConfig& c, const Batch& batch) {
  return AttentionShape{batch.sequences, batch.length, c.heads, c.kv_heads, c.head_dim, c.value_dim()};
}

}  // namespace

Tensor Model::project(const StepContext& context, Edges& edges, Linear which, std::int64_t layer, const Tensor& x,
                      TensorForms& input) {
  LinearEdges& linear_edges = edges.linear(layer, which);
  input = forms(context, linear_edges, Operand::activation, x, RowGroups{});
  return linear(context, linear_edges, parameters_.layer(layer, std::string(name_of(which))), input,
                edges.tensors().gemm_output, {});
}

Tensor Model::project_backward(const StepContext& context, const Batch& batch, Edges& edges, Linear which,
                               std::int64_t layer, const Tensor& dy, const TensorForms& input) {
  Parameter& weight = parameters_.layer(layer, std::string(name_of(which)));
  Tensor dx = activation(edges.tensors().gemm_output, weight.shape.back(), batch);
  linear_backward(context, edges.linear(layer, which), weight, input, dy, dx.view);
  return dx;
}

Tensor Model::normed(const Parameter& gain, const TensorView& x, OperandKind kind, const Batch& batch, Tensor& rstd) {
  rstd = backend_.tensor(Dtype::f32, 1, x.rows);
  Tensor y = activation(kind, x.cols, batch);
  backend_.rms_norm(x, gain.master.view, static_cast<float>(config_.norm_epsilon), y.view, rstd.view);
  return y;
}

Tensor Model::grouped_heads(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                            const Tensor& h, LayerSaved& saved) {
  const AttentionShape shape = attention_shape(config_, batch);
  Tensor qkv = project(context, edges, Linear::attn_qkv, layer, h, saved.attn_input);
  if (config_.qk_norm != QkNorm::none) {
    saved.raw_qkv = qkv;
    qkv = activation(edges.tensors().gemm_output, shape.qkv_cols(), batch);
    saved.qk_rstd =
        backend_.tensor(Dtype::f32, shape.tokens(), config_.qk_norm == QkNorm::head ? shape.heads + shape.kv_heads : 2);
    backend_.qk_norm(shape, config_.qk_norm, saved.raw_qkv.view, parameters_.layer(layer, "q_norm").master.view,
                     parameters_.layer(layer, "k_norm").master.view, static_cast<float>(config_.norm_epsilon), qkv.view,
                     saved.qk_rstd.view);
  }
  backend_.rope(shape, row_slice(rope_table_.view, 0, shape.sequence_length), qkv.view, false);
  return qkv;
}

Tensor Model::grouped_heads_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                                     const Tensor& d_qkv, LayerSaved& saved) {
  const AttentionShape shape = attention_shape(config_, batch);
  backend_.rope(shape, row_slice(rope_table_.view, 0, shape.sequence_length), d_qkv.view, true);
  if (config_.qk_norm != QkNorm::none) {
    Parameter& q_norm = parameters_.layer(layer, "q_norm");
    Parameter& k_norm = parameters_.layer(layer, "k_norm");
    backend_.qk_norm_backward(shape, config_.qk_norm, saved.raw_qkv.view, q_norm.master.view, k_norm.master.view,
                              saved.qk_rstd.view, d_qkv.view, q_norm.gradient.view, k_norm.gradient.view);
  }
  return project_backward(context, batch, edges, Linear::attn_qkv, layer, d_qkv, saved.attn_input);
}

Tensor Model::latent_heads(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                           const Tensor& h, LayerSaved& saved) {
  const AttentionShape shape = attention_shape(config_, batch);
  const OperandKind kind = edges.tensors().gemm_output;
  const LatentAttention& mla = config_.mla;
  LatentSaved& latent = saved.latent;
  Tensor q;
  if (mla.q_rank > 0) {
    latent.q_a = project(context, edges, Linear::attn_q_a, layer, h, saved.attn_input);
    const Tensor normed_q = normed(parameters_.layer(layer, "q_a_norm"), latent.q_a.view, kind, batch, latent.q_a_rstd);
    q = project(context, edges, Linear::attn_q_b, layer, normed_q, latent.q_b_input);
  } else {
    q = project(context, edges, Linear::attn_q, layer, h, saved.attn_input);
  }
  latent.kv_a = project(context, edges, Linear::attn_kv_a, layer, h, latent.kv_a_input);
  const Tensor normed_kv = normed(parameters_.layer(layer, "kv_a_norm"), col_slice(latent.kv_a.view, 0, mla.kv_rank),
                                  kind, batch, latent.kv_a_rstd);
  const Tensor kv = project(context, edges, Linear::attn_kv_b, layer, normed_kv, latent.kv_b_input);
  Tensor qkv = activation(kind, shape.qkv_cols(), batch);
  backend_.latent_heads(shape, row_slice(rope_table_.view, 0, shape.sequence_length), q.view, kv.view,
                        col_slice(latent.kv_a.view, mla.kv_rank, mla.rope_dim), qkv.view);
  return qkv;
}

Tensor Model::latent_heads_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                                    const Tensor& d_qkv, LayerSaved& saved) {
  const AttentionShape shape = attention_shape(config_, batch);
  const OperandKind kind = edges.tensors().gemm_output;
  const LatentAttention& mla = config_.mla;
  LatentSaved& latent = saved.latent;
  const Tensor d_q = activation(kind, shape.query_cols(), batch);
  const Tensor d_kv = activation(kind, shape.heads * (mla.nope_dim + mla.value_dim), batch);
  const Tensor d_kv_a = activation(kind, mla.kv_rank + mla.rope_dim, batch);
  backend_.latent_heads_backward(shape, row_slice(rope_table_.view, 0, shape.sequence_length), d_qkv.view, d_q.view,
                                 d_kv.view, col_slice(d_kv_a.view, mla.kv_rank, mla.rope_dim));
  const auto norm_backward = [&](const char* name, const TensorView& x, const Tensor& rstd, const Tensor& dy,
                                 const TensorView& dx) {
    Parameter& gain = parameters_.layer(layer, name);
    backend_.rms_norm_backward(x, gain.master.view, rstd.view, dy.view, dx, false, gain.gradient.view);
  };
  const Tensor d_normed_kv = project_backward(context, batch, edges, Linear::attn_kv_b, layer, d_kv, latent.kv_b_input);
  norm_backward("kv_a_norm", col_slice(latent.kv_a.view, 0, mla.kv_rank), latent.kv_a_rstd, d_normed_kv,
                col_slice(d_kv_a.view, 0, mla.kv_rank));
  const Tensor dh_kv = project_backward(context, batch, edges, Linear::attn_kv_a, layer, d_kv_a, latent.kv_a_input);
  Tensor dh;
  if (mla.q_rank > 0) {
    const Tensor d_normed_q = project_backward(context, batch, edges, Linear::attn_q_b, layer, d_q, latent.q_b_input);
    const Tensor d_q_a = activation(kind, mla.q_rank, batch);
    norm_backward("q_a_norm", latent.q_a.view, latent.q_a_rstd, d_normed_q, d_q_a.view);
    dh = project_backward(context, batch, edges, Linear::attn_q_a, layer, d_q_a, saved.attn_input);
  } else {
    dh = project_backward(context, batch, edges, Linear::attn_q, layer, d_q, saved.attn_input);
  }
  backend_.add(dh.view, dh_kv.view, dh.view);
  return dh;
}

Tensor Model::attention_block(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                              const Tensor& x, LayerSaved& saved) {
  const TensorKinds& kinds = edges.tensors();
  const AttentionShape shape = attention_shape(config_, batch);
  saved.input = x;
  const Tensor h = normed(parameters_.layer(layer, "attn_norm"), x.view, kinds.residual, batch, saved.attn_rstd);
  saved.qkv = config_.mla.present() ? latent_heads(context, batch, edges, layer, h, saved)
                                    : grouped_heads(context, batch, edges, layer, h, saved);
  saved.attn_out = activation(kinds.gemm_output, shape.out_cols(), batch);
  saved.log_sum_exp = backend_.tensor(Dtype::f32, shape.tokens(), shape.heads);
  backend_.attention(shape, saved.qkv.view, saved.attn_out.view, saved.log_sum_exp.view);
  const Tensor projected = project(context, edges, Linear::attn_out, layer, saved.attn_out, saved.attn_mixed);
  if (saved.attn_mixed.saved != nullptr) saved.attn_out = Tensor{};
  Tensor middle = activation(kinds.residual, config_.hidden, batch);
  backend_.add(x.view, projected.view, middle.view);
  saved.middle = middle;
  return middle;
}

void Model::attention_backward(const StepContext& context, const Batch& batch, Edges& edges, std::int64_t layer,
                               const Tensor& dx, LayerSaved& saved) {
  const AttentionShape shape = attention_shape(config_, batch);
  const Tensor d_attn = project_backward(context, batch, edges, Linear::attn_out, layer, dx, saved.attn_mixed);
  const Tensor d_qkv = activation(edges.tensors().gemm_output, shape.qkv_cols(), batch);
  const Tensor attn_out = saved.attn_out ? saved.attn_out : seen_backward(saved.attn_mixed);
  backend_.attention_backward(shape, saved.qkv.view, attn_out.view, saved.log_sum_exp.view, d_attn.view, d_qkv.view);
  const Tensor dh = config_.mla.present() ? latent_heads_backward(context, batch, edges, layer, d_qkv, saved)
                                          : grouped_heads_backward(context, batch, edges, layer, d_qkv, saved);
  Parameter& attn_norm = parameters_.layer(layer, "attn_norm");
  backend_.rms_norm_backward(saved.input.view, attn_norm.master.view, saved.attn_rstd.view, dh.view, dx.view, true,
                             attn_norm.gradient.view);
}

}  // namespace ng
