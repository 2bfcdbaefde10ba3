// SPDX-License-Identifier: Apache-2.0
//
// Operations that are still to be written; make_cuda_backend refuses as long as this file exists.
#include "backend/cuda_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"

#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace ng::cuda {

namespace {
[[noreturn]] void not_yet(const char* operation) {
  throw LogicError(std::string("not written yet: ") + operation);
}
}  // namespace

Measurement CudaBackend::measure(const QuantizationEvent& event, const MeasureRequest& request) {
  not_yet("measure");
}
std::vector<ProductElement> CudaBackend::measure_product(const ProductEvent& event) {
  not_yet("measure_product");
}
void CudaBackend::matmul(const StepContext& context, const Product& product) {
  not_yet("matmul");
}
void CudaBackend::grouped_matmul(const StepContext& context, const Product& product) {
  not_yet("grouped_matmul");
}
void CudaBackend::embedding(const TensorView& table, const TensorView& ids, const TensorView& y) {
  not_yet("embedding");
}
void CudaBackend::embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) {
  not_yet("embedding_backward");
}
void CudaBackend::rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                           const TensorView& rstd) {
  not_yet("rms_norm");
}
void CudaBackend::rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd,
                                    const TensorView& dy, const TensorView& dx, bool accumulate,
                                    const TensorView& d_gain) {
  not_yet("rms_norm_backward");
}
void CudaBackend::rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) {
  not_yet("rope");
}
void CudaBackend::qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                          const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) {
  not_yet("qk_norm");
}
void CudaBackend::qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv,
                                   const TensorView& q_gain, const TensorView& k_gain, const TensorView& rstd,
                                   const TensorView& d_qkv, const TensorView& d_q_gain, const TensorView& d_k_gain) {
  not_yet("qk_norm_backward");
}
void CudaBackend::latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q,
                               const TensorView& kv, const TensorView& shared_key, const TensorView& qkv) {
  not_yet("latent_heads");
}
void CudaBackend::latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                                        const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) {
  not_yet("latent_heads_backward");
}
void CudaBackend::swiglu(const TensorView& x, const TensorView& y) {
  not_yet("swiglu");
}
void CudaBackend::swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) {
  not_yet("swiglu_backward");
}
void CudaBackend::cross_entropy(const TensorView& logits, const TensorView& targets, float scale,
                                const TensorView& token_loss, const TensorView& d_logits) {
  not_yet("cross_entropy");
}
double CudaBackend::sum_of_squares(const TensorView& x) {
  not_yet("sum_of_squares");
}
double CudaBackend::sum(const TensorView& x) {
  not_yet("sum");
}
void CudaBackend::adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) {
  not_yet("adamw");
}
void CudaBackend::fill_normal(const TensorView& view, const RandomStream& stream, double deviation) {
  not_yet("fill_normal");
}

}  // namespace ng::cuda
