// SPDX-License-Identifier: Apache-2.0
//
// accumulator_fit.hpp: machines are thrown out by the first probe that they miss. Probes whose numbers all lie in the
// first instruction go first: no promotion shows in them, so they settle the other parameters alone.
#include "narrowgauge/validate/accumulator_fit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/exact_product.hpp"
#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {
namespace {

/// Values of k that every machine of the family finishes before it goes on.
std::int64_t block_of(const ProbeTypes& types) {
  return types.a == FormatId::e2m1 && types.scales != OperandScales::none ? 64 : 32;
}

/// The blocks of k in which a probe has numbers, one behind the other. Instructions of zeros change no
/// accumulator, so they are passed over.
struct Sparse {
  std::vector<std::int64_t> blocks;  ///< first k of each
  std::vector<float> a, b, scale_a, scale_b;
  std::int64_t last = 0;  ///< largest k with a number
};

class Runner {
 public:
  explicit Runner(const ProbeSet& set) : set_(set), block_(block_of(set.types)) {
    const std::int64_t per = set.types.scales == OperandScales::none ? 1 : block_scale_k(set.types.scales);
    scale_k_ = per;
    for (std::int64_t i = 0; i < set.count; ++i) {
      Sparse s;
      for (std::int64_t k0 = 0; k0 < set.k; k0 += block_) {
        bool any = false;
        for (std::int64_t k = k0; k < k0 + block_; ++k) {
          const auto at = static_cast<std::size_t>(i * set.k + k);
          if (set.a[at] == 0.0f && set.b[at] == 0.0f) continue;
          any = true;
          s.last = k;
        }
        if (!any) continue;
        s.blocks.push_back(k0);
        const auto take = [&](const std::vector<float>& from, std::vector<float>& to, std::int64_t share) {
          const auto begin = from.begin() + (i * set.k + k0) / share;
          if (!from.empty()) to.insert(to.end(), begin, begin + block_ / share);
        };
        take(set.a, s.a, 1);
        take(set.b, s.b, 1);
        take(set.scale_a, s.scale_a, per);
        take(set.scale_b, s.scale_b, per);
      }
      probes_.push_back(std::move(s));
    }
  }

  const Sparse& probe(std::size_t i) const { return probes_[i]; }

  std::uint32_t answer(std::size_t i, const Machine& machine) const {
    const Sparse& s = probes_[i];
    const StepOperands in{s.a.data(),
                          s.b.data(),
                          s.scale_a.empty() ? nullptr : s.scale_a.data(),
                          s.scale_b.empty() ? nullptr : s.scale_b.data(),
                          smallest_exponent(format_of(set_.types.a)),
                          smallest_exponent(format_of(set_.types.b)),
                          smallest_exponent(format_of(block_scale_format(set_.types.scales)))};
    float total = 0.0f, chain = 0.0f;
    std::int64_t chain_number = 0;
    for (std::size_t block = 0; block < s.blocks.size(); ++block) {
      const std::int64_t piece = machine.promotion == 0 ? block_ : std::min<std::int64_t>(block_, machine.promotion);
      for (std::int64_t at = 0; at < block_; at += piece) {
        const std::int64_t k = s.blocks[block] + at;
        if (machine.promotion != 0 && k / machine.promotion != chain_number) {
          total = gpu_add(total, chain);
          chain = 0.0f;
          chain_number = k / machine.promotion;
        }
        const std::int64_t begin = static_cast<std::int64_t>(block) * block_ + at;
        chain = accumulate(machine.accumulator, in, begin, begin + piece, chain, scale_k_);
      }
    }
    return output_bits(set_.types.output, machine.promotion == 0 ? chain : gpu_add(total, chain));
  }

 private:
  const ProbeSet& set_;
  std::int64_t block_;
  std::int64_t scale_k_ = 1;
  std::vector<Sparse> probes_;
};

/// Every accumulator of the family for these types.
std::vector<AccumulatorSpec> family(const ProbeTypes& types) {
  const bool groups = types.scales != OperandScales::none && types.a == FormatId::e2m1 && types.b == FormatId::e2m1;
  const StepScales scales = types.scales == OperandScales::none ? StepScales::none
                            : groups                            ? StepScales::groups
                                                                : StepScales::step;
  struct Order {
    StepOrder order;
    int terms, instruction;
  };
  std::vector<Order> orders;
  for (const int terms : groups ? std::vector<int>{16, 32, 64} : std::vector<int>{1, 2, 4, 8, 16, 32})
    orders.push_back({StepOrder::consecutive, terms, terms});
  if (!groups)
    for (const int terms : {4, 8, 16}) orders.push_back({StepOrder::low_then_high_pairs, terms, 2 * terms});
  struct Result {
    StepResult result;
    int bits;
  };
  std::vector<Result> results = {{StepResult::fp16_nearest_even, 11}};
  for (int bits = 8; bits <= 24; ++bits) {
    results.push_back({StepResult::fp32_toward_zero, bits});
    results.push_back({StepResult::fp32_nearest_even, bits});
  }
  std::vector<AccumulatorSpec> all;
  for (const Order& order : orders)
    for (int fraction = 8; fraction <= 42; ++fraction)
      for (const Result& result : results)
        all.push_back({static_cast<std::int16_t>(order.terms), static_cast<std::int16_t>(order.instruction),
                       static_cast<std::int8_t>(fraction), static_cast<std::int8_t>(result.bits), result.result, scales,
                       order.order, -133});
  return all;
}

std::uint32_t named_answer(const ProbeSet& set, std::size_t i, bool exact) {
  const float* const a = set.a.data() + static_cast<std::int64_t>(i) * set.k;
  const float* const b = set.b.data() + static_cast<std::int64_t>(i) * set.k;
  if (!exact) {
    float sum = 0.0f;
    for (std::int64_t k = 0; k < set.k; ++k) sum = gpu_fma(a[k], b[k], sum);
    return output_bits(set.types.output, sum);
  }
  ExactProduct product;
  product.start();
  const std::int64_t per = set.scale_a.empty() ? set.k : block_scale_k(set.types.scales);
  for (std::int64_t k = 0; k < set.k; k += per) {
    ScaleFactors factors;
    if (!set.scale_a.empty()) {
      factors.multiply(set.scale_a[static_cast<std::size_t>((static_cast<std::int64_t>(i) * set.k + k) / per)]);
      factors.multiply(set.scale_b[static_cast<std::size_t>((static_cast<std::int64_t>(i) * set.k + k) / per)]);
    }
    product.add(a + k, b + k, per, factors);
  }
  return output_bits(set.types.output, product.result(set.types.output));
}

std::string results_text(const AccumulatorSpec& spec) {
  switch (spec.result) {
    case StepResult::fp16_nearest_even:
      return "FP16 results to nearest even";
    case StepResult::fp32_nearest_even:
      return fmt::format("results of {} bits to nearest even", spec.significand_bits);
    case StepResult::fp32_toward_zero:
      break;
  }
  return fmt::format("results of {} bits cut toward zero", spec.significand_bits);
}

std::string order_text(const AccumulatorSpec& spec) {
  return spec.order == StepOrder::consecutive
             ? "in ascending k"
             : fmt::format("of every {} k first those with k mod 4 in 0, 1, then the others, c added last in FP32",
                           spec.instruction_k);
}

}  // namespace

std::string text_of(const Machine& m) {
  return fmt::format(
      "{} products a step {}, {} fraction bits, {}, {}", m.accumulator.terms, order_text(m.accumulator),
      m.accumulator.fraction_bits, results_text(m.accumulator),
      m.promotion == 0 ? "one chain over K" : fmt::format("a chain every {} of K, added in FP32", m.promotion));
}

std::vector<std::uint32_t> answers(const ProbeSet& probes, const Machine& machine) {
  const Runner runner(probes);
  std::vector<std::uint32_t> bits;
  for (std::int64_t i = 0; i < probes.count; ++i) bits.push_back(runner.answer(static_cast<std::size_t>(i), machine));
  return bits;
}

std::vector<std::uint32_t> probe_results(const ProbeSet& probes, const Array& results) {
  const bool whole = results.rows() == probes.count && results.cols() == probes.count;
  if (!whole && results.count() != probes.count)
    throw UserError(fmt::format("{}: shape {}; the probes' D is [{}, {}], or its diagonal [{}]", results.origin,
                                shape_text(results.shape), probes.count, probes.count, probes.count));
  const std::vector<float> values = results.as_f32();
  std::vector<std::uint32_t> bits;
  for (std::int64_t i = 0; i < probes.count; ++i) {
    const float value = values[static_cast<std::size_t>(whole ? i * probes.count + i : i)];
    const std::uint32_t narrow = output_bits(probes.types.output, value);
    if (!is_nan_bits(bits_of(value)) && bits_of(output_value(probes.types.output, narrow)) != bits_of(value))
      throw UserError(fmt::format("{}: {} is no {} number, which the probes were made for", results.origin, value,
                                  name_of(probes.types.output)));
    bits.push_back(narrow);
  }
  return bits;
}

Fit fit_accumulator(const ProbeSet& probes, std::span<const std::uint32_t> results) {
  const Runner runner(probes);
  const std::int64_t first = block_of(probes.types);
  std::vector<std::size_t> near, far;
  for (std::size_t i = 0; i < results.size(); ++i) (runner.probe(i).last < first ? near : far).push_back(i);
  // Neighbours ask alike: a stride through the list meets every kind early.
  const auto spread = [](std::vector<std::size_t>& list) {
    std::vector<std::size_t> out;
    for (std::size_t start = 0; start < 37; ++start)
      for (std::size_t i = start; i < list.size(); i += 37) out.push_back(list[i]);
    list = std::move(out);
  };
  spread(near);
  spread(far);
  const auto misses = [&](const Machine& m, const std::vector<std::size_t>& list, std::size_t most) {
    std::size_t missed = 0;
    for (const std::size_t i : list)
      if (runner.answer(i, m) != results[i] && ++missed > most) break;
    return missed;
  };

  Fit fit;
  fit.probes = results.size();
  std::vector<Machine> candidates;
  const std::vector<AccumulatorSpec> machines = family(probes.types);
  fit.tried = machines.size();
  for (const AccumulatorSpec& spec : machines)
    if (misses({spec, 0}, near, 0) == 0) candidates.push_back({spec, 0});
  std::size_t settled = 0;
  if (candidates.empty()) {  // the nearest instead
    settled = results.size() + 1;
    for (const AccumulatorSpec& spec : machines) {
      const std::size_t missed = misses({spec, 0}, near, settled);
      if (missed >= settled) continue;
      settled = missed;
      candidates = {{spec, 0}};
    }
  }
  std::size_t least = results.size() + 1;
  for (const Machine& candidate : candidates) {
    std::vector<std::int32_t> promotions = {0};
    for (std::int32_t p = static_cast<std::int32_t>(first); p <= probes.k / 2; p += static_cast<std::int32_t>(first))
      // Where c is added last in FP32 every instruction is promoted already.
      if (candidate.accumulator.order == StepOrder::consecutive || p != candidate.accumulator.instruction_k)
        promotions.push_back(p);
    for (const std::int32_t promotion : promotions) {
      const Machine m{candidate.accumulator, promotion};
      ++fit.tried;
      const std::size_t missed = settled + misses(m, far, settled == 0 ? least : results.size());
      if (missed == 0) fit.machines.push_back(m);
      if (missed < least) {
        least = missed;
        fit.nearest = m;
      }
    }
  }
  for (const bool exact : {false, true}) {
    if (!exact && probes.types.scales != OperandScales::none) continue;
    bool all = true;
    for (std::size_t i = 0; i < results.size() && all; ++i) all = named_answer(probes, i, exact) == results[i];
    if (all) fit.also.emplace_back(exact ? "exact" : "ieee");
  }
  if (fit.machines.empty()) {
    fit.missed = 0;
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (runner.answer(i, fit.nearest) == results[i]) continue;
      if (fit.missed++ == 0) fit.first_missed = probes.names[i];
    }
  }
  return fit;
}

std::string Fit::text(const ProbeTypes& types) const {
  std::string out;
  for (const std::string& name : also)
    out += fmt::format("all {} probes: {}\n", probes,
                       name == "ieee" ? "an FP32 fma chain in ascending k (ieee)" : "exact sums, rounded once (exact)");
  if (machines.empty()) {
    if (also.empty())
      out += fmt::format("none of {} accumulators reproduces all {} probes; the nearest misses {} (first: {}):\n  {}\n",
                         tried, probes, missed, first_missed, text_of(nearest));
    return out;
  }
  const auto list = [&](const char* what, auto value) {
    std::set<decltype(value(machines.front()))> values;
    for (const Machine& m : machines) values.insert(value(m));
    out += fmt::format("  {:<18}", what);
    bool comma = false;
    for (const auto& v : values) {
      out += fmt::format("{}{}", comma ? " or " : "", v);
      comma = true;
    }
    out += "\n";
  };
  out += fmt::format("all {} probes reproduced by {} of {} accumulators\n", probes, machines.size(), tried);
  list("products a step", [](const Machine& m) { return static_cast<int>(m.accumulator.terms); });
  list("order", [](const Machine& m) { return order_text(m.accumulator); });
  list("fraction bits", [](const Machine& m) { return static_cast<int>(m.accumulator.fraction_bits); });
  list("results", [](const Machine& m) { return results_text(m.accumulator); });
  list("promotion", [](const Machine& m) {
    return m.promotion == 0 ? std::string("none: one chain over K")
                            : fmt::format("every {} of K, added in FP32 to nearest", m.promotion);
  });
  for (const AccumulatorRow& row : accumulator_catalog()) {
    if (!is_of_types(row.types, types.a, types.b, types.scales)) continue;
    const bool same = std::any_of(machines.begin(), machines.end(), [&](const Machine& m) {
      AccumulatorSpec spec = row.spec;
      spec.zero_exponent = m.accumulator.zero_exponent;
      if (spec.order == StepOrder::consecutive) spec.instruction_k = m.accumulator.instruction_k;
      return spec == m.accumulator;
    });
    if (same) out += fmt::format("  as in the catalogue: {}\n", row.arithmetic);
  }
  return out;
}

}  // namespace ng::validate
