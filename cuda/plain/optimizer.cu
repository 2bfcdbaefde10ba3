// SPDX-License-Identifier: Apache-2.0
//
// Loss, AdamW and initial values: one thread the sums of one row, else one thread one element.
#include "plain/optimizer.hpp"

#include "narrowgauge/numerics/normal_numbers.hpp"
#include "narrowgauge/numerics/softmax.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct CrossEntropyRow {
  TensorView logits, targets;
  float* token_loss;
  RowSoftmax* rows;
  FaultWord* fault;
  NG_HD void operator()(std::int64_t t) const {
    const std::int64_t target = load_integer(targets, t);
    if (target < 0 || target >= logits.cols) return note_fault(fault, t, target);
    const RealRow x{logits, t};
    const float maximum = largest_of(x, logits.cols, x[0]);
    const float sum = sum_of_chains(SoftmaxNumerators<RealRow>{x, maximum}, logits.cols);
    rows[t] = {maximum, sum};
    token_loss[t] = softmax_loss({maximum, log_rn(sum)}, x[target]);
  }
};

struct CrossEntropyGradient {
  TensorView logits, targets, d_logits;
  float scale;
  const RowSoftmax* rows;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / logits.cols;
    const std::int64_t c = i % logits.cols;
    const RowSoftmax row = rows[t];
    const float probability = div_rn(softmax_numerator(load_real(logits, t, c), row.maximum), row.sum);
    store_real(d_logits, t, c, softmax_loss_gradient(probability, c == load_integer(targets, t), scale));
  }
};

struct AdamW {
  AdamWScalars scalars;
  const float* gradient;
  float* master;
  float* first;
  float* second;
  NG_HD void operator()(std::int64_t i) const {
    const AdamWState state = adamw_step(scalars, {master[i], first[i], second[i]}, gradient[i]);
    master[i] = state.master;
    first[i] = state.first;
    second[i] = state.second;
  }
};

struct Normal {
  TensorView view;
  RandomStream bits;
  double deviation;
  FaultWord* fault;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / view.cols;
    const std::int64_t c = i % view.cols;
    const std::int64_t first = logical_row_of(view.placement, r) * view.placement.cols + view.placement.col0;
    if (first < 0) return note_fault(fault, r, first);
    store_real(view, r, c, normal_number(bits, static_cast<std::uint64_t>(first + c), deviation));
  }
};

}  // namespace

void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, float* token_loss,
                   const TensorView& d_logits, RowSoftmax* rows, FaultWord* fault, Stream stream) {
  for_each("cross_entropy", logits.rows, stream, CrossEntropyRow{logits, targets, token_loss, rows, fault});
  if (d_logits.data == nullptr) return;
  for_each("cross_entropy, gradient", logits.rows * logits.cols, stream,
           CrossEntropyGradient{logits, targets, d_logits, scale, rows});
}

void adamw(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
           std::int64_t count, Stream stream) {
  for_each("adamw", count, stream, AdamW{scalars, gradient, master, first, second});
}

void fill_normal(const TensorView& view, const RandomStream& stream_of_bits, double deviation, FaultWord* fault,
                 Stream stream) {
  for_each("fill_normal", view.rows * view.cols, stream, Normal{view, stream_of_bits, deviation, fault});
}

}  // namespace ng::cuda::plain
