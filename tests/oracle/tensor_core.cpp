// SPDX-License-Identifier: Apache-2.0
//
// Products, quanta and sums as doubles that hold them exactly: products have at most 48 significant bits, quotients by
// the quantum at most 50 before they are cut.
#include "tensor_core.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "exact.hpp"

namespace ng_oracle {
namespace {

int exponent_of(double x, int smallest) {
  if (!std::isfinite(x)) throw std::invalid_argument("operands are finite");
  return std::max(std::ilogb(x), smallest);
}

struct Term {
  double value = 0;
  int exponent = 0;
};

/// To the nearest integer, ties to even.
double nearest_even(double x) {
  const double low = std::floor(x), rest = x - low;
  if (rest != 0.5) return rest < 0.5 ? low : low + 1;
  return std::fmod(low, 2) == 0 ? low : low + 1;
}

float rounded(double sum, const Accumulator& acc) {
  if (sum == 0) return 0;
  const int bits = acc.fp16 ? 11 : acc.significand_bits;
  const double unit = std::ldexp(1.0, exponent_of(sum, acc.fp16 ? -14 : -126) - (bits - 1));
  const double result = (acc.fp16 ? nearest_even(sum / unit) : std::trunc(sum / unit)) * unit;
  const double limit = acc.fp16 ? 65536.0 : 0x1p128;
  if (std::fabs(result) >= limit) return std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(sum));
  return result == 0 ? 0.0F : static_cast<float>(result);  // what is rounded to zero has no sign
}

float step(const Accumulator& acc, const std::vector<Term>& terms, float c) {
  if (std::isinf(c)) return c;  // an earlier step overflowed
  Term start{static_cast<double>(c), acc.zero_exponent};
  if (c != 0) start.exponent = exponent_of(start.value, acc.fp16 ? -14 : -126);
  int largest = start.exponent;
  for (const Term& t : terms) largest = std::max(largest, t.exponent);
  const double quantum = std::ldexp(1.0, largest - acc.fraction_bits);
  auto sum = static_cast<std::int64_t>(std::trunc(start.value / quantum));
  for (const Term& t : terms) sum += static_cast<std::int64_t>(std::trunc(t.value / quantum));
  return rounded(static_cast<double>(sum) * quantum, acc);
}

Term product(const Accumulator& acc, const DotOperands& in, std::size_t k) {
  const double a = static_cast<double>(in.a[k]), b = static_cast<double>(in.b[k]);
  if (a * b == 0) return {0, acc.zero_exponent};
  // Interleaved products are FP16's: an operand's own smallest exponent counts no more than FP16's.
  const auto smallest = [&](int own) { return acc.interleaved ? std::min(own, -14) : own; };
  Term t{a * b, exponent_of(a, smallest(in.smallest_a)) + exponent_of(b, smallest(in.smallest_b))};
  if (acc.scales == StepScales::step) {  // powers of two
    const double sa = static_cast<double>(in.scale_a[k / in.scale_k]);
    const double sb = static_cast<double>(in.scale_b[k / in.scale_k]);
    t.value = t.value * sa * sb;
    t.exponent += std::ilogb(sa) + std::ilogb(sb);
  }
  return t;
}

/// 16 products and a pair of scales.
Term group(const Accumulator& acc, const DotOperands& in, std::size_t first, std::size_t end) {
  const double sa = static_cast<double>(in.scale_a[first / in.scale_k]);
  const double sb = static_cast<double>(in.scale_b[first / in.scale_k]);
  double sum = 0;
  bool products = false;
  for (std::size_t k = first; k < end; ++k) {
    const double p = static_cast<double>(in.a[k]) * static_cast<double>(in.b[k]);
    products = products || p != 0;
    sum += p;
  }
  if (sa * sb == 0 || !products) return {0, acc.zero_exponent};
  return {sum * sa * sb, exponent_of(sa, in.smallest_scale) + exponent_of(sb, in.smallest_scale)};
}

}  // namespace

float dot(const Accumulator& acc, const DotOperands& in, float c) {
  const std::size_t count = in.a.size();
  const auto instruction = static_cast<std::size_t>(acc.instruction_k), length = static_cast<std::size_t>(acc.terms);
  for (std::size_t k0 = 0; k0 < count; k0 += instruction) {
    float chain = acc.interleaved ? 0.0F : c;
    for (std::size_t s = 0; s < instruction / length; ++s) {
      std::vector<Term> terms;
      if (!acc.interleaved && k0 + s * length >= count) break;
      if (acc.scales == StepScales::groups) {
        const std::size_t end = std::min(count, k0 + (s + 1) * length);
        for (std::size_t k = k0 + s * length; k < end; k += 16)
          terms.push_back(group(acc, in, k, std::min(k + 16, end)));
      } else {
        for (std::size_t i = 0; i < instruction; ++i) {
          const bool mine = acc.interleaved ? (i % 4) / 2 == s : i / length == s;
          if (!mine) continue;
          terms.push_back(k0 + i < count ? product(acc, in, k0 + i) : Term{0, acc.zero_exponent});
        }
      }
      chain = step(acc, terms, chain);
    }
    if (!acc.interleaved) {
      c = chain;
    } else {
      c = f32_add(chain, c);
      if (acc.fp16 && c != 0) c = rounded(static_cast<double>(c), acc);
    }
  }
  return c;
}

}  // namespace ng_oracle
