// SPDX-License-Identifier: Apache-2.0
//
// Which accumulator has an unknown GEMM? A generated set of operands, whose products tell parameters apart, and a fit:
// every machine of a large family that reproduces all results, or none. The family: L products a step on a grid of F
// bits, results of P bits toward zero or to nearest, k in order or by register halves, chains promoted to FP32.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "narrowgauge/io/array.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng::validate {

/// What the unknown GEMM multiplies and writes.
struct ProbeTypes {
  FormatId a = FormatId::e4m3, b = FormatId::e4m3;
  OperandScales scales = OperandScales::none;
  ProductOutput output = ProductOutput::f32;
};

/// "e4m3,e5m2": operand types of A and B. UserError where no accumulator could multiply them.
[[nodiscard]] ProbeTypes probe_types(const std::string& types, const std::string& scales, const std::string& output);

/// Probe number i is row i of A and row i of B; its answer is the element (i, i) of D = A B^T.
struct ProbeSet {
  ProbeTypes types;
  std::int64_t count = 0;  ///< rows of A and of B, a multiple of 16
  std::int64_t k = 0;
  std::vector<float> a, b;              ///< [count, k]
  std::vector<float> scale_a, scale_b;  ///< block scales, [count, k / block], or empty
  std::vector<std::string> names;       ///< what each asks

  /// Codes as a kernel takes them: u8, u16, or FP32 for tf32.
  [[nodiscard]] Array codes(bool of_b) const;
  [[nodiscard]] Array scale_codes(bool of_b) const;
};

/// The same set for the same types, always.
[[nodiscard]] ProbeSet make_probes(const ProbeTypes& types);

/// One machine of the family.
struct Machine {
  AccumulatorSpec accumulator{};
  std::int32_t promotion = 0;  ///< values of k in a chain that is then added in FP32; 0: one chain

  friend bool operator==(const Machine&, const Machine&) = default;
};
/// "32 products a step in ascending k, 13 fraction bits, results of 14 bits cut toward zero, one chain over K"
[[nodiscard]] std::string text_of(const Machine& machine);

struct Fit {
  std::size_t probes = 0;         ///< compared
  std::size_t tried = 0;          ///< machines
  std::vector<Machine> machines;  ///< that reproduce every probe
  std::vector<std::string> also;  ///< "ieee" or "exact" where an FP32 fma chain or exact sums do
  /// Without one: the nearest machine, how many probes it misses and which first.
  Machine nearest{};
  std::size_t missed = 0;
  std::string first_missed;

  /// For people: parameters, what could not be told apart, arithmetics of the catalogue with these parameters.
  [[nodiscard]] std::string text(const ProbeTypes& types) const;
};

/// Bits of the output's type of every probe, as a machine computes them.
[[nodiscard]] std::vector<std::uint32_t> answers(const ProbeSet& probes, const Machine& machine);

/// `results`: D, [count, count], or its diagonal, [count]; f32, bf16 or f16. UserError on another shape or type.
[[nodiscard]] std::vector<std::uint32_t> probe_results(const ProbeSet& probes, const Array& results);

[[nodiscard]] Fit fit_accumulator(const ProbeSet& probes, std::span<const std::uint32_t> results);

}  // namespace ng::validate
