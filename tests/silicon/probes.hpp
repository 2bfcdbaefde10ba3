// SPDX-License-Identifier: Apache-2.0
//
// Single dot products that separate one rule of a tensor-core instruction from its neighbours: special values, zeros,
// overflow, subnormals, the place of c, fraction bits, terms of a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "subjects/instruction_products.hpp"

namespace ng_silicon {

struct ProbeTerm {
  int k;
  std::uint32_t a, b;  ///< codes
};

/// All operands that no term names are +0.
struct Probe {
  std::string name;  ///< "group: what"
  std::vector<ProbeTerm> terms;
  std::uint32_t c = 0;
  int chain = 1;  ///< instructions
};

/// The same probes for every instruction, as far as its formats can write them.
std::vector<Probe> probes_of(const ng::cuda::Instruction& instruction);

/// Codes with a meaning of their own: NaNs, infinities, zeros, one, largest, smallest; with both signs.
struct NamedCode {
  std::string name;
  std::uint32_t code;
};
std::vector<NamedCode> special_codes(ng::FormatId format);

/// Code of a number that the format holds (TF32: FP32 bits).
std::uint32_t code_of(ng::FormatId format, double value);

}  // namespace ng_silicon
