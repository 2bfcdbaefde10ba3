// SPDX-License-Identifier: Apache-2.0
//
// The written list of quantizers that have fast kernels. A spec as compile-time constants; what is not named here is
// the default of QuantizerSpec, or read at run time.
#pragma once

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng::cuda::fast {

/// Tiles of 1 x kTileCols as quantized.
template <FormatId kElementId, ScaleFormat kScaleFormat, ScaleRule kScaleRule, int kTileCols, ZeroSign kZero>
struct ServedSpec {
  static constexpr FormatId kId = kElementId;
  static constexpr ScaleFormat kScale = kScaleFormat;
  static constexpr ScaleRule kRule = kScaleRule;
  static constexpr int kTile = kTileCols;
  static constexpr ZeroSign kZeroSign = kZero;
  static constexpr int kBits = kElementId == FormatId::e2m1 ? 4 : 8;

  static bool matches(const QuantizerSpec& spec) {
    return spec.element_id == kId && spec.element == format_of(kId) && spec.scale_format == kScale &&
           spec.rule == kRule && spec.tile_rows == 1 && spec.tile_cols == kTile && spec.cast.zero_sign == kZeroSign;
  }
};

using Mxfp4 = ServedSpec<FormatId::e2m1, ScaleFormat::e8m0, ScaleRule::floor, 32, ZeroSign::keep>;
using Mxfp4Rceil = ServedSpec<FormatId::e2m1, ScaleFormat::e8m0, ScaleRule::rceil, 32, ZeroSign::keep>;
using Mxfp8 = ServedSpec<FormatId::e4m3, ScaleFormat::e8m0, ScaleRule::floor, 32, ZeroSign::keep>;
using Mxfp8Rceil = ServedSpec<FormatId::e4m3, ScaleFormat::e8m0, ScaleRule::rceil, 32, ZeroSign::keep>;
using Mxfp8E5m2 = ServedSpec<FormatId::e5m2, ScaleFormat::e8m0, ScaleRule::floor, 32, ZeroSign::keep>;
using Nvfp4 = ServedSpec<FormatId::e2m1, ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, ZeroSign::exact_positive>;
using Nvfp4KeepZero = ServedSpec<FormatId::e2m1, ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, ZeroSign::keep>;
using Fp8Block = ServedSpec<FormatId::e4m3, ScaleFormat::f32, ScaleRule::absmax, 128, ZeroSign::keep>;
using Fp8BlockPow2 = ServedSpec<FormatId::e4m3, ScaleFormat::f32, ScaleRule::absmax_pow2, 128, ZeroSign::keep>;

/// Calls visit(Spec{}) for the served spec that `spec` is; false when there is none.
template <class Visit>
bool visit_spec(const QuantizerSpec& spec, const Visit& visit) {
  const auto one = [&]<class Spec>(Spec candidate) {
    if (!Spec::matches(spec)) return false;
    visit(candidate);
    return true;
  };
  return one(Mxfp4{}) || one(Mxfp4Rceil{}) || one(Mxfp8{}) || one(Mxfp8Rceil{}) || one(Mxfp8E5m2{}) || one(Nvfp4{}) ||
         one(Nvfp4KeepZero{}) || one(Fp8Block{}) || one(Fp8BlockPow2{});
}

}  // namespace ng::cuda::fast
