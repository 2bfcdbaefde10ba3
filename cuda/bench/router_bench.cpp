// SPDX-License-Identifier: Apache-2.0
//
// The router and the movement of rows, of a layer of 64 experts with 8 for each token. `route` waits for its counts, as
// a layer does.
#include <algorithm>
#include <iterator>

#include "bench/kernel_bench.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kTokens = 16384;
constexpr std::int64_t kHidden = 2048;
constexpr std::int64_t kExperts = 64;
constexpr std::int64_t kSlots = 8;

double bytes_of(const TensorView& view) {
  return static_cast<double>(view.count()) * static_cast<double>(size_of(view.dtype));
}

}  // namespace

void bench_router(KernelBench& bench) {
  const char* const names[] = {"router/route",           "router/route with capacity", "router/route backward",
                               "router/permute",         "router/permute backward",    "router/combine",
                               "router/combine backward"};
  if (std::none_of(std::begin(names), std::end(names), [&](const char* name) { return bench.wants(name); })) return;
  Backend& backend = bench.backend();
  RouterSpec spec;
  spec.experts = kExperts;
  spec.top_k = kSlots;
  spec.aux_coefficient = 0.01f;
  spec.z_coefficient = 0.001f;
  spec.row_alignment = 128;
  spec.sequence_length = 4096;
  const Tensor logits = bench.normal(Dtype::f32, kTokens, kExperts);
  const Placement placement{kTokens, kExperts, 0, 0, nullptr};
  const std::string shape =
      shape_text(Dtype::f32, kTokens, kExperts) + ", " + std::to_string(kSlots) + " slots a token";
  const Routing routing = backend.route(spec, logits.view, placement);
  double routed = 0.0;
  for (const Tensor* list : {&logits, &routing.probabilities, &routing.expert, &routing.weight, &routing.row_of_slot,
                             &routing.log_sum_exp, &routing.token_of_row, &routing.slot_of_row})
    routed += bytes_of(list->view);
  bench.memory_bound("router/route", shape, routed, [&] { (void)backend.route(spec, logits.view, placement); });
  RouterSpec limited = spec;
  limited.capacity_factor = 1.0;
  bench.memory_bound("router/route with capacity", shape, routed,
                     [&] { (void)backend.route(limited, logits.view, placement); });
  const Tensor d_weight = bench.normal(Dtype::f32, kTokens, kSlots);
  const Tensor d_logits = bench.normal(Dtype::f32, kTokens, kExperts);
  bench.memory_bound("router/route backward", shape,
                     bytes_of(routing.probabilities.view) + bytes_of(d_logits.view) + 4.0 * bytes_of(d_weight.view),
                     [&] { backend.route_backward(spec, routing, d_weight.view, 1.0f, d_logits.view); });

  const Tensor x = bench.normal(Dtype::bf16, kTokens, kHidden);
  const Tensor y = bench.normal(Dtype::bf16, kTokens, kHidden);
  const Tensor rows = bench.normal(Dtype::bf16, routing.rows, kHidden);
  const Tensor d_rows = bench.normal(Dtype::bf16, routing.rows, kHidden);
  const std::string moved =
      shape_text(Dtype::bf16, kTokens, kHidden) + " and " + std::to_string(routing.rows) + " rows";
  const double once = bytes_of(x.view) + bytes_of(rows.view);
  bench.memory_bound("router/permute", moved, once, [&] { backend.permute(routing, x.view, rows.view); });
  bench.memory_bound("router/permute backward", moved, once,
                     [&] { backend.permute_backward(routing, rows.view, y.view, false); });
  bench.memory_bound("router/combine", moved, once, [&] { backend.combine(routing, rows.view, y.view); });
  bench.memory_bound("router/combine backward", moved, once + bytes_of(d_rows.view) + bytes_of(d_weight.view),
                     [&] { backend.combine_backward(routing, rows.view, x.view, d_rows.view, d_weight.view); });
}

}  // namespace ng::cuda
