// SPDX-License-Identifier: Apache-2.0
//
// Loss, long sums, AdamW and initial values.
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);
constexpr std::int64_t kPieceTerms = 64 * kLeaf;
constexpr std::int64_t kPieceElements = 32768;

/// Terms [begin, end) of a view in row-major order, as FP32: where they lie, or gathered into `scratch`.
const float* terms_of(const CpuKernels& kernels, const TensorView& view, std::int64_t begin, std::int64_t end,
                      float* scratch) {
  if (view.dtype == Dtype::f32 && is_contiguous(view)) return view.as<const float>() + begin;
  for (std::int64_t done = begin; done < end;) {
    const std::int64_t row = done / view.cols;
    const std::int64_t col = done % view.cols;
    const std::int64_t count = std::min(end - done, view.cols - col);
    const std::byte* from = view.row(row) + static_cast<std::size_t>(col) * size_of(view.dtype);
    float* const to = scratch + (done - begin);
    if (view.dtype == Dtype::bf16)
      kernels.widen_bf16(reinterpret_cast<const std::uint16_t*>(from), to, count);
    else
      std::copy_n(reinterpret_cast<const float*>(from), count, to);
    done += count;
  }
  return scratch;
}

double long_sum(const CpuKernels& kernels, ThreadPool& pool, const TensorView& x,
                void (*leaves)(const float*, std::int64_t, double*)) {
  check_real(x);
  std::vector<double> partials(summation_leaves(static_cast<std::size_t>(x.count())));
  pool.parallel_ranges(x.count(), kPieceTerms, [&](std::int64_t begin, std::int64_t end) {
    const FloatScratch scratch(kPieceTerms);
    leaves(terms_of(kernels, x, begin, end, scratch.get()), end - begin, partials.data() + begin / kLeaf);
  });
  return reduce_tree(partials.data(), partials.size());
}

}  // namespace

void CpuBackend::cross_entropy(const TensorView& logits, const TensorView& targets, float scale,
                               const TensorView& token_loss, const TensorView& d_logits) {
  const std::int64_t T = logits.rows;
  const std::int64_t V = logits.cols;
  NG_CHECK_EQ(targets.count(), T);
  float* const losses = list_of_floats(token_loss, T);
  const bool backward = d_logits.data != nullptr;
  if (backward) check_shape(d_logits, T, V);
  pool_.parallel_ranges(T, piece_rows(V), [&](std::int64_t begin, std::int64_t end) {
    const FloatScratch unused(backward ? 0 : V);
    const RowAccess rows(kernels_, logits);
    const RowAccess d_rows(kernels_, backward ? d_logits : logits);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t target = integer_at(targets, t);
      NG_CHECK(target >= 0 && target < V, "token ", t, ": target ", target, " of a vocabulary of ", V);
      const float* const x = rows.load(t);
      const float chosen = x[target];
      float* const p = backward ? d_rows.target(t) : unused.get();
      const SoftmaxSums sums = kernels_.softmax(x, p, V);
      losses[t] = softmax_loss(sums, chosen);
      if (!backward) continue;
      p[target] = sub_rn(p[target], 1.0f);
      kernels_.scale(scale, p, p, V);
      d_rows.store(t);
    }
  });
}

double CpuBackend::sum_of_squares(const TensorView& x) {
  return long_sum(kernels_, pool_, x, kernels_.square_leaves);
}

double CpuBackend::sum(const TensorView& x) {
  return long_sum(kernels_, pool_, x, kernels_.sum_leaves);
}

void CpuBackend::adamw(const AdamWSpec& spec, const StepScalars& scalars, const ParameterUpdate& update) {
  const std::int64_t count = update.master.count();
  float* const master = list_of_floats(update.master, count);
  const float* const gradient = list_of_floats(update.gradient, count);
  float* const first = list_of_floats(update.first, count);
  float* const second = list_of_floats(update.second, count);
  const AdamWScalars own = adamw_scalars(spec, scalars, update.decay);
  pool_.parallel_ranges(count, kPieceElements, [&](std::int64_t begin, std::int64_t end) {
    kernels_.adamw(own, gradient + begin, master + begin, first + begin, second + begin, end - begin);
  });
}

void CpuBackend::fill_normal(const TensorView& view, const RandomStream& stream, double deviation) {
  NG_CHECK(view.dtype == Dtype::f32, "normal numbers are f32");
  const Placement& place = view.placement;
  pool_.parallel_ranges(view.rows, piece_rows(16 * view.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = logical_row(place, r) * place.cols + place.col0;
      NG_CHECK_GE(first, 0, "a padding row has no random numbers");
      kernels_.normal(stream, static_cast<std::uint64_t>(first), deviation, reinterpret_cast<float*>(view.row(r)),
                      view.cols);
    }
  });
}

}  // namespace ng::cpu
