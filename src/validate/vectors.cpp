// SPDX-License-Identifier: Apache-2.0
//
// Inputs of test vectors. Random ones come from the counter RNG and integer arithmetic alone: the same bytes on every
// machine.
#include "narrowgauge/validate/vectors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/validate/product_spec.hpp"
#include "narrowgauge/validate/specs.hpp"
#include "parts.hpp"

namespace ng::validate {
namespace {

constexpr std::int64_t kRandomRows = 64;

class Draws {
 public:
  Draws(std::uint32_t seed, std::uint32_t stream) : stream_{seed, RandomPurpose::test_vectors, stream, 0} {}
  std::uint32_t bits() { return random_draw(stream_, next_++, 32); }
  /// About Gaussian: the sum of twelve uniforms. Multiples of 2^-16, exact in FP32.
  float normal() {
    std::int32_t sum = 0;
    for (int i = 0; i < 6; ++i) {
      const std::uint32_t two = bits();
      sum += static_cast<std::int32_t>(two & 0xffffu) + static_cast<std::int32_t>(two >> 16);
    }
    return static_cast<float>(sum - 6 * 65536) / 65536.0f;
  }
  int below(int n) { return static_cast<int>(bits() % static_cast<std::uint32_t>(n)); }

 private:
  RandomStream stream_;
  std::uint64_t next_ = 0;
};

float neighbour(float value, int steps) {
  return float_of(bits_of(value) + static_cast<std::uint32_t>(steps));
}

/// Magnitudes where an encoder decides: every code, every midpoint with its FP32 neighbours, the end of the range.
std::vector<float> decision_points(const ElementFormat& f) {
  std::vector<float> points = {0.0f};
  const std::uint32_t largest = largest_code(f);
  for (std::uint32_t code = 0; code <= largest; ++code) {
    const float value = decode(f, code);
    // Above the largest the grid goes on for the rounding: its next value decides what overflows.
    const float below = code > 0 ? decode(f, code - 1) : 0.0f;
    const float next = code < largest ? decode(f, code + 1) : value + (value - below);
    if (code > 0) points.push_back(value);
    const float middle = value + (next - value) / 2;
    for (const int step : {-1, 0, 1}) points.push_back(middle > 0 ? neighbour(middle, step) : middle);
  }
  const float top = decode(f, largest);
  for (const float beyond : {neighbour(top, 1), top * 1.25f, top * 4.0f}) points.push_back(beyond);
  return points;
}

struct Shape {
  std::int64_t rows = 1;  ///< of a tile
  std::int64_t width = 32;
};

Shape tile_of(const QuantizerSpec& spec) {
  Shape shape;
  const bool scaled = spec.scale_format != ScaleFormat::none;
  shape.rows = scaled && spec.tile_rows > 0 ? spec.tile_rows : 1;
  shape.width = scaled && spec.tile_cols > 0 ? spec.tile_cols : 128;
  while (spec.hadamard.size != 0 && shape.width % spec.hadamard.size != 0) shape.width *= 2;
  return shape;
}

/// Values laid row after row into tiles; `first` begins each tile. Rows are whole tiles high.
class Sheet {
 public:
  explicit Sheet(const Shape& shape) : shape_(shape) {}
  /// Fills tiles with `values`, each tile led by `lead` (0: none).
  void add(const std::vector<float>& values, float lead) {
    const std::size_t held = static_cast<std::size_t>(shape_.rows * shape_.width) - (lead != 0.0f ? 1 : 0);
    for (std::size_t at = 0; at < values.size(); at += held) {
      std::vector<float> tile;
      if (lead != 0.0f) tile.push_back(lead);
      for (std::size_t i = at; i < std::min(values.size(), at + held); ++i) tile.push_back(values[i]);
      tile.resize(static_cast<std::size_t>(shape_.rows * shape_.width), 0.0f);
      x_.insert(x_.end(), tile.begin(), tile.end());
    }
  }
  bool empty() const { return x_.empty(); }
  Case question(const std::string& spec, const std::string& name) const {
    Case c;
    c.name = name;
    c.spec = spec;
    c.x = x_;
    c.cols = shape_.width;
    c.rows = static_cast<std::int64_t>(x_.size()) / shape_.width;
    return c;
  }

 private:
  Shape shape_;
  std::vector<float> x_;
};

std::vector<float> both_signs(const std::vector<float>& magnitudes, float factor) {
  std::vector<float> values;
  for (const float m : magnitudes)
    for (const float sign : {1.0f, -1.0f}) values.push_back(float_of(bits_of(m * factor) | (sign < 0 ? kSignBit : 0u)));
  return values;
}

bool takes_nan(const QuantizerSpec& spec) {
  return spec.cast.nan != NanChoice::error || spec.element.nan != NanCodes::none;
}

void add_boundary(std::vector<Case>& cases, const QuantizerSpec& spec, const std::string& text, Draws& draws) {
  const Shape shape = tile_of(spec);
  const bool scaled = spec.scale_format != ScaleFormat::none;
  const bool two_levels = needs_tensor_amax(spec.rule);
  const std::vector<float> points = decision_points(spec.element);
  const float largest = scale_detail::largest_value(spec.element);

  Sheet grid(shape);
  for (const int exponent : scaled ? std::vector<int>{0, -9, 5} : std::vector<int>{0}) {
    std::vector<float> inside;
    for (const float p : points)
      if (!scaled || p <= largest) inside.push_back(p);
    grid.add(both_signs(inside, std::ldexp(1.0f, exponent)), scaled ? std::ldexp(largest, exponent) : 0.0f);
  }
  cases.push_back(grid.question(text, "boundary_codes"));

  if (scaled) {
    // Largest magnitudes where scale rules part, over many binades; the rest of a tile is anything below.
    Sheet amax(shape);
    const int from = two_levels ? -14 : -148, to = two_levels ? 14 : 127;
    for (int e = from; e <= to; e += two_levels ? 1 : 5)
      for (const float m : {1.0f, neighbour(1.0f, 1), 1.5f, neighbour(1.5f, 1), neighbour(1.75f, -1), 1.75f,
                            neighbour(1.75f, 1), neighbour(2.0f, -1)}) {
        const float lead = std::ldexp(m, e);
        std::vector<float> rest;
        for (std::int64_t i = 1; i < shape.rows * shape.width; ++i)
          rest.push_back(lead * static_cast<float>(draws.below(4097) - 2048) / 2048.0f);
        amax.add(rest, lead);
      }
    cases.push_back(amax.question(text, "boundary_scales"));
  }

  // Specials, each in a tile of its own and, for rules with a tensor scale, in a tensor of its own.
  std::vector<std::pair<const char*, float>> specials = {{"zeros", 0.0f},
                                                         {"subnormal", float_of(0x00012345u)},
                                                         {"huge", kLargestFinite},
                                                         {"infinity", float_of(kInfinityBits)}};
  if (takes_nan(spec)) specials.emplace_back("nan", float_of(kQuietNanBits));
  Sheet special(shape);
  for (const auto& [name, value] : specials) {
    std::vector<float> tile;
    for (std::int64_t i = 0; i < shape.rows * shape.width; ++i) {
      const float other = i % 3 == 0 ? -0.0f : i % 3 == 1 ? 0.0f : static_cast<float>(draws.below(65) - 32) / 8.0f;
      tile.push_back(i == 1          ? value
                     : i == 4        ? float_of(bits_of(value) | kSignBit)
                     : value == 0.0f ? other * 0.0f
                                     : other);
    }
    if (!two_levels) {
      special.add(tile, 0.0f);
      continue;
    }
    Sheet own(shape);
    own.add(tile, 0.0f);
    cases.push_back(own.question(text, fmt::format("boundary_{}", name)));
  }
  if (!special.empty()) cases.push_back(special.question(text, "boundary_special"));
}

void add_random(std::vector<Case>& cases, const QuantizerSpec& spec, const std::string& text, Draws& draws) {
  const Shape shape = tile_of(spec);
  const std::int64_t rows = (kRandomRows + shape.rows - 1) / shape.rows * shape.rows, cols = 2 * shape.width;
  const auto add = [&](const char* name, const auto& value) {
    Case c;
    c.name = fmt::format("random_{}", name);
    c.spec = text;
    c.rows = rows;
    c.cols = cols;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = 0; i < cols; ++i) c.x.push_back(value(r));
    cases.push_back(std::move(c));
  };
  add("normal", [&](std::int64_t) { return draws.normal(); });
  add("outliers", [&](std::int64_t) {
    const float v = draws.normal();
    return draws.below(64) == 0 ? v * 256.0f : v;
  });
  add("rows", [&](std::int64_t r) { return std::ldexp(draws.normal(), static_cast<int>(r % 21) - 10); });
  add("wide", [&](std::int64_t) { return std::ldexp(draws.normal(), draws.below(33) - 16); });
  add("bits", [&](std::int64_t) {
    std::uint32_t bits = draws.bits();
    if ((bits & kInfinityBits) == kInfinityBits) bits ^= 0x40000000u;  // finite
    return float_of(bits);
  });
}

Array array_of(const Part& part) {
  const std::vector<std::int64_t> shape = {part.rows, part.cols};
  const int width = bit_count(format_of(part.format));
  Array array;
  if (width == 32) {
    array = Array::from_bytes(Dtype::f32, shape, std::as_bytes(std::span(part.bits)));
  } else if (width > 8) {
    const std::vector<std::uint16_t> codes(part.bits.begin(), part.bits.end());
    if (part.format == FormatId::bf16) return Array::from_bytes(Dtype::bf16, shape, std::as_bytes(std::span(codes)));
    array = Array::from<std::uint16_t>(shape, codes);
  } else {
    const std::vector<std::uint8_t> codes(part.bits.begin(), part.bits.end());
    array = Array::from<std::uint8_t>(shape, codes);
  }
  if (width != 32) array.format = name_of(part.format);
  return array;
}

VectorCase answered(Case question, const VerifyOptions& options) {
  VectorCase result;
  for (const Part& part : answer(question, options)) result.expected.emplace_back(part.name, array_of(part));
  result.question = std::move(question);
  return result;
}

}  // namespace

std::vector<VectorCase> quantizer_vectors(const std::string& spec, VectorCases cases, std::uint32_t seed) {
  const QuantizerSpec quantizer = quantizer_of(spec);
  if (quantizer.outlier.quantile != 0.0)
    throw UserError(fmt::format("vectors of {}: the residual of an outlier split is no vector", spec));
  Draws draws(seed, 1);
  std::vector<Case> questions;
  if (cases != VectorCases::random) add_boundary(questions, quantizer, spec, draws);
  if (cases != VectorCases::boundary) add_random(questions, quantizer, spec, draws);
  if (cases == VectorCases::all && quantizer.scale_format == ScaleFormat::none) {
    Case every;
    every.name = "every_bf16";
    every.spec = spec;
    every.rows = 512;
    every.cols = 128;
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const float value = float_of(bits << 16);
      every.x.push_back(is_nan_bits(bits << 16) && !takes_nan(quantizer) ? 0.0f : value);
    }
    questions.push_back(std::move(every));
  }
  std::vector<VectorCase> result;
  for (Case& question : questions) {
    question.seed = seed;
    result.push_back(answered(std::move(question), {}));
  }
  return result;
}

std::vector<VectorCase> product_vectors(const std::string& spec, VectorCases cases, std::uint32_t seed,
                                        const ProductReference& product) {
  const ProductSpec stated = product_of(spec);
  const auto format_named = [&](const std::string& name, const char* key) {
    const std::optional<FormatId> id = find_format(name);
    if (!id || bit_count(format_of(*id)) > 16)
      throw UserError(
          fmt::format("vectors of products need {} in the spec, a format of at most 16 bits: {}=e4m3", key, key));
    return *id;
  };
  const FormatId a = format_named(stated.a_format, "a_format"), b = format_named(stated.b_format, "b_format");
  constexpr std::int64_t kM = 16, kN = 16, kK = 256;
  VerifyOptions options;
  options.product = product;
  Draws draws(seed, 2);
  std::vector<VectorCase> result;
  // Exponents from one binade to the whole range: alignment, cancellation, truncation and overflow of the accumulator.
  const auto add = [&](const std::string& name, int binades, bool cancels) {
    Case c;
    c.name = name;
    c.operation = Operation::matmul;
    c.spec = spec;
    const auto operand = [&](FormatId id, std::int64_t rows, bool mirrored) {
      const ElementFormat f = format_of(id);
      const int fields = 1 << f.exponent_bits, used = std::min(binades, fields - 1);
      std::vector<std::uint32_t> codes;
      for (std::int64_t i = 0; i < rows * kK; ++i) {
        // The second half of K repeats the first with the other sign in one operand: sums cancel, late.
        if (mirrored && i % kK >= kK / 2) {
          codes.push_back(codes[static_cast<std::size_t>(i - kK / 2)] ^ (cancels && id == a ? sign_mask(f) : 0u));
          continue;
        }
        const std::uint32_t field = static_cast<std::uint32_t>(fields / 2 - used / 2 + draws.below(used));
        std::uint32_t code =
            std::min(field << f.mantissa_bits | (draws.bits() & ((1u << f.mantissa_bits) - 1u)), largest_code(f));
        if (draws.below(2) != 0) code |= sign_mask(f);
        codes.push_back(code);
      }
      return array_of(Part{"", id, rows, kK, std::move(codes), {}});
    };
    c.operands.emplace("a", operand(a, kM, cancels));
    c.operands.emplace("b", operand(b, kN, cancels));
    const auto scales = [&](const char* key, std::int64_t rows, std::int64_t cols) {
      std::vector<float> values;
      for (std::int64_t i = 0; i < rows * cols; ++i)
        values.push_back(std::ldexp(1.0f + std::fabs(draws.normal()), draws.below(9) - 4));
      c.operands.emplace(key, Array::from<float>({rows, cols}, values));
    };
    if (stated.scale_mode != ScaleMode::none) {
      const bool one = stated.scale_mode == ScaleMode::tensor, blocks = is_blockwise(stated.scale_mode);
      const std::int64_t along = blocks ? kK / kScaleBlock : 1;
      scales("scale_a", one ? 1 : kM, along);
      scales("scale_b", one || stated.scale_mode == ScaleMode::block_128x128 ? 1 : kN, along);
    }
    result.push_back(answered(std::move(c), options));
  };
  if (cases != VectorCases::random) {
    add("boundary_one_binade", 1, false);
    add("boundary_cancelling", 4, true);
    add("boundary_cancelling_wide", 1 << 10, true);
  }
  if (cases != VectorCases::boundary)
    for (const int binades : {2, 6, 12, 1 << 10})
      add(fmt::format("random_{}_binades", std::min(binades, 256)), binades, false);
  return result;
}

}  // namespace ng::validate
