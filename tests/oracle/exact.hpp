// SPDX-License-Identifier: Apache-2.0
//
// Exact numbers for the oracle: a sign, a 128-bit integer, a power of two and a "something was cut off" flag.
// Every FP32 operation is done on integers and rounded once, to nearest even, subnormals kept. Slow and plain on
// purpose; shares nothing with the library it judges.
#pragma once

#include <cstdint>

namespace ng_oracle {

/// 128 unsigned bits (a compiler extension of every platform the tests run on).
__extension__ typedef unsigned __int128 Wide;

/// (-1)^negative * (magnitude + cut) * 2^exponent, where 0 <= cut < 1 and cut > 0 exactly if `sticky`.
struct Exact {
  bool negative = false;
  Wide magnitude = 0;
  int exponent = 0;
  bool sticky = false;
};

/// Bits of an FP32 value, and back.
std::uint32_t bits_of(float value);
float float_of(std::uint32_t bits);

/// Rounds to nearest even to a binary format with `precision` significant bits, smallest quantum 2^lowest and
/// largest exponent `highest` (value < 2^(highest+1)); the result is a double (infinite on overflow).
double round_to_grid(const Exact& x, int precision, int lowest, int highest);

/// Rounds to FP32, to BF16 (as a float), nearest even, subnormals kept, overflow to infinity.
float round_to_f32(const Exact& x);
float round_to_bf16(float x);

/// Exact value of a finite double.
Exact exact_of(double x);

/// One FP32 operation, one rounding to nearest even. NaN and infinity follow IEEE 754; a NaN result is quiet, positive.
float f32_add(float a, float b);
float f32_sub(float a, float b);
float f32_mul(float a, float b);
float f32_div(float a, float b);

/// IEEE minimum in which a NaN operand gives NaN (as a framework's clamp or minimum does).
float f32_min(float a, float b);

}  // namespace ng_oracle
