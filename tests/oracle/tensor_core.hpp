// SPDX-License-Identifier: Apache-2.0
//
// A tensor core's dot product by values instead of fields: every product is an exact double, cut toward zero to a
// multiple of the step's quantum, summed as an integer and rounded once (the truncated fused dot product of MMA-Sim,
// arXiv 2511.10909). Finite operands only.
#pragma once

#include <cstddef>
#include <vector>

namespace ng_oracle {

enum class StepScales { none, step, groups };

struct Accumulator {
  int terms = 16;             ///< products of a step
  int instruction_k = 16;     ///< products of an instruction
  int fraction_bits = 25;     ///< the quantum is 2^(largest exponent - this)
  int significand_bits = 24;  ///< of an FP32 result, cut
  bool fp16 = false;          ///< the result is FP16, to nearest even
  StepScales scales = StepScales::none;
  bool interleaved = false;  ///< k mod 4 in {0, 1} first, then the rest, from +0; c is added last
  int zero_exponent = -133;  ///< exponent of a term that is zero
};

/// What FP32 numbers stand for: exponents below the smallest of a format do not count as such (its subnormals).
struct DotOperands {
  std::vector<float> a, b;
  std::vector<float> scale_a, scale_b;  ///< one for each `scale_k` values of k; empty: none
  std::size_t scale_k = 1;
  int smallest_a = -126, smallest_b = -126, smallest_scale = -126;
};

/// c + sum of a b, instruction by instruction. Throws std::invalid_argument for a number that is not finite.
float dot(const Accumulator& accumulator, const DotOperands& in, float c);

}  // namespace ng_oracle
