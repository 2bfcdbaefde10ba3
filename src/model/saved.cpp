// SPDX-License-Identifier: Apache-2.0
//
// What stays between the forward and the backward pass: codes where the edges ask for them, and how many bytes of each
// kind of storage.
#include "saved.hpp"

#include <set>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/recipe/enum_names.hpp"

namespace ng {

namespace {

/// Bytes of buffers by storage, each buffer once however many views it has.
class ByteCount {
 public:
  void add(const Buffer& buffer, const std::string& storage) {
    if (buffer.data != nullptr && seen_.insert(buffer.data.get()).second)
      bytes[storage] += static_cast<std::int64_t>(buffer.bytes);
  }
  void add(const Tensor& x) {
    if (!x) return;
    const bool real = x.view.dtype == Dtype::f32 || x.view.dtype == Dtype::bf16;
    add(x.buffer, real ? std::string(name_of(x.view.dtype)) : "index");
  }
  void add(const QuantizedTensor& q) {
    const std::string name(name_of(q.spec.element_id));
    for (const Buffer* buffer : {&q.codes, &q.scales, &q.tensor_scales, &q.tensor_amaxes}) add(*buffer, name);
    if (q.residual == nullptr) return;
    add(q.residual->values, std::string(name_of(q.residual->format)));
    add(q.residual->row_pointers, "index");
    add(q.residual->columns, "index");
  }
  void add(const TensorForms& x) {
    add(x.original);
    if (x.saved != nullptr) add(*x.saved);
    for (const Form& form : x.forms) {
      add(form.plain);
      if (form.quantized != nullptr) add(*form.quantized);
    }
  }

  std::map<std::string, std::int64_t> bytes;

 private:
  std::set<const void*> seen_;
};

}  // namespace

std::shared_ptr<const QuantizedTensor> Model::saved_codes(const StepContext& context, const LinearEdges& edges,
                                                          const Tensor& x, const RowGroups& groups) {
  return std::make_shared<QuantizedTensor>(
      backend_.quantize(context, x.view, groups, edges.spec.saved.quantizer, Orientation::row, edges.saved_site));
}

Tensor Model::seen_backward(const TensorForms& x) {
  if (x.saved == nullptr) {
    NG_CHECK(x.original, "nothing was saved");
    return x.original;
  }
  Tensor decoded = backend_.tensor(Dtype::f32, x.saved->rows, x.saved->cols);
  backend_.dequantize(*x.saved, decoded.view);
  decoded.view.placement = x.original.view.placement;
  return decoded;
}

void Model::count_saved(const Saved& saved) {
  ByteCount count;
  for (const Tensor* x : {&saved.ids, &saved.targets, &saved.last, &saved.last_rstd, &saved.d_logits}) count.add(*x);
  count.add(saved.head_input);
  for (const LayerSaved& layer : saved.layers) {
    for (const Tensor* x : {&layer.input, &layer.attn_rstd, &layer.raw_qkv, &layer.qk_rstd, &layer.qkv, &layer.attn_out,
                            &layer.log_sum_exp, &layer.middle, &layer.ffn_rstd, &layer.expert_rows, &layer.latent.q_a,
                            &layer.latent.q_a_rstd, &layer.latent.kv_a, &layer.latent.kv_a_rstd})
      count.add(*x);
    for (const TensorForms* x : {&layer.attn_input, &layer.attn_mixed, &layer.router_input, &layer.latent.q_b_input,
                                 &layer.latent.kv_a_input, &layer.latent.kv_b_input})
      count.add(*x);
    const Routing& routing = layer.routing;
    for (const Tensor* x : {&routing.probabilities, &routing.expert, &routing.weight, &routing.row_of_slot,
                            &routing.token_of_row, &routing.slot_of_row, &routing.log_sum_exp})
      count.add(*x);
    for (const FeedForwardSaved* part : {&layer.experts, &layer.dense}) {
      count.add(part->input);
      count.add(part->gate_up);
      count.add(part->gate_up_codes);
      count.add(part->hidden);
    }
  }
  saved_bytes_ = std::move(count.bytes);
}

}  // namespace ng
