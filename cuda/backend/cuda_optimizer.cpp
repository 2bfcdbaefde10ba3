// SPDX-License-Identifier: Apache-2.0
//
// Loss, long sums, AdamW and initial values: checks, scratch, and which kernels.
#include "backend/cuda_backend.hpp"
#include "backend/view_checks.hpp"
#include "fast/cross_entropy.hpp"
#include "fast/elements.hpp"
#include "fast/long_sum.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/long_sum.hpp"
#include "plain/optimizer.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

double long_sum(bool fast, const TensorView& x, bool square) {
  check_real(x);
  const std::size_t leaves = summation_leaves(static_cast<std::size_t>(x.count()));
  if (leaves == 0) return 0.0;
  const Buffer partials = allocate(leaves * sizeof(double));
  const Buffer scratch = allocate((leaves / plain::kTreeStep + 1) * sizeof(double));
  if (fast && fast::sum_leaves_serves(x))
    fast::sum_leaves(x, square, partials.as<double>(), nullptr);
  else
    plain::sum_leaves(x, square, partials.as<double>(), nullptr);
  const double* const root =
      plain::reduce_tree(partials.as<double>(), scratch.as<double>(), static_cast<std::int64_t>(leaves), nullptr);
  double sum = 0.0;
  copy_to_host(&sum, root, sizeof sum);
  return sum;
}

}  // namespace

void CudaBackend::cross_entropy(const TensorView& logits, const TensorView& targets, float scale,
                                const TensorView& token_loss, const TensorView& d_logits) {
  const std::int64_t T = logits.rows;
  const std::int64_t V = logits.cols;
  NG_CHECK_EQ(targets.count(), T);
  check_real(logits);
  check_integers(targets);
  float* const losses = list_of_floats(token_loss, T);
  if (d_logits.data != nullptr) {
    check_shape(d_logits, T, V);
    check_real(d_logits);
  }
  FaultWord* const word = faults_.watch([V](const Fault& fault) {
    return detail::check_message("token ", fault.index, ": target ", fault.value, " of a vocabulary of ", V);
  });
  if (fast() && fast::cross_entropy_serves(logits, d_logits))
    return fast::cross_entropy(logits, targets, scale, losses, d_logits, word, nullptr);
  const Buffer rows = cuda::allocate(static_cast<std::size_t>(T) * sizeof(plain::RowSoftmax));
  plain::cross_entropy(logits, targets, scale, losses, d_logits, rows.as<plain::RowSoftmax>(), word, nullptr);
}

double CudaBackend::sum_of_squares(const TensorView& x) {
  return long_sum(fast(), x, true);
}

double CudaBackend::sum(const TensorView& x) {
  return long_sum(fast(), x, false);
}

void CudaBackend::adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) {
  const std::int64_t count = update.master.count();
  const AdamWScalars own = adamw_scalars(spec, scalars, update.decay);
  const float* const gradient = list_of_floats(update.gradient, count);
  float* const master = list_of_floats(update.master, count);
  float* const first = list_of_floats(update.first, count);
  float* const second = list_of_floats(update.second, count);
  if (fast() && fast::adamw_serves(gradient, master, first, second))
    fast::adamw(own, gradient, master, first, second, count, nullptr);
  else
    plain::adamw(own, gradient, master, first, second, count, nullptr);
}

void CudaBackend::fill_normal(const TensorView& view, const RandomStream& stream, double deviation) {
  NG_CHECK(view.dtype == Dtype::f32, "normal numbers are f32");
  FaultWord* const fault =
      faults_.watch([](const Fault&) { return std::string("a padding row has no random numbers"); });
  plain::fill_normal(view, stream, deviation, fault, nullptr);
}

}  // namespace ng::cuda
