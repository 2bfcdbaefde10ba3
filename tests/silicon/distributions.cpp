// SPDX-License-Identifier: Apache-2.0
//
// distributions.hpp: SplitMix64 per row; codes are drawn as codes wherever the distribution is one of codes.
#include "distributions.hpp"

#include <cmath>
#include <numbers>

#include "narrowgauge/numerics/encode.hpp"
#include "subject_model.hpp"

namespace ng_silicon {

using namespace ng;

namespace {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t row, std::uint64_t purpose)
      : state_(seed * 0x9E3779B97F4A7C15ull ^ row * 0xBF58476D1CE4E5B9ull ^ purpose * 0x94D049BB133111EBull) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((bits() >> 32) * n >> 32); }
  double unit() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2.0 * std::log(unit())) * std::cos(2.0 * std::numbers::pi * unit()); }

 private:
  std::uint64_t state_;
};

/// Codes of the format without TF32's shift.
class Codes {
 public:
  explicit Codes(FormatId id) : format_(format_of(id)), shift_(id == FormatId::tf32 ? 13 : 0) {}

  std::uint32_t of(float value) const { return encode(format_, CastChoices{}, value) << shift_; }
  std::uint32_t raw(Random& random) const {
    return (static_cast<std::uint32_t>(random.bits()) & (magnitude_mask(format_) | sign_mask(format_))) << shift_;
  }
  std::uint32_t finite(Random& random) const {
    return with_random_sign(random, random.below(largest_code(format_) + 1));
  }
  /// A code of the exponent field's `count` values from `first` on.
  std::uint32_t of_binades(Random& random, int first, int count) const {
    const std::uint32_t size = 1u << format_.mantissa_bits;
    const std::uint32_t low = static_cast<std::uint32_t>(first) * size;
    std::uint32_t high = low + static_cast<std::uint32_t>(count) * size - 1;
    if (high > largest_code(format_)) high = largest_code(format_);
    return with_random_sign(random, low + random.below(high - low + 1));
  }
  /// A code with an exponent of [low, high], as far as the format has it.
  std::uint32_t of_exponents(Random& random, int low, int high) const {
    const int first = clamped(low + format_.bias), last = clamped(high + format_.bias);
    return of_binades(random, first, last - first + 1);
  }
  int top_field() const { return static_cast<int>(largest_code(format_) >> format_.mantissa_bits); }
  int field_of_one() const { return format_.bias; }
  std::uint32_t negated(std::uint32_t code) const { return code ^ sign_mask(format_) << shift_; }
  /// The neighbour below or above; stays finite.
  std::uint32_t neighbour(std::uint32_t code) const { return code ^ 1u << shift_; }

 private:
  int clamped(int field) const { return field < 0 ? 0 : field > top_field() ? top_field() : field; }
  std::uint32_t with_random_sign(Random& random, std::uint32_t magnitude) const {
    return (magnitude | ((random.bits() & 1) != 0 ? sign_mask(format_) : 0u)) << shift_;
  }

  ElementFormat format_;
  int shift_;
};

}  // namespace

const char* name_of(Distribution distribution) {
  static const char* const kNames[] = {"normal", "narrow", "wide", "cancelling", "extremes", "raw bits"};
  return kNames[static_cast<int>(distribution)];
}

void fill_row(Distribution distribution, FormatId format, StepResult result, Side side, std::uint64_t seed,
              std::uint64_t row, std::span<std::uint32_t> codes) {
  Random random(seed, row, side == Side::a ? 1 : 2);
  const Codes of(format);
  const bool specials = random.below(4) == 0;
  const std::uint32_t extreme = random.below(5);
  // Exponents of factors whose products end where FP16 or FP32 results do.
  const bool fp16 = result == StepResult::fp16_nearest_even;
  const int upper = fp16 ? 7 : 63, lower = fp16 ? -12 : -74;
  for (std::size_t k = 0; k < codes.size(); ++k) {
    switch (distribution) {
      case Distribution::normal:
        codes[k] = of.of(static_cast<float>(random.normal()));
        break;
      case Distribution::narrow:
        codes[k] = of.of_binades(random, of.field_of_one() - 1, 3);
        break;
      case Distribution::wide:
        codes[k] = of.of_exponents(random, lower, upper);
        break;
      case Distribution::cancelling: {
        const std::uint32_t fresh = of.of_binades(random, of.field_of_one() - 4, 8);
        const bool off = random.below(4) == 0;
        if (k % 2 == 0)
          codes[k] = fresh;
        else if (side == Side::a)
          codes[k] = codes[k - 1];
        else
          codes[k] = of.negated(off ? of.neighbour(codes[k - 1]) : codes[k - 1]);
        break;
      }
      case Distribution::extremes:
        if (extreme < 2)
          codes[k] = of.of_exponents(random, upper - 3, upper);
        else if (extreme < 4)
          codes[k] = of.of_exponents(random, lower - 4, lower + 4);
        else if ((random.bits() & 1) != 0)
          codes[k] = of.of_binades(random, of.top_field() - 1, 2);
        else
          codes[k] = of.of_binades(random, 0, 3);
        break;
      case Distribution::raw_bits:
        codes[k] = specials ? of.raw(random) : of.finite(random);
        break;
    }
  }
}

void fill_accumulators(Distribution distribution, StepResult result, std::uint64_t seed, std::uint64_t row,
                       std::span<std::uint32_t> bits) {
  Random random(seed, row, 3);
  const bool fp16 = result == StepResult::fp16_nearest_even;
  for (std::uint32_t& c : bits) {
    const std::uint32_t kind = random.below(8);
    if (distribution == Distribution::raw_bits && kind == 7) {
      c = static_cast<std::uint32_t>(random.bits()) & (fp16 ? 0xffffu : 0xffffffffu);
      continue;
    }
    float value = 0.0f;
    if (kind >= 2 && kind < 5)
      value = static_cast<float>(8.0 * random.normal());
    else if (kind >= 5)
      value = static_cast<float>(
          std::ldexp(random.normal(), static_cast<int>(random.below(fp16 ? 36 : 240)) - (fp16 ? 22 : 120)));
    if (distribution == Distribution::extremes && kind == 6)
      value = fp16 ? 65504.0f : float_of(0x7f7fffffu - random.below(1u << 20));
    c = accumulator_bits(result, value);
    if (fp16 && (c & 0x7fffu) == 0x7c00u) c -= 1;  // finite
  }
}

void fill_scales(Distribution distribution, std::uint64_t seed, std::span<float> scales) {
  Random random(seed, 0, 4);
  for (float& s : scales)
    s = distribution == Distribution::raw_bits ? float_of(static_cast<std::uint32_t>(random.bits()) % 0x7f800000u)
                                               : static_cast<float>(std::exp2(2.0 * random.normal()));
}

}  // namespace ng_silicon
