// SPDX-License-Identifier: Apache-2.0
//
// What a device can do: about thirty coarse operations, each as large as the fusion that a fast device wants.
// Everything the model computes goes through here. Operations are deterministic and independent of threads; each says
// what is rounded and in which order sums run. All pointers in views are memory of this backend. Errors: NG_CHECK for
// broken promises, ng::MachineError for memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"

namespace ng {

/// Whether an operation's bytes are the same on every backend. Bitwise operations may be compared byte for byte.
enum class ParityClass : std::uint8_t { bitwise, own_order };

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;       ///< "cpu", "cuda"
  virtual std::string device() const = 0;     ///< what it runs on, in words
  virtual Arithmetic arithmetic() const = 0;  ///< of the products
  virtual void set_tap(Tap* tap) = 0;         ///< nullptr: nobody looks

  // ---- memory
  virtual Buffer allocate(std::size_t bytes) = 0;  ///< not initialised
  virtual void fill_zero(const TensorView& view) = 0;
  virtual void upload(const TensorView& to, const void* from) = 0;  ///< contiguous host data
  virtual void download(void* to, const TensorView& from) const = 0;
  Tensor tensor(Dtype dtype, std::int64_t rows, std::int64_t cols);  ///< allocate + make_tensor
  Tensor zeros(Dtype dtype, std::int64_t rows, std::int64_t cols);

  // ---- forms of a tensor
  /// All requested forms of `x` from one read. Plain forms of x's own dtype alias it. `groups`: rows of experts.
  virtual TensorForms produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                              std::span<const FormRequest> requests) = 0;
  /// One quantized form; what `produce` does for each request. x is f32 or bf16.
  virtual QuantizedTensor quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                   const QuantizerSpec& spec, Orientation orientation, const Site& site) = 0;
  /// Largest magnitude of each group (of all groups: one value, where spec.tensor_scope is `whole`) of what the
  /// quantizer encodes: x transformed and its outliers clamped. float, in the backend's memory; NaN if there is a NaN.
  virtual Buffer tensor_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                             const QuantizerSpec& spec, Orientation orientation) = 0;
  /// `quantize` with the tensor's amax given, as `tensor_amax` makes it: of ranks together, of earlier steps, or fixed.
  /// For rules with a tensor scale, and for quantizers whose tile is the whole tensor. What lies above saturates.
  virtual QuantizedTensor quantize_known_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                              const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                              const Buffer& amax) = 0;
  /// Decoded values [rows, cols] as quantized (a column form gives the transposed matrix), rounded once to out's dtype.
  /// A residual of outliers is not added.
  virtual void dequantize(const QuantizedTensor& x, const TensorView& out) = 0;
  /// Error sums of a quantized form against its original (see MeasureSums), and what `request` asks for beside them;
  /// what does not apply to the form stays zero. A residual of outliers counts: D is fp32(decoded + it). Padding rows
  /// are not measured.
  virtual Measurement measure(const QuantizationEvent& event, const MeasureRequest& request) = 0;
  /// Sampled elements of a product that was just made (see ProductElement); `event.before` as the product found them.
  virtual std::vector<ProductElement> measure_product(const ProductEvent& event) = 0;

  // ---- products
  virtual void matmul(const StepContext& context, const Product& product) = 0;
  virtual void grouped_matmul(const StepContext& context, const Product& product) = 0;
  /// How products are computed, in words: "cpu tiled 6x16", "cuBLASLt 13.1.0".
  virtual std::string product_kernels() const = 0;
  /// Kernels of a library that products took so far in this process, a line each; empty where all are our own.
  virtual std::string library_kernels() const { return {}; }
  /// Elements so far whose value the BF16 carrier of an emulated operand could not hold (exponent out of range): they
  /// entered products rounded. 0 under `ieee`.
  virtual std::int64_t carrier_losses() const { return 0; }

  /// gradient[i] *= the factor of numerics/gradient_estimator.hpp for weight[i] as `spec`'s encoder sees it: scaled,
  /// not rounded. Both f32 [rows, cols]; `groups`: rows of experts. Not for transformed, split or four_over_six
  /// weights.
  virtual void multiply_by_estimator(const EstimatorSpec& estimator, const QuantizerSpec& spec, const RowGroups& groups,
                                     const TensorView& weight, const TensorView& gradient) = 0;

  /// Compensation product: out[M, N] += A[M, K] B[N, K]^T, A the sparse residual of an outlier split, B the quantized
  /// weight decoded or the original one (f32 or bf16). Each output continues its fma chain over A's entries in
  /// ascending column. out is f32.
  virtual void add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) = 0;

  // ---- layers; x, y and gradients are bf16 or f32; arithmetic in FP32, one rounding to the output's dtype. A "row
  // sum" is 8 interleaved chains (column mod 8) from +0 in ascending order, then ((0+1)+(2+3)) + ((4+5)+(6+7)).
  /// y[t, :] = table[ids[t], :]; table f32 [V, C]; ids any integers.
  virtual void embedding(const TensorView& table, const TensorView& ids, const TensorView& y) = 0;
  /// d_table[ids[t], :] += dy[t, :], in ascending t. f32.
  virtual void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) = 0;
  /// y = (x * rstd) * gain, rstd = 1/sqrt(mean(x^2) + eps) saved [1, T] f32. Sum of squares: row sum of fma; divided
  /// by C, one rounding.
  virtual void rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                        const TensorView& rstd) = 0;
  /// dx (+)= gradient of rms_norm; d_gain[c] = fma(dy, x*rstd, d_gain[c]), a chain in ascending t per column that
  /// continues from what is there. gradient = rstd * fma(-(x*rstd), mean, dy*gain), mean = row sum of
  /// fma(dy*gain, x*rstd) / C. `accumulate`: dx = round(dx + gradient) (the residual's own gradient is already there).
  /// dx may be dy.
  virtual void rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd,
                                 const TensorView& dy, const TensorView& dx, bool accumulate,
                                 const TensorView& d_gain) = 0;
  /// out = round(a + b).
  virtual void add(const TensorView& a, const TensorView& b, const TensorView& out) = 0;
  /// Rotates q and k of qkv in place; table [sequence_length, D] f32: cos in the first D/2, sin in the last.
  /// a' = fma(a, cos, -(b*sin)), b' = fma(b, cos, a*sin). `inverse` turns sin around (the backward pass).
  virtual void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) = 0;
  /// rms_norm of each query and key head with the gains [1, D] (`head`), or of all query and all key columns of a token
  /// with gains [1, H*D] and [1, G*D] (`full`); values are copied. out is memory of its own; rstd f32 [T, H + G], or
  /// [T, 2]: queries, then keys.
  virtual void qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                       const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) = 0;
  /// d_qkv, the gradient of out, becomes that of qkv, as in rms_norm_backward; values' stays. A gain that serves many
  /// heads: its chain runs over the tokens, in each over the heads, both ascending.
  virtual void qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv,
                                const TensorView& q_gain, const TensorView& k_gain, const TensorView& rstd,
                                const TensorView& d_qkv, const TensorView& d_q_gain, const TensorView& d_k_gain) = 0;
  /// Rows of qkv of latent attention, H = G, with R = table.cols rotated columns a head: q [T, H*D], the last R columns
  /// of each head rotated; kv [T, H*(D-R+Dv)], per head the key but for its last R columns, then the value; shared_key
  /// [T, R], rotated, the last R columns of every key. Rotation as in rope; one rounding of what is rotated, the rest
  /// is copied.
  virtual void latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q,
                            const TensorView& kv, const TensorView& shared_key, const TensorView& qkv) = 0;
  /// The gradients of q, kv and shared_key; that of shared_key: the sum over the heads in ascending order from head 0,
  /// then rotated back, then one rounding.
  virtual void latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                                     const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) = 0;
  /// Causal attention. out [T, H*Dv], log_sum_exp [T, H] f32 saved, in base 2. Scores s: fma chains in ascending
  /// column. Key tiles of 64 ascending; in each: m' = max(m, tile), carry = exp2((m - m') * c),
  /// c = fp32(log2(e)/sqrt(D)), p = exp2((s - m') * c), l = fma(l, carry, row sum of p), out = out * carry, then the
  /// fma chain over the tile's keys in ascending order continues in out, with p rounded to BF16 unless qkv is f32. At
  /// the end out / l, and log_sum_exp = fma(m, c, log(l) * log2(e)).
  virtual void attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                         const TensorView& log_sum_exp) = 0;
  /// p = exp2(fma(s, c, -log_sum_exp)); dp = fma chain of d_out and v in ascending column; ds = p * (dp - row sum of
  /// d_out * out). p and ds are rounded to BF16 unless qkv is f32. dq = chain of ds and k in ascending key; dk, dv =
  /// chains of ds and q, of p and d_out in ascending (query head of the group, query); dq and dk times fp32(1/sqrt(D))
  /// at the end. d_qkv is memory of its own.
  virtual void attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                                  const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) = 0;
  /// y = (gate * sigmoid(gate)) * up; x [R, 2F] (gate first), y [R, F].
  virtual void swiglu(const TensorView& x, const TensorView& y) = 0;
  /// s = sigmoid(gate): d_up = dy * (gate * s), d_gate = (dy * up) * (s * fma(gate, 1 - s, 1)).
  virtual void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) = 0;

  // ---- mixture of experts
  /// Scores, choice, combine weights, rows. logits [T, E] f32; `tokens`: placement of the tokens in the step; `bias`
  /// [1, E] f32, or no data: zeros. Everything is a matter of one token, or one sequence, so micro-batches change
  /// nothing but the means of the losses.
  /// Scores: probabilities as softmax of cross_entropy; with the sigmoid gate s = sigmoid(logit), shares = s / row sum
  /// of s (0 where that is 0). Selection score c = s + bias. Groups: their largest c, or fp32(largest + second); the
  /// `groups_kept` largest stay. The K largest c of the experts that stay are the slots, by falling c. Ties go to the
  /// lower index everywhere. Weights: s, divided by its sum in slot order if `renormalize` (0 where that is 0), times
  /// routed_scaling; one rounding each.
  /// Capacity: an expert serves ceil(capacity_factor * T_s * K / E) slots of each sequence of T_s tokens (double, from
  /// left to right); those of largest s, ties to the lower token, or of the lowest tokens. The others get weight 0 and
  /// no row.
  /// Losses, in double: aux = coefficient * E * sum_e f_e P_e, f_e = counts / (T * K), P_e the mean share; terms over
  /// experts in ascending order, means over tokens by sums over the tree of summation_order.hpp. `Balance::sequence`:
  /// the same of each sequence, then their mean in ascending order. z = coefficient * mean log_sum_exp^2. Entropy:
  /// softmax: log_sum - fma chain of p * (logit - maximum); sigmoid: - fma chain of share * log(share); ascending.
  virtual Routing route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens,
                        const TensorView& bias = {}) = 0;
  /// d_logits [T, E] f32 from d_weight [T, K] f32, plus the gradients of aux and z loss; none through bias or choice.
  /// `loss_scale`: share of this micro-batch in the step (its losses are means over its tokens). In FP32, with a_e the
  /// slope of aux in share_e (of the token's scope), w_k the full weight, d_k = d_weight, 0 for dropped slots, m = the
  /// fma chain of w_k d_k in slot order, divided by routed_scaling if `renormalize`:
  /// softmax: p_e * ((a_e - row sum of p*a) + (z slope [- m unless `renormalize`])), then at the chosen experts
  ///   fma(w_k, d_k [- m if `renormalize`], ·).
  /// sigmoid: fma(p_e, z slope, (1 - s_e) * (share_e * (a_e - row sum of share*a))), then at the chosen experts
  ///   fma(w_k * (1 - s_k), d_k [- m if `renormalize`], ·).
  /// With `renormalize` and one slot its weight is constant and d_weight does not enter.
  virtual void route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight,
                              float loss_scale, const TensorView& d_logits) = 0;
  /// y[row, :] = x[token_of_row, :], padding rows zero. x and y of one dtype.
  virtual void permute(const Routing& routing, const TensorView& x, const TensorView& y) = 0;
  /// dx[t, :] (+)= sum over slots k that have a row of dy[row_of_slot[t, k], :], ascending k from the first of them, 0
  /// without any; `accumulate`: round(dx + sum).
  virtual void permute_backward(const Routing& routing, const TensorView& dy, const TensorView& dx,
                                bool accumulate) = 0;
  /// y[t, :] = round(sum over slots k that have a row of weight[t, k] * x[row_of_slot[t, k], :]), fma chain in
  /// ascending k from +0.
  virtual void combine(const Routing& routing, const TensorView& x, const TensorView& y) = 0;
  /// dx[row, :] = weight * dy[t, :], padding rows zero; d_weight[t, k] = row sum of fma(dy[t, c], x[row, c]), 0 for a
  /// dropped slot.
  virtual void combine_backward(const Routing& routing, const TensorView& x, const TensorView& dy, const TensorView& dx,
                                const TensorView& d_weight) = 0;

  // ---- loss and optimizer
  /// token_loss[t] = logsumexp(logits[t]) - logits[t, target], as log(sum) - (x_target - max); when d_logits.data is
  /// set: (softmax - onehot) * scale. Softmax: e = exp(x - max), e / row sum of e. d_logits may be logits. token_loss
  /// [1, T].
  virtual void cross_entropy(const TensorView& logits, const TensorView& targets, float scale,
                             const TensorView& token_loss, const TensorView& d_logits) = 0;
  /// Sum of squares in double, over the tree of summation_order.hpp.
  virtual double sum_of_squares(const TensorView& x) = 0;
  /// Sum in double, over the same tree.
  virtual double sum(const TensorView& x) = 0;
  /// g = clip_factor*gradient; m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; update = (m*bc1) / (sqrt(v*bc2) + eps);
  /// p = p - lr*(update + wd*p). Each operation one FP32 rounding, in this order, products from left to right, no fma;
  /// wd is 0 without `decay`.
  virtual void adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) = 0;
  /// to = round(from); dtypes f32 and bf16.
  virtual void cast(const TensorView& from, const TensorView& to) = 0;
  /// Normal numbers of mean 0 and the given deviation, rounded to f32: element i (row-major in the logical tensor of
  /// the view's placement) takes words 2(i mod 2) and 2(i mod 2)+1 of random block i/2.
  virtual void fill_normal(const TensorView& view, const RandomStream& stream, double deviation) = 0;
};

struct BackendOptions {
  int threads = 1;
  Arithmetic arithmetic = Arithmetic::ieee;
  bool baseline_isa = false;  ///< CPU: use the x86-64 baseline kernels although the machine has better ones
};

/// Backend by name: "cpu", "cuda". UserError for an unknown or absent one, saying why.
std::unique_ptr<Backend> make_backend(const std::string& name, const BackendOptions& options);

}  // namespace ng
