// SPDX-License-Identifier: Apache-2.0
//
// Wrong kernels made by hand: inputs that show every choice, a backend's output under another spec, and outputs of
// known defects computed with the oracle's formats and plain arithmetic.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"
#include "narrowgauge/validate/verifier.hpp"

namespace ng::validate::test {

inline constexpr std::int64_t kRows = 16;
inline constexpr std::int64_t kCols = 256;

/// Gaussian rows of different size, exact ties of every grid with zeros of both signs, tiny values beside large ones,
/// amaxes at the places where scale rules part. All finite, no subnormals; values have 24 significant bits.
inline std::vector<float> plain_input() {
  std::vector<float> x(static_cast<std::size_t>(kRows * kCols));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t c = 0; c < kCols; ++c) {
      float& v = x[static_cast<std::size_t>(r * kCols + c)];
      v = std::ldexp(normal(random), static_cast<int>(r % 7) - 3);
      const float sign = c % 2 != 0 ? -1.0f : 1.0f;
      if (r == 3) v = sign * 0.125f * static_cast<float>((c * 7) % 49);                // up to 6 in steps of 1/8
      if (r == 4) v = c % 16 == 0 ? 6.0f : sign * 0.25f * static_cast<float>(c % 16);  // ties of E2M1, amax 6
      if (r == 5) v = c % 32 == 0 ? 448.0f : sign * std::ldexp(1.0f + 0.0625f * static_cast<float>(c % 16), c % 9);
      if (r == 6)
        v = c % 16 == 3 ? std::ldexp(1.75f + 0.03125f * static_cast<float>(c / 16), 2)
                        : 0.1f * sign * static_cast<float>(c % 11);
      if (r == 7) v = c % 64 < 32 ? 0.0f * sign : sign * std::ldexp(1.0f, -static_cast<int>(c % 32));
      if (r == 8) v = c % 128 == 5 ? 7.999f : sign * std::ldexp(1.5f, -static_cast<int>(c % 24));
    }
  return x;
}

/// The same with FP32 subnormals, magnitudes close to overflow, NaN and infinities, each in tiles of its own.
inline std::vector<float> extreme_input() {
  std::vector<float> x = plain_input();
  for (std::int64_t c = 0; c < kCols; ++c) {
    const float sign = c % 2 != 0 ? -1.0f : 1.0f;
    x[static_cast<std::size_t>(10 * kCols + c)] =
        sign * std::ldexp(static_cast<float>(1 + c % 37), static_cast<int>(c / 32) - 139);
    x[static_cast<std::size_t>(11 * kCols + c)] = sign * std::ldexp(1.0f + static_cast<float>(c % 16) / 16.5f, 127);
    if (c < 128) x[static_cast<std::size_t>(12 * kCols + c)] = sign * static_cast<float>(c) * 7.25f;
  }
  x[static_cast<std::size_t>(12 * kCols + 130)] = std::numeric_limits<float>::quiet_NaN();
  x[static_cast<std::size_t>(12 * kCols + 140)] = -std::numeric_limits<float>::quiet_NaN();
  x[static_cast<std::size_t>(13 * kCols + 9)] = std::numeric_limits<float>::infinity();
  x[static_cast<std::size_t>(13 * kCols + 201)] = -std::numeric_limits<float>::infinity();
  return x;
}

inline Case quantize_case(const std::string& spec, std::vector<float> x, std::int64_t rows = kRows,
                          std::int64_t cols = kCols) {
  Case c;
  c.name = spec;
  c.spec = spec;
  c.x = std::move(x);
  c.rows = rows;
  c.cols = cols;
  c.seed = 5;
  c.tensor_id = 6;
  c.step = 7;
  return c;
}

/// Puts a tensor into the case as what the kernel wrote.
inline void bring(Case& c, const UnpackedTensor& t) {
  const std::vector<std::uint8_t> bytes(t.codes.begin(), t.codes.end());
  c.codes = bit_count(format_of(t.element)) > 8 ? Array::from<std::uint16_t>({t.rows, t.cols}, t.codes)
                                                : Array::from<std::uint8_t>({t.rows, t.cols}, bytes);
  c.scales.reset();
  c.tensor_scale.reset();
  const std::vector<std::int64_t> shape = {t.scale_rows(), t.scale_cols()};
  if (t.scale_format == ScaleFormat::f32)
    c.scales = Array::from<float>(shape, t.scale_values);
  else if (t.scale_format != ScaleFormat::none)
    c.scales = Array::from<std::uint8_t>(shape, t.scale_codes);
  if (t.tensor_scale) c.tensor_scale = Array::from<float>({}, std::span<const float>(&*t.tensor_scale, 1));
}

/// The CPU backend as the foreign kernel.
class Kernel {
 public:
  UnpackedTensor quantize(const Case& c, const QuantizerSpec& spec) {
    const Tensor x = backend_->tensor(Dtype::f32, c.rows, c.cols);
    backend_->upload(x.view, c.x.data());
    StepContext context;
    context.seed = c.seed;
    context.step = c.step;
    const Site site{"kernel", 0, c.tensor_id};
    return unpack(backend_->quantize(context, x.view, RowGroups{}, spec, c.axis, site));
  }

 private:
  std::unique_ptr<Backend> backend_ = make_cpu_backend(BackendOptions{});
};

inline VerifyOptions explaining() {
  VerifyOptions options;
  options.explain = true;
  options.power = false;
  return options;
}

inline bool names(const Verdict& v, const ChangeSet& set) {
  if (!v.explanation) return false;
  const auto& sets = v.explanation->search.sets;
  return std::find(sets.begin(), sets.end(), set) != sets.end();
}

/// "rounding=half_up" among the sets, written as text_of writes them.
inline bool names(const Verdict& v, const std::string& text) {
  if (!v.explanation) return false;
  for (const ChangeSet& set : v.explanation->search.sets)
    if (text_of(v.explanation->choices, set) == text) return true;
  return false;
}

}  // namespace ng::validate::test
