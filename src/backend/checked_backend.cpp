// SPDX-License-Identifier: Apache-2.0
//
// The checking backend: every operation on two backends with the same inputs, the first one's. It goes on with the
// first one's results and stops at the first byte in which the other's differ, with operation, site and place. Slow:
// all tensors travel through host memory.
#include <algorithm>
#include <deque>
#include <tuple>

#include "mirrors.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/check.hpp"

namespace ng {

namespace {

class CheckedBackend final : public Backend {
 public:
  CheckedBackend(std::unique_ptr<Backend> first, std::unique_ptr<Backend> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  std::string name() const override { return "checked:" + first_->name() + "/" + second_->name(); }
  std::string device() const override { return first_->device() + ", checked by " + second_->device(); }
  Arithmetic arithmetic() const override { return first_->arithmetic(); }
  void set_tap(Tap* tap) override { first_->set_tap(tap); }

  Buffer allocate(std::size_t bytes) override { return first_->allocate(bytes); }
  void fill_zero(const TensorView& view) override { first_->fill_zero(view); }
  void upload(const TensorView& to, const void* from) override { first_->upload(to, from); }
  void download(void* to, const TensorView& from) const override { first_->download(to, from); }
  std::int64_t carrier_losses() const override { return first_->carrier_losses(); }
  std::string product_kernels() const override { return first_->product_kernels(); }
  std::string library_kernels() const override { return first_->library_kernels(); }

  TensorForms produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                      std::span<const FormRequest> requests) override {
    std::vector<FormRequest> own(requests.begin(), requests.end());
    std::deque<AmaxHistory> histories;  // the second backend's notes: of the same past
    for (FormRequest& request : own)
      if (request.history != nullptr) request.history = &histories.emplace_back(*request.history);
    return both_give<TensorForms>(
        "produce" + (requests.empty() ? "" : " for " + requests.front().site->name), [&](Backend& on, auto& v) {
          return on.produce(context, v(x), groups, &on == second_.get() ? std::span<const FormRequest>(own) : requests);
        });
  }
  QuantizedTensor quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                           const QuantizerSpec& spec, Orientation orientation, const Site& site) override {
    return both_give<QuantizedTensor>("quantize " + site.name, [&](Backend& on, auto& v) {
      return on.quantize(context, v(x), groups, spec, orientation, site);
    });
  }
  Buffer tensor_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                     const QuantizerSpec& spec, Orientation orientation) override {
    return both_give<Buffer>(
        "tensor_amax", [&](Backend& on, auto& v) { return on.tensor_amax(context, v(x), groups, spec, orientation); });
  }
  QuantizedTensor quantize_known_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                      const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                      const Buffer& amax) override {
    return both_give<QuantizedTensor>("quantize_known_amax " + site.name, [&](Backend& on, auto& v) {
      return on.quantize_known_amax(context, v(x), groups, spec, orientation, site, v(amax));
    });
  }
  Measurement measure(const QuantizationEvent& event, const MeasureRequest& request) override {
    const auto call = [&](Backend& on, auto& v) {
      const TensorView& original = v(event.original);
      const QuantizedTensor& quantized = v(event.quantized);
      return on.measure(QuantizationEvent{event.context, event.site, original, event.groups, quantized}, request);
    };
    Mirrors mirrors(*first_, *second_);
    const Measurement other = call(*second_, mirrors);
    Originals originals;
    Measurement own = call(*first_, originals);
    const Comparison comparison(*first_, *second_, "measure " + event.site.name);
    comparison.equal_values("sums", &own.sums, &other.sums, sizeof own.sums);
    comparison.equal_counts("codes", own.code_counts, other.code_counts);
    comparison.equal_counts("scales", sorted(own.scales), sorted(other.scales));
    return own;
  }
  std::vector<ProductElement> measure_product(const ProductEvent& event) override {
    const auto call = [&](Backend& on, auto& v) {
      const Form& a = v(event.a);
      const Form& b = v(event.b);
      const TensorView& out = v(event.out);
      return on.measure_product({event.context, event.site, event.gemm, a, b, event.groups, out, event.before});
    };
    Mirrors mirrors(*first_, *second_);
    const std::vector<ProductElement> other = call(*second_, mirrors);
    Originals originals;
    std::vector<ProductElement> own = call(*first_, originals);
    const Comparison comparison(*first_, *second_, "measure_product " + event.site.name);
    comparison.equal_counts("elements", {static_cast<std::int64_t>(own.size())},
                            {static_cast<std::int64_t>(other.size())});
    for (std::size_t i = 0; i < own.size(); ++i)
      comparison.equal_values("element " + std::to_string(i), &own[i], &other[i], sizeof own[i]);
    return own;
  }
  void matmul(const StepContext& context, const Product& product) override {
    both("matmul " + product.site->name, [&](Backend& on, auto& v) { on.matmul(context, v(product)); });
  }
  void grouped_matmul(const StepContext& context, const Product& product) override {
    both("grouped_matmul " + product.site->name, [&](Backend& on, auto& v) { on.grouped_matmul(context, v(product)); });
  }
  Routing route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
                const TensorView& bias) override {
    return both_give<Routing>("route",
                              [&](Backend& on, auto& v) { return on.route(spec, v(logits), tokens, v(bias)); });
  }
  double sum_of_squares(const TensorView& x) override {
    return both_number("sum_of_squares", [&](Backend& on, auto& v) { return on.sum_of_squares(v(x)); });
  }
  double sum(const TensorView& x) override {
    return both_number("sum", [&](Backend& on, auto& v) { return on.sum(v(x)); });
  }
  void dequantize(const QuantizedTensor& x, const TensorView& out) override {
    both("dequantize", [&](Backend& on, auto& v) { on.dequantize(v(x), v(out)); });
  }
  void multiply_by_estimator(const EstimatorSpec& estimator, const QuantizerSpec& spec, const RowGroups& groups,
                             const TensorView& weight, const TensorView& gradient) override {
    both("multiply_by_estimator",
         [&](Backend& on, auto& v) { on.multiply_by_estimator(estimator, spec, groups, v(weight), v(gradient)); });
  }
  void add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) override {
    both("add_residual_product", [&](Backend& on, auto& v) { on.add_residual_product(v(a), v(b), v(out)); });
  }
  void embedding(const TensorView& table, const TensorView& ids, const TensorView& y) override {
    both("embedding", [&](Backend& on, auto& v) { on.embedding(v(table), v(ids), v(y)); });
  }
  void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) override {
    both("embedding_backward", [&](Backend& on, auto& v) { on.embedding_backward(v(ids), v(dy), v(d_table)); });
  }
  void rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                const TensorView& rstd) override {
    both("rms_norm", [&](Backend& on, auto& v) { on.rms_norm(v(x), v(gain), epsilon, v(y), v(rstd)); });
  }
  void rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd, const TensorView& dy,
                         const TensorView& dx, bool accumulate, const TensorView& d_gain) override {
    both("rms_norm_backward", [&](Backend& on, auto& v) {
      on.rms_norm_backward(v(x), v(gain), v(rstd), v(dy), v(dx), accumulate, v(d_gain));
    });
  }
  void add(const TensorView& a, const TensorView& b, const TensorView& out) override {
    both("add", [&](Backend& on, auto& v) { on.add(v(a), v(b), v(out)); });
  }
  void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) override {
    both("rope", [&](Backend& on, auto& v) { on.rope(shape, v(table), v(qkv), inverse); });
  }
  void qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
               const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) override {
    both("qk_norm", [&](Backend& on, auto& v) {
      on.qk_norm(shape, kind, v(qkv), v(q_gain), v(k_gain), epsilon, v(out), v(rstd));
    });
  }
  void qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                        const TensorView& k_gain, const TensorView& rstd, const TensorView& d_qkv,
                        const TensorView& d_q_gain, const TensorView& d_k_gain) override {
    both("qk_norm_backward", [&](Backend& on, auto& v) {
      on.qk_norm_backward(shape, kind, v(qkv), v(q_gain), v(k_gain), v(rstd), v(d_qkv), v(d_q_gain), v(d_k_gain));
    });
  }
  void latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q, const TensorView& kv,
                    const TensorView& shared_key, const TensorView& qkv) override {
    both("latent_heads",
         [&](Backend& on, auto& v) { on.latent_heads(shape, v(table), v(q), v(kv), v(shared_key), v(qkv)); });
  }
  void latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                             const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) override {
    both("latent_heads_backward", [&](Backend& on, auto& v) {
      on.latent_heads_backward(shape, v(table), v(d_qkv), v(d_q), v(d_kv), v(d_shared_key));
    });
  }
  void attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                 const TensorView& log_sum_exp) override {
    both("attention", [&](Backend& on, auto& v) { on.attention(shape, v(qkv), v(out), v(log_sum_exp)); });
  }
  void attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                          const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) override {
    both("attention_backward", [&](Backend& on, auto& v) {
      on.attention_backward(shape, v(qkv), v(out), v(log_sum_exp), v(d_out), v(d_qkv));
    });
  }
  void swiglu(const TensorView& x, const TensorView& y) override {
    both("swiglu", [&](Backend& on, auto& v) { on.swiglu(v(x), v(y)); });
  }
  void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) override {
    both("swiglu_backward", [&](Backend& on, auto& v) { on.swiglu_backward(v(x), v(dy), v(dx)); });
  }
  void route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight, float loss_scale,
                      const TensorView& d_logits) override {
    both("route_backward",
         [&](Backend& on, auto& v) { on.route_backward(spec, v(routing), v(d_weight), loss_scale, v(d_logits)); });
  }
  void permute(const Routing& routing, const TensorView& x, const TensorView& y) override {
    both("permute", [&](Backend& on, auto& v) { on.permute(v(routing), v(x), v(y)); });
  }
  void permute_backward(const Routing& routing, const TensorView& dy, const TensorView& dx, bool accumulate) override {
    both("permute_backward", [&](Backend& on, auto& v) { on.permute_backward(v(routing), v(dy), v(dx), accumulate); });
  }
  void combine(const Routing& routing, const TensorView& x, const TensorView& y) override {
    both("combine", [&](Backend& on, auto& v) { on.combine(v(routing), v(x), v(y)); });
  }
  void combine_backward(const Routing& routing, const TensorView& x, const TensorView& dy, const TensorView& dx,
                        const TensorView& d_weight) override {
    both("combine_backward",
         [&](Backend& on, auto& v) { on.combine_backward(v(routing), v(x), v(dy), v(dx), v(d_weight)); });
  }
  void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, const TensorView& token_loss,
                     const TensorView& d_logits) override {
    both("cross_entropy",
         [&](Backend& on, auto& v) { on.cross_entropy(v(logits), v(targets), scale, v(token_loss), v(d_logits)); });
  }
  void adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) override {
    both("adamw", [&](Backend& on, auto& v) { on.adamw(spec, scalars, v(update)); });
  }
  void cast(const TensorView& from, const TensorView& to) override {
    both("cast", [&](Backend& on, auto& v) { on.cast(v(from), v(to)); });
  }
  void fill_normal(const TensorView& view, const RandomStream& stream, double deviation) override {
    both("fill_normal", [&](Backend& on, auto& v) { on.fill_normal(v(view), stream, deviation); });
  }

 private:
  /// The second backend first, with copies of what is there; then the first; then everything that they could see.
  template <class Call>
  void both(const std::string& operation, const Call& call) {
    Mirrors mirrors(*first_, *second_);
    call(*second_, mirrors);
    Originals originals;
    call(*first_, originals);
    mirrors.compare(Comparison(*first_, *second_, operation));
  }
  template <class Result, class Call>
  Result both_give(const std::string& operation, const Call& call) {
    Mirrors mirrors(*first_, *second_);
    const Result other = call(*second_, mirrors);
    Originals originals;
    Result own = call(*first_, originals);
    const Comparison comparison(*first_, *second_, operation);
    comparison.equal("result", own, other);
    mirrors.compare(comparison);
    return own;
  }
  template <class Call>
  double both_number(const std::string& operation, const Call& call) {
    Mirrors mirrors(*first_, *second_);
    const double other = call(*second_, mirrors);
    Originals originals;
    const double own = call(*first_, originals);
    Comparison(*first_, *second_, operation).equal_values("result", &own, &other, sizeof own);
    return own;
  }
  /// Scales in the order of their places, as numbers.
  static std::vector<std::int64_t> sorted(std::vector<PlacedScale> scales) {
    std::sort(scales.begin(), scales.end(), [](const PlacedScale& a, const PlacedScale& b) {
      return std::tuple(a.place, bits_of(a.scale)) < std::tuple(b.place, bits_of(b.scale));
    });
    std::vector<std::int64_t> numbers;
    for (const PlacedScale& scale : scales) {
      numbers.push_back(scale.place);
      numbers.push_back(bits_of(scale.scale));
    }
    return numbers;
  }

  std::unique_ptr<Backend> first_, second_;
};

}  // namespace

std::unique_ptr<Backend> make_checked_backend(std::unique_ptr<Backend> first, std::unique_ptr<Backend> second) {
  return std::make_unique<CheckedBackend>(std::move(first), std::move(second));
}

}  // namespace ng
