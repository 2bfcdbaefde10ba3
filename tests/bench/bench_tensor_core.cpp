// SPDX-License-Identifier: Apache-2.0
//
// The tensor-core model on one core, in 10^9 multiply-adds per second, for every accumulator that `hopper` has and the
// other chips' FP16 and FP8 rows; operands packed inside the time. Run alone: build/release/bin/bench_tensor_core
#include <fmt/format.h>

#include <random>
#include <vector>

#include "kernels/kernels.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "tensor_core_product.hpp"
#include "timing.hpp"

namespace {

std::vector<float> numbers(ng::FormatId id, std::int64_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const ng::ElementFormat format = ng::format_of(id);
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(ng::decode(format, ng::encode(format, ng::CastChoices{}, normal(random))));
  return out;
}

void measure(const char* arithmetic, ng::FormatId id, int promotion, std::int64_t size) {
  const ng::AccumulatorRow* row = ng::find_accumulator(arithmetic, id, id, ng::StepResult::fp32_toward_zero);
  ng::TensorCoreSpec spec{row->spec};
  spec.promotion = promotion;
  const std::vector<float> a = numbers(id, size * size), b = numbers(id, size * size);
  std::vector<float> out(static_cast<std::size_t>(size * size));
  ng::cpu::ThreadPool pool(1);
  const double operations = static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size);
  double rate[2];
  for (const bool baseline : {false, true}) {
    const double seconds = ng_bench::best_seconds([&] {
      ng::cpu::tensor_core_matmul(ng::cpu::cpu_kernels(baseline), pool, spec, {a.data(), size, size, id},
                                  {b.data(), size, size, id}, {}, {size}, out.data(), size);
    });
    rate[baseline ? 1 : 0] = operations / seconds * 1e-9;
  }
  fmt::print("{:<16}{:<6}{:>10}{:>8}{:>14.2f}{:>14.2f}\n", arithmetic, ng::name_of(id), promotion, size, rate[0],
             rate[1]);
}

}  // namespace

int main() {
  fmt::print("{:<16}{:<6}{:>10}{:>8}{:>14}{:>14}\n", "arithmetic", "type", "promotion", "M=N=K",
             ng::cpu::cpu_kernels(false).isa, "baseline");
  using F = ng::FormatId;
  for (const std::int64_t size : {256, 768}) {
    measure("hopper", F::e4m3, 0, size);
    measure("hopper", F::e4m3, 128, size);
    measure("hopper", F::e5m2, 0, size);
    measure("hopper", F::bf16, 0, size);
    measure("hopper", F::fp16, 0, size);
    measure("hopper", F::tf32, 0, size);
  }
  measure("ada", F::e4m3, 0, 256);
  measure("ampere", F::fp16, 0, 256);
  measure("volta", F::fp16, 0, 256);
  measure("blackwell", F::e4m3, 0, 256);
  measure("hopper_mma_fp8", F::e4m3, 0, 96);  // no fast path: the functor
  return 0;
}
