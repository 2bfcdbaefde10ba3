// SPDX-License-Identifier: Apache-2.0
//
// One element of D = A B^T as a tensor-core kernel computes it: chains of accumulator steps, their promotion to FP32,
// scales, split K, output rounding, in the order that cuBLASLt 13.1's kernels on an H100 were measured to use
// (data/golden/h100_gemm.h5). Another kernel may use another order: it is part of the specification here.
//
// Measured too: NaN results are 0x7FFFFFFF in FP32 and 0x7FFF in BF16 and FP16; scales that multiply to zero give +0.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/accumulator.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng {

/// Which FP32 scales a product has and where they enter; A is [M, K], B is [N, K].
/// `tensor`: fma(result, fp32(scale_a * scale_b), +0). `outer`: (result * scale_b[n]) * scale_a[m].
/// `block_1x128`, per 128 of K: total = fma(fp32(chain * scale_a[m][k/128]), scale_b[n][k/128], total).
/// `block_128x128`, per 128 of K: total = fma(chain, fp32(scale_a[m][k/128] * scale_b[n/128][k/128]), total).
enum class ScaleMode : std::uint8_t { none, tensor, outer, block_1x128, block_128x128 };

constexpr std::int64_t kScaleBlock = 128;

constexpr bool is_blockwise(ScaleMode mode) {
  return mode == ScaleMode::block_1x128 || mode == ScaleMode::block_128x128;
}

enum class ProductOutput : std::uint8_t { f32, bf16, f16 };

struct TensorCoreSpec {
  AccumulatorSpec accumulator;
  /// 0: one chain over all of K. Else a fresh chain for every so many values of k, added to an FP32 total, to nearest.
  std::int32_t promotion = 0;
  ScaleMode scales = ScaleMode::none;
  /// K is cut into tiles of split_tile; each of `splits` parts takes ceil(tiles / splits) consecutive ones and is a
  /// product of its own; empty parts drop out; the parts are added in FP32, to nearest, in k order.
  std::int32_t splits = 1;
  std::int32_t split_tile = 64;
  ProductOutput output = ProductOutput::f32;

  friend constexpr bool operator==(const TensorCoreSpec&, const TensorCoreSpec&) = default;
};

/// Scales of one element: of A's row and of B's, one for each 128 values of k where the mode is blockwise.
struct ElementScales {
  const float* a = nullptr;
  const float* b = nullptr;
};

/// FP32 product or fma with the NaN that a GPU writes.
NG_HD float gpu_mul(float a, float b) {
  const float product = mul_rn(a, b);
  return is_nan_bits(bits_of(product)) ? float_of(kTensorCoreNanBits) : product;
}
NG_HD float gpu_fma(float a, float b, float c) {
  const float sum = fma_rn(a, b, c);
  return is_nan_bits(bits_of(sum)) ? float_of(kTensorCoreNanBits) : sum;
}

/// `total` with one promoted chain over 128-blocks' scales number `block`.
NG_HD float promoted(ScaleMode mode, float chain, const ElementScales& scales, std::int64_t block, float total) {
  if (mode == ScaleMode::block_1x128) return gpu_fma(gpu_mul(chain, scales.a[block]), scales.b[block], total);
  if (mode == ScaleMode::block_128x128) return gpu_fma(chain, gpu_mul(scales.a[block], scales.b[block]), total);
  return gpu_add(total, chain);
}

/// Values of k in one part of a split product.
NG_HD constexpr std::int64_t split_length(const TensorCoreSpec& spec, std::int64_t k) {
  if (spec.splits <= 1) return k;
  const std::int64_t tiles = (k + spec.split_tile - 1) / spec.split_tile;
  return (tiles + spec.splits - 1) / spec.splits * spec.split_tile;
}

/// What is done to the FP32 sum of an element at the end: scales that are not blockwise. Rounding to the output's type
/// is left to `output_bits`.
NG_HD float scaled_result(ScaleMode mode, float sum, const ElementScales& scales) {
  if (mode == ScaleMode::tensor) return gpu_fma(sum, gpu_mul(*scales.a, *scales.b), 0.0f);
  if (mode == ScaleMode::outer) return gpu_mul(gpu_mul(sum, *scales.b), *scales.a);
  return sum;
}

/// Bits of the result in the output's type: FP32's, or BF16's or FP16's in the low half. To nearest even; beyond the
/// type is an infinity.
NG_HD std::uint32_t output_bits(ProductOutput output, float value) {
  const std::uint32_t bits = bits_of(value);
  if (output == ProductOutput::f32) return bits;
  if (is_nan_bits(bits)) return 0x7fffu;
  if (output == ProductOutput::bf16) return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  constexpr ElementFormat fp16 = kFormatOf<FormatId::fp16>;
  CastChoices to_nearest;
  to_nearest.overflow = Overflow::nonfinite;
  return encode(fp16, to_nearest, value);
}

/// The FP32 number that these bits of the output's type are; NaN bits are widened as they stand.
NG_HD float output_value(ProductOutput output, std::uint32_t bits) {
  if (output == ProductOutput::f32) return float_of(bits);
  if (output == ProductOutput::bf16) return float_of(bits << 16);
  if ((bits & 0x7fffu) > 0x7c00u) return float_of((bits & 0x8000u) << 16 | kInfinityBits | (bits & 0x3ffu) << 13);
  constexpr ElementFormat fp16 = kFormatOf<FormatId::fp16>;
  return decode(fp16, bits);
}

/// One element before output_bits. `in` points at the row of A and the row of B; spec.promotion is a multiple of the
/// accumulator's instruction_k, and 128 where scales are blockwise; split_tile is a multiple of both.
NG_HD float tensor_core_element(const TensorCoreSpec& spec, const StepOperands& in, const ElementScales& scales,
                                std::int64_t k, std::int64_t scale_k = 1) {
  const std::int64_t length = split_length(spec, k);
  float total = 0.0f;
  for (std::int64_t begin = 0; begin < k; begin += length) {
    const std::int64_t end = begin + length < k ? begin + length : k;
    float part = 0.0f;
    if (spec.promotion == 0) {
      part = accumulate(spec.accumulator, in, begin, end, 0.0f, scale_k);
    } else {
      for (std::int64_t at = begin; at < end; at += spec.promotion) {
        const std::int64_t stop = at + spec.promotion < end ? at + spec.promotion : end;
        const float chain = accumulate(spec.accumulator, in, at, stop, 0.0f, scale_k);
        part = promoted(spec.scales, chain, scales, at / kScaleBlock, part);
      }
    }
    total = begin == 0 ? part : gpu_add(total, part);
  }
  return scaled_result(spec.scales, total, scales);
}

}  // namespace ng
