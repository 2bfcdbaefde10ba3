// SPDX-License-Identifier: Apache-2.0
//
// Block quantizers of the oracle: scale rules, tiles, two-level NVFP4 scales. One matrix at a time, one tile at a time,
// every FP32 rounding of a rule spelled out with the exact operations of exact.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "formats.hpp"
#include "transforms.hpp"

namespace ng_oracle {

enum class ScaleRule {
  floor,
  ceil,
  even,
  rceil,  // powers of two, OCP MX and its variants
  absmax,
  absmax_pow2,
  msamp_pow2,  // amax / M
  te_v2_14,
  te_v2_13,
  nvfp4_paper,  // NVFP4, tensor scale and E4M3 block scale
  four_over_six_mae,
  four_over_six_mse,  // NVFP4, the better of two block scales
  ao_one_level,
  ao_two_level,  // torchao's NVFP4
};

enum class ScaleFormat { e8m0, e4m3, f32 };

struct BlockSpec {
  std::string element = "e2m1";
  std::size_t tile_rows = 1;   ///< 0: all rows
  std::size_t tile_cols = 32;  ///< 0: all columns
  ScaleFormat scale_format = ScaleFormat::e8m0;
  ScaleRule rule = ScaleRule::floor;
  EncodeChoices encode;
  double e4m3_max = 448;               ///< four_over_six only
  bool divide = false;                 ///< absmax: x / fp32(amax / M) instead of x * fp32(M / amax)
  float amax_floor = 0;                ///< absmax rules: amax is at least this
  std::uint32_t infinite_code = 0xFF;  ///< E8M0 byte of an amax that is not finite
  std::size_t hadamard = 0;            ///< group size of the transform before quantizing; 0: none
  HadamardSigns hadamard_signs = HadamardSigns::none;
  HadamardOrder hadamard_order = HadamardOrder::butterfly;
  HadamardResult hadamard_result = HadamardResult::bf16;
  std::uint32_t hadamard_seed = 0;  ///< of `seeded` signs
  /// Random field of an element by its row-major index; needed for stochastic rounding.
  std::function<std::uint32_t(std::size_t row, std::size_t col)> random;
};

/// One tensor's quantization. Codes and decoded values are row-major [rows, cols]; scales [tile rows, tile columns].
struct Quantized {
  std::size_t rows = 0, cols = 0, scale_rows = 0, scale_cols = 0;
  std::vector<std::uint32_t> codes;
  std::vector<std::uint32_t> scale_codes;  ///< FP32 scales: their bits
  std::vector<float> scales;               ///< value of each scale code; NaN for an E8M0 0xFF
  std::vector<float> decoded;
  std::vector<float> largest;  ///< per tile: largest magnitude that the tile can hold
  bool two_level = false;
  float tensor_scale = 1;  ///< decode scale D, FP32
  float tensor_amax = 0;
};

/// Largest magnitude; NaN if any value is NaN.
float amax_of(const std::vector<float>& x);

/// E8M0 byte of an amax under the four MX rules; 0xFF where amax, or amax rounded by `even`, is not finite.
std::uint32_t e8m0_scale(ScaleRule rule, const Format& element, float amax);

/// Quantizes x [rows, cols], transformed first where the spec says so. The tensor amax of two-level rules is that of
/// the (transformed) x.
Quantized quantize(const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& spec);

/// Transpose of a row-major [rows, cols] matrix.
template <class T>
std::vector<T> transposed(const std::vector<T>& x, std::size_t rows, std::size_t cols) {
  std::vector<T> y(x.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) y[c * rows + r] = x[r * cols + c];
  }
  return y;
}

}  // namespace ng_oracle
