// SPDX-License-Identifier: Apache-2.0
//
// Attention and its backward.
#include "backend/cuda_backend.hpp"
#include "backend/view_checks.hpp"
#include "fast/attention.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/attention.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

AttentionJob job_of(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                    const TensorView& log_sum_exp) {
  NG_CHECK(shape.head_dim > 0 && shape.value_dim > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0,
           shape.heads, " query heads over ", shape.kv_heads, " key heads");
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(out, qkv.rows, shape.out_cols());
  check_shape(log_sum_exp, qkv.rows, shape.heads);
  NG_CHECK(log_sum_exp.dtype == Dtype::f32);
  check_real(qkv);
  check_real(out);
  return {shape.sequences,
          shape.sequence_length,
          shape.heads,
          shape.kv_heads,
          shape.head_dim,
          shape.value_dim,
          attention_scales(shape.head_dim, qkv.dtype == Dtype::bf16),
          qkv,
          out,
          log_sum_exp};
}

Buffer floats(std::int64_t count) {
  return allocate(static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace

void CudaBackend::attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                            const TensorView& log_sum_exp) {
  const AttentionJob job = job_of(shape, qkv, out, log_sum_exp);
  if (fast() && fast::attention_serves(job)) return fast::attention(job, nullptr);
  const Buffer scratch = floats(out.count());
  plain::attention(job, scratch.as<float>(), nullptr);
}

void CudaBackend::attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                                     const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) {
  check_shape(d_out, qkv.rows, shape.out_cols());
  check_shape(d_qkv, qkv.rows, qkv.cols);
  check_real(d_out);
  check_real(d_qkv);
  const Buffer mean = floats(qkv.rows * shape.heads);
  const AttentionGradientJob job{job_of(shape, qkv, out, log_sum_exp), d_out, d_qkv, mean.as<float>()};
  if (fast() && fast::attention_backward_serves(job)) {
    const Buffer operands = allocate(fast::attention_backward_scratch(job.forward));
    return fast::attention_backward(job, operands.data.get(), operands.bytes, nullptr);
  }
  const Buffer scratch = floats(qkv.count());
  plain::attention_backward(job, scratch.as<float>(), nullptr);
}

}  // namespace ng::cuda
