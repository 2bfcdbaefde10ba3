// SPDX-License-Identifier: Apache-2.0
//
// Which arithmetic of an H100's tensor core a product of two operands gets: BF16 or FP8 steps, where the scales enter,
// and what no such product exists for. The choice follows from the specs alone, never from data.
//
// * An operand's block scales ride on its codes (E8M0, E4M3, and FP32 powers of two inside a step of 128): the carrier
//   then holds code times scale as BF16 numbers. FP32 scales that are constant along k, or over whole steps of 128,
//   stay outside and are applied as ScaleMode says; so does the tensor scale of a two-level format, after the sums.
// * FP8 steps where both operands are E4M3 or E5M2 codes without riding scales, or E2M1 codes that the recipe carries
// as
//   E4M3. Everything else runs in BF16 steps. `outer` scales of BF16 steps are applied by us in the same order:
//   cuBLASLt has them for FP8 only.
// * FP32 operands have no tensor-core product; they need Accumulate::fp32_chain.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng {

/// Where an operand's scales are when its numbers enter the steps.
enum class OutsideScale : std::uint8_t { none, tensor, row, block };

struct CarriedOperandSpec {
  bool fp8 = false;        ///< the numbers are its codes, in the element's own format or E2M1 carried as E4M3
  bool rides = false;      ///< the numbers are code times block scale
  bool fits_bf16 = false;  ///< significands of the numbers fit BF16's 8 bits
  OutsideScale outside = OutsideScale::none;
};

constexpr bool has_power_of_two_scales(const QuantizerSpec& q) {
  return q.scale_format == ScaleFormat::e8m0 || q.rule == ScaleRule::absmax_pow2 || q.rule == ScaleRule::msamp_pow2;
}

constexpr CarriedOperandSpec carried_operand(OperandKind kind, const QuantizerSpec& q, Carrier carrier) {
  CarriedOperandSpec carried;
  if (kind != OperandKind::quantized) {
    carried.fits_bf16 = kind == OperandKind::bf16;
    return carried;
  }
  int significand = q.element.mantissa_bits + 1;
  if (q.scale_format == ScaleFormat::f32) {
    if (q.tile_cols == 0)
      carried.outside = q.tile_rows == 0 ? OutsideScale::tensor : OutsideScale::row;
    else if (q.tile_cols % kScaleBlock == 0)
      carried.outside = OutsideScale::block;
    else
      carried.rides = true;
    if (carried.rides && !has_power_of_two_scales(q)) significand = 24;
  } else if (q.scale_format != ScaleFormat::none) {
    carried.rides = true;
    if (q.scale_format == ScaleFormat::e4m3) significand += 4;
    if (needs_tensor_amax(q.rule)) carried.outside = OutsideScale::tensor;
  }
  carried.fits_bf16 = significand <= 8;
  carried.fp8 = !carried.rides && (q.element_id == FormatId::e4m3 || q.element_id == FormatId::e5m2 ||
                                   (q.element_id == FormatId::e2m1 && carrier == Carrier::e4m3));
  return carried;
}

/// `fp32_operand`: an operand is FP32. `significand`: a BF16 carrier cannot hold codes or codes times scales.
/// `block_scales`: FP32 scales that vary along k, with BF16 steps. `fast_block_scales`: the same with fast
/// accumulation, which has no point at which to apply them.
enum class HopperRefusal : std::uint8_t { none, fp32_operand, significand, block_scales, fast_block_scales };

enum class HopperSteps : std::uint8_t { fp32_chain, bf16, fp8 };

struct HopperProduct {
  HopperRefusal refusal = HopperRefusal::none;
  HopperSteps steps = HopperSteps::fp32_chain;
  ScaleMode scales = ScaleMode::none;
  CarriedOperandSpec a, b;
  TensorCoreSpec core{};  ///< of bf16 and fp8 steps; output FP32, one split
};

constexpr HopperProduct hopper_product(const GemmSpec& spec) {
  HopperProduct p;
  if (spec.accumulate == Accumulate::fp32_chain) return p;
  p.a = carried_operand(spec.a.kind, spec.a.quantizer, spec.carrier);
  p.b = carried_operand(spec.b.kind, spec.b.quantizer, spec.carrier);
  const auto refused = [&](HopperRefusal why) {
    p.refusal = why;
    return p;
  };
  if (spec.a.kind == OperandKind::f32 || spec.b.kind == OperandKind::f32) return refused(HopperRefusal::fp32_operand);
  p.steps = p.a.fp8 && p.b.fp8 ? HopperSteps::fp8 : HopperSteps::bf16;
  const auto any = [&](OutsideScale where) { return p.a.outside == where || p.b.outside == where; };
  if (p.steps == HopperSteps::bf16) {
    // Powers of two over whole steps can ride as well.
    for (CarriedOperandSpec* operand : {&p.a, &p.b}) {
      const QuantizerSpec& q = operand == &p.a ? spec.a.quantizer : spec.b.quantizer;
      if (operand->outside != OutsideScale::block || !has_power_of_two_scales(q)) continue;
      operand->outside = OutsideScale::none;
      operand->rides = true;
    }
    if (any(OutsideScale::block)) return refused(HopperRefusal::block_scales);
    if (!p.a.fits_bf16 || !p.b.fits_bf16) return refused(HopperRefusal::significand);
  }
  if (any(OutsideScale::block)) {
    // One scale of B for 128 of its rows is the kernel of 128x128 weights; other tiles are written out row by row.
    p.scales = p.b.outside == OutsideScale::block && spec.b.quantizer.tile_rows == kScaleBlock
                   ? ScaleMode::block_128x128
                   : ScaleMode::block_1x128;
    if (spec.accumulate == Accumulate::fast) return refused(HopperRefusal::fast_block_scales);
  } else if (any(OutsideScale::row)) {
    p.scales = ScaleMode::outer;
  } else if (any(OutsideScale::tensor)) {
    p.scales = ScaleMode::tensor;
  }
  const FormatId type = p.steps == HopperSteps::fp8 ? FormatId::e4m3 : FormatId::bf16;
  p.core.accumulator = find_accumulator("hopper", type, type, StepResult::fp32_toward_zero)->spec;
  p.core.promotion = p.steps == HopperSteps::fp8 && spec.accumulate == Accumulate::promoted ? kScaleBlock : 0;
  p.core.scales = p.scales;
  return p;
}

}  // namespace ng
