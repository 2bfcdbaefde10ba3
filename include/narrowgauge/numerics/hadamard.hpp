// SPDX-License-Identifier: Apache-2.0
//
// The Hadamard transform of a group of n values along the contraction axis: y_j = sum_k x_k * (s_k * H[k][j] /
// sqrt(n)), H in Sylvester order. Signs act on the inputs, 1/sqrt(n) is applied before the sums. Applied to both
// operands of a product it cancels; on one it would be a silently wrong product, so it is a field of the GEMM. Source:
// arXiv 2509.25149 section 4; Transformer Engine's reference for `te_fixed`.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

constexpr int kLargestHadamard = 128;

enum class HadamardSigns : std::uint8_t { none, te_fixed, seeded };
/// Order of the FP32 sums: `serial` in k order, `butterfly` with strides 1, 2, 4, ... on the pre-scaled inputs.
enum class HadamardOrder : std::uint8_t { serial, butterfly };
/// What the result is rounded to before amax and encoding. `bf16` is Transformer Engine's.
enum class HadamardResult : std::uint8_t { bf16, f32 };

/// Plain data; size 0 means no transform. Else 2, 4, ..., 128.
struct HadamardSpec {
  std::int16_t size = 0;
  HadamardSigns signs = HadamardSigns::none;
  HadamardOrder order = HadamardOrder::butterfly;
  HadamardResult result = HadamardResult::bf16;

  friend constexpr bool operator==(const HadamardSpec&, const HadamardSpec&) = default;
};

/// Bit k set: input k of a group is negated. Transformer Engine's fixed 16 signs.
constexpr std::uint32_t kTransformerEngineSigns = 0xD7E8u;

/// One bit per input of a group.
struct HadamardSignMask {
  std::uint32_t word[4] = {0, 0, 0, 0};
};

/// Sign mask of a spec. `seeded` draws it once per run: block 0 of (seed, hadamard_signs, tensor id 0, step 0).
NG_HD constexpr HadamardSignMask hadamard_sign_mask(const HadamardSpec& spec, std::uint32_t seed) {
  HadamardSignMask mask;
  if (spec.signs == HadamardSigns::te_fixed) mask.word[0] = kTransformerEngineSigns;
  if (spec.signs == HadamardSigns::seeded) {
    const PhiloxBlock block = random_block(RandomStream{seed, RandomPurpose::hadamard_signs, 0, 0}, 0);
    for (int i = 0; i < 4; ++i) mask.word[i] = block.word[i];
  }
  return mask;
}

NG_HD constexpr bool hadamard_negates(const HadamardSignMask& mask, int k) {
  return ((mask.word[k >> 5] >> (k & 31)) & 1u) != 0;
}

/// fp32(1/sqrt(n)); exact for n = 4, 16, 64.
NG_HD float hadamard_scale(int n) {
  return div_rn(1.0f, sqrt_rn(static_cast<float>(n)));
}

/// FP32 rounded to nearest even BF16 and widened again; NaN stays NaN.
NG_HD constexpr float round_to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  if (is_nan_bits(bits)) return float_of((bits & kSignBit) | kQuietNanBits);
  return float_of((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

/// The value of an output. A NaN that the sums made has no sign: machines disagree on it.
NG_HD float hadamard_result(const HadamardSpec& spec, float sum) {
  if (is_nan_bits(bits_of(sum))) return float_of(kQuietNanBits);
  return spec.result == HadamardResult::bf16 ? round_to_bf16(sum) : sum;
}

/// Transforms x[0..n) in place.
NG_HD void hadamard_transform(const HadamardSpec& spec, const HadamardSignMask& mask, float* x) {
  const int n = spec.size;
  const float scale = hadamard_scale(n);
  for (int k = 0; k < n; ++k) x[k] = mul_rn(x[k], hadamard_negates(mask, k) ? -scale : scale);
  if (spec.order == HadamardOrder::butterfly) {
    for (int stride = 1; stride < n; stride *= 2) {
      for (int k = 0; k < n; ++k) {
        if ((k & stride) != 0) continue;
        const float a = x[k];
        const float b = x[k + stride];
        x[k] = add_rn(a, b);
        x[k + stride] = sub_rn(a, b);
      }
    }
  } else {
    float y[kLargestHadamard];
    for (int j = 0; j < n; ++j) {
      float sum = x[0];
      for (int k = 1; k < n; ++k) {
        std::uint32_t overlap = static_cast<std::uint32_t>(k & j);
        overlap ^= overlap >> 4;
        overlap ^= overlap >> 2;
        overlap ^= overlap >> 1;
        sum = (overlap & 1u) != 0 ? sub_rn(sum, x[k]) : add_rn(sum, x[k]);
      }
      y[j] = sum;
    }
    for (int j = 0; j < n; ++j) x[j] = y[j];
  }
  for (int j = 0; j < n; ++j) x[j] = hadamard_result(spec, x[j]);
}

}  // namespace ng
