// SPDX-License-Identifier: Apache-2.0
//
// No fast kernels of layers, loss and optimizer without a GPU: see fast_on_host.cpp.
#include "fast/columns.hpp"
#include "fast/cross_entropy.hpp"
#include "fast/elements.hpp"
#include "fast/long_sum.hpp"
#include "fast/rows.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda::fast {

namespace {
[[noreturn]] void none() {
  throw LogicError("a fast kernel without a GPU");
}
}  // namespace

bool elements_serve(std::initializer_list<const TensorView*> /*views*/) {
  return false;
}
void cast(const TensorView& /*from*/, const TensorView& /*to*/, Stream /*stream*/) {
  none();
}
void add(const TensorView& /*a*/, const TensorView& /*b*/, const TensorView& /*out*/, Stream /*stream*/) {
  none();
}
void swiglu(const TensorView& /*x*/, const TensorView& /*y*/, Stream /*stream*/) {
  none();
}
void swiglu_backward(const TensorView& /*x*/, const TensorView& /*dy*/, const TensorView& /*dx*/, Stream /*stream*/) {
  none();
}
void embedding(const TensorView& /*table*/, const TensorView& /*ids*/, const TensorView& /*y*/, FaultWord* /*fault*/,
               Stream /*stream*/) {
  none();
}
bool rope_serves(const TensorView& /*table*/, const TensorView& /*qkv*/) {
  return false;
}
void rope(const AttentionShape& /*shape*/, const TensorView& /*table*/, const TensorView& /*qkv*/, bool /*inverse*/,
          Stream /*stream*/) {
  none();
}
bool adamw_serves(const float* /*gradient*/, const float* /*master*/, const float* /*first*/, const float* /*second*/) {
  return false;
}
void adamw(const AdamWScalars& /*scalars*/, const float* /*gradient*/, float* /*master*/, float* /*first*/,
           float* /*second*/, std::int64_t /*count*/, Stream /*stream*/) {
  none();
}
bool rms_norm_serves(std::initializer_list<const TensorView*> /*views*/, const float* /*gain*/,
                     std::int64_t /*parts*/) {
  return false;
}
void rms_norm(const TensorView& /*x*/, const float* /*gain*/, float /*epsilon*/, const TensorView& /*y*/,
              const TensorView& /*rstd*/, Stream /*stream*/) {
  none();
}
void rms_norm_backward(const TensorView& /*x*/, const float* /*gain*/, const TensorView& /*rstd*/,
                       const TensorView& /*dy*/, const TensorView& /*dx*/, bool /*accumulate*/, Stream /*stream*/) {
  none();
}
bool gain_gradient_serves(const TensorView& /*x*/, const TensorView& /*dy*/, std::int64_t /*parts*/) {
  return false;
}
void gain_gradient(const TensorView& /*x*/, const TensorView& /*rstd*/, const TensorView& /*dy*/, float* /*d_gain*/,
                   Stream /*stream*/) {
  none();
}
bool embedding_backward_serves(const TensorView& /*d_table*/) {
  return false;
}
void embedding_backward(const std::int32_t* /*ids*/, const TensorView& /*dy*/, const TensorView& /*d_table*/,
                        Stream /*stream*/) {
  none();
}
bool cross_entropy_serves(const TensorView& /*logits*/, const TensorView& /*d_logits*/) {
  return false;
}
void cross_entropy(const TensorView& /*logits*/, const TensorView& /*targets*/, float /*scale*/, float* /*token_loss*/,
                   const TensorView& /*d_logits*/, FaultWord* /*fault*/, Stream /*stream*/) {
  none();
}
bool sum_leaves_serves(const TensorView& /*x*/) {
  return false;
}
void sum_leaves(const TensorView& /*x*/, bool /*square*/, double* /*partials*/, Stream /*stream*/) {
  none();
}

}  // namespace ng::cuda::fast
