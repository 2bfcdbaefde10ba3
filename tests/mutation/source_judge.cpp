// SPDX-License-Identifier: Apache-2.0
//
// The headers of the numerics before the oracle, in one small program without libraries: what run_source_mutants.sh
// builds for every changed header. Prints which comparison failed and ends with 1, or with 0 when all are equal.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "dots.hpp"
#include "narrowgauge/numerics/gradient_estimator.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/outlier_split.hpp"
#include "oracle/blocks.hpp"
#include "oracle/estimator.hpp"
#include "oracle/outliers.hpp"
#include "unit/numerics_vs_oracle/choices.hpp"
#include "unit/numerics_vs_oracle/matrices.hpp"

namespace {

using ng_oracle::bits_of;
using ng_test::program;

void expect(bool equal, const char* what, std::string_view of) {
  if (equal) return;
  std::printf("%s\t%.*s\n", what, static_cast<int>(of.size()), of.data());
  std::exit(1);
}

void judge_casts() {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    for (std::uint32_t code = 0; code < o.values.size(); ++code)
      expect(bits_of(ng::decode(f.format, code)) == ng_oracle::decode_f32_bits(o, code), "decode", f.name);
    std::vector<float> inputs = ng_test::boundary_inputs(o);
    for (const float x : ng_test::random_bits_inputs(3000, 2)) inputs.push_back(x);
    inputs.insert(inputs.end(), {INFINITY, -INFINITY, 0.0F, -0.0F, NAN, -NAN});
    ng_oracle::EncodeChoices c;
    for (int variant = 0; variant < 24; ++variant) {
      c.rounding = static_cast<ng_oracle::Rounding>(variant % 5);
      c.overflow = static_cast<ng_oracle::Overflow>(variant % 2);
      c.zero_sign = static_cast<ng_oracle::ZeroSign>(variant % 3);
      c.nan = o.has_nan ? (variant % 7 == 0 && (o.name == "e4m3" || o.name == "e5m2") ? ng_oracle::NanRule::cuda
                                                                                      : ng_oracle::NanRule::quiet)
                        : static_cast<ng_oracle::NanRule>(3 + variant % 3);
      c.stochastic_bits = variant < 8 ? 8 : variant < 16 ? 16 : 32;
      std::uint32_t draw = 1;
      for (const float x : inputs) {
        draw = draw * 1664525U + 1013904223U;
        c.random = c.stochastic_bits == 32 ? draw : draw >> (32 - c.stochastic_bits);
        if (draw % 5 == 0) c.random = 0;
        const std::uint32_t got =
            f.id == ng::FormatId::e8m0 ? ng::cast_to_e8m0(x) : ng::encode(f.format, program(c), x, c.random);
        expect(got == ng_oracle::encode(o, x, c).value(), "encode", f.name);
      }
    }
  }
}

/// One matrix by the scalar functions, tile by tile, before the oracle's quantizer.
void judge_quantizer(const char* name, ng::QuantizerSpec spec, const ng_oracle::BlockSpec& block) {
  const std::size_t rows = 4, cols = 80;
  for (const std::string& kind : ng_test::matrix_kinds()) {
    if (kind == "with_nan" && spec.scale_format == ng::ScaleFormat::e4m3) continue;
    const std::vector<float> x = ng_test::matrix(kind, rows, cols, 9);
    const ng_oracle::Quantized expected = ng_oracle::quantize(x, rows, cols, block);
    const ng::TensorScale tensor = ng::tensor_scale(spec, bits_of(ng_oracle::amax_of(x)));
    if (expected.two_level) expect(bits_of(tensor.decode) == bits_of(expected.tensor_scale), "tensor scale", name);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t t = 0; t < expected.scale_cols; ++t) {
        const std::size_t first = t * block.tile_cols, end = std::min(cols, first + block.tile_cols);
        const std::vector<float> tile(&x[r * cols + first], &x[r * cols] + end);
        const ng::TileScale scale = ng::tile_scale(spec, bits_of(ng_oracle::amax_of(tile)), tensor);
        expect(scale.code == expected.scale_codes[r * expected.scale_cols + t], "tile scale", name);
        for (std::size_t c = first; c < end; ++c) {
          const std::uint32_t code = ng::encode_scaled(spec, scale, x[r * cols + c]);
          expect(code == expected.codes[r * cols + c], "code", name);
          expect(bits_of(ng::decode_scaled(spec, scale.decode, tensor.decode, code)) ==
                     bits_of(expected.decoded[r * cols + c]),
                 "decoded", name);
        }
      }
    }
  }
}

void judge_quantizers() {
  using P = ng::ScaleRule;
  using O = ng_oracle::ScaleRule;
  struct Case {
    const char* name;
    P ours;
    O oracles;
    ng::ScaleFormat scale;
    const char* element;
    std::size_t tile;
  };
  const auto e8m0 = ng::ScaleFormat::e8m0, f32 = ng::ScaleFormat::f32, e4m3 = ng::ScaleFormat::e4m3;
  for (const char* element : {"e2m1", "e4m3", "e5m2", "int8"}) {
    const Case cases[] = {{"floor", P::floor, O::floor, e8m0, element, 32},
                          {"ceil", P::ceil, O::ceil, e8m0, element, 32},
                          {"even", P::even, O::even, e8m0, element, 32},
                          {"rceil", P::rceil, O::rceil, e8m0, element, 32},
                          {"absmax", P::absmax, O::absmax, f32, element, 80},
                          {"absmax_pow2", P::absmax_pow2, O::absmax_pow2, f32, element, 80},
                          {"msamp_pow2", P::msamp_pow2, O::msamp_pow2, f32, element, 80},
                          {"te_v2_14", P::te_v2_14, O::te_v2_14, e4m3, "e2m1", 16},
                          {"te_v2_13", P::te_v2_13, O::te_v2_13, e4m3, "e2m1", 16},
                          {"nvfp4_paper", P::nvfp4_paper, O::nvfp4_paper, e4m3, "e2m1", 16},
                          {"ao_one_level", P::ao_one_level, O::ao_one_level, e4m3, "e2m1", 16},
                          {"ao_two_level", P::ao_two_level, O::ao_two_level, e4m3, "e2m1", 16}};
    for (const Case& c : cases) {
      ng_oracle::BlockSpec block;
      block.element = c.element;
      block.tile_cols = c.tile;
      block.rule = c.oracles;
      block.scale_format = c.scale == e8m0  ? ng_oracle::ScaleFormat::e8m0
                           : c.scale == f32 ? ng_oracle::ScaleFormat::f32
                                            : ng_oracle::ScaleFormat::e4m3;
      if (!ng_oracle::format(c.element).has_nan) block.encode.nan = ng_oracle::NanRule::zero;
      ng::QuantizerSpec spec;
      for (const ng::NamedFormat& f : ng::format_catalog()) {
        if (std::string(c.element) == f.name) spec = ng::bare_cast(f.id);
      }
      spec.scale_format = c.scale;
      spec.rule = c.ours;
      spec.cast = program(block.encode);
      judge_quantizer(c.name, spec, block);
      if (c.scale != f32 || c.ours != P::absmax) continue;
      block.divide = true;
      block.amax_floor = 1e-4F;
      spec.application = ng::ScaleApplication::divide;
      spec.amax_floor = 1e-4F;
      judge_quantizer("absmax divide", spec, block);
    }
  }
}

/// Block scales under the orders of rounding that matrices seldom tell apart.
void judge_orders() {
  for (std::uint32_t tensor = 0x42000000; tensor < 0x42800000; tensor += 0x10000) {
    for (std::uint32_t tile = 0x3F000000; tile < 0x42000000; tile += 0x10000) {
      for (const ng::ScaleRule rule :
           {ng::ScaleRule::te_v2_14, ng::ScaleRule::te_v2_13, ng::ScaleRule::four_over_six}) {
        const bool newer = rule == ng::ScaleRule::te_v2_14;
        ng::QuantizerSpec spec = ng::preset_literals::nvfp4(1, ng::ZeroSign::exact_positive);
        spec.rule = rule;
        const ng::TileScale got = ng::tile_scale(spec, tile, ng::tensor_scale(spec, tensor));
        const float s = ng_oracle::f32_div(2688.0F, ng_oracle::float_of(tensor)), a = ng_oracle::float_of(tile);
        const float raw = newer ? ng_oracle::f32_mul(a, ng_oracle::f32_mul(s, ng_oracle::f32_div(1.0F, 6.0F)))
                                : ng_oracle::f32_mul(ng_oracle::f32_div(a, 6.0F), s);
        const auto code = ng_oracle::encode(ng_oracle::format("e4m3"), ng_oracle::f32_min(raw, 448.0F));
        expect(got.code == code, "order of rounding", newer ? "te_v2_14" : "te_v2_13 or four_over_six");
      }
    }
  }
}

/// Scales of one element: amaxes at powers of two, multiples of the largest element and their FP32 neighbours.
void judge_scales() {
  using O = ng_oracle::ScaleRule;
  for (const ng::FormatId id : {ng::FormatId::e2m1, ng::FormatId::e4m3, ng::FormatId::e5m2, ng::FormatId::e3m2}) {
    const ng_oracle::Format& f = ng_oracle::format(ng::name_of(id));
    std::vector<float> amaxes = {INFINITY, 0.0F};
    for (int e = -149; e <= 127; ++e) {
      for (const double factor : {1.0, 1.5, 1.75, 1.9375, f.largest, (f.largest + f.beyond) / 2}) {
        if (std::ldexp(factor, e) < 3.4e38) ng_test::push_around(amaxes, std::ldexp(factor, e));
      }
    }
    for (std::uint32_t i = 0x3F80; i < 0x4080; ++i) amaxes.push_back(ng_oracle::float_of(i << 16));
    for (float& amax : amaxes) amax = std::fabs(amax);
    ng::QuantizerSpec spec = ng::bare_cast(id);
    for (int rule = 0; rule < 7; ++rule) {
      const bool e8m0 = rule < 4;
      spec.scale_format = e8m0 ? ng::ScaleFormat::e8m0 : ng::ScaleFormat::f32;
      spec.rule = static_cast<ng::ScaleRule>(rule + 1);
      ng_oracle::BlockSpec block;
      block.element = f.name;
      block.tile_cols = 1;
      block.scale_format = e8m0 ? ng_oracle::ScaleFormat::e8m0 : ng_oracle::ScaleFormat::f32;
      block.rule = static_cast<O>(rule);
      if (!f.has_nan) block.encode.nan = ng_oracle::NanRule::zero;
      for (const float amax : amaxes) {
        const std::uint32_t expected =
            e8m0 ? ng_oracle::e8m0_scale(block.rule, f, amax) : ng_oracle::quantize({amax}, 1, 1, block).scale_codes[0];
        expect(ng::tile_scale(spec, bits_of(amax), {}).code == expected, "scale of an amax", f.name);
      }
    }
  }
}

void judge_transforms() {
  std::vector<float> x = ng_test::matrix("wide", 1, 256, 3);
  for (int i = 0; i < 1024; ++i) x.push_back(static_cast<float>(i * 397 % 2048 - 1024));  // sums that tie in BF16
  for (int size = 2; size <= 128; size *= 2) {
    for (int i = 0; i < 12; ++i) {
      ng::HadamardSpec spec;
      spec.size = static_cast<std::int16_t>(size);
      spec.signs = static_cast<ng::HadamardSigns>(i % 3);
      if (spec.signs == ng::HadamardSigns::te_fixed && size != 16) continue;
      spec.order = static_cast<ng::HadamardOrder>(i % 2);
      spec.result = static_cast<ng::HadamardResult>(i / 6);
      std::vector<float> got = x;
      for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(size))
        ng::hadamard_transform(spec, ng::hadamard_sign_mask(spec, 5), &got[at]);
      const auto expected = ng_oracle::hadamard(
          x, 1, x.size(), static_cast<std::size_t>(size), static_cast<ng_oracle::HadamardSigns>(i % 3),
          static_cast<ng_oracle::HadamardOrder>(i % 2), static_cast<ng_oracle::HadamardResult>(i / 6), 5);
      for (std::size_t k = 0; k < x.size(); ++k)
        expect(bits_of(got[k]) == bits_of(expected[k]), "hadamard", std::to_string(size));
    }
  }
}

void judge_draws() {
  const ng::RandomStream stream{9, ng::RandomPurpose::stochastic_rounding, 0xABC, 4};
  for (std::uint64_t i = 0; i < 3000; ++i) {
    for (const int bits : {8, 16, 32}) {
      const std::uint64_t element = i % 3 == 0 ? i << 33 : i;
      expect(ng::random_draw(stream, element, bits) == ng_oracle::element_draw(9, 3, 0xABC, 4, element, bits), "draw",
             std::to_string(bits));
    }
  }
}

void judge_accumulators() {
  for (const ng::AccumulatorRow& row : ng::accumulator_catalog()) {
    for (const ng_mutation::Dot& d : ng_mutation::dots_of(row)) {
      const float expected = ng_oracle::dot(ng_mutation::oracle_accumulator(row.spec), d.in, d.c);
      expect(bits_of(ng_mutation::program_dot(row.spec, d)) == bits_of(expected), "accumulator", row.arithmetic);
    }
  }
}

void judge_estimator() {
  const ng_oracle::Format& o = ng_oracle::format("e2m1");
  const ng::ElementFormat f = ng::format_of(ng::FormatId::e2m1);
  for (int variant = 0; variant < 6; ++variant) {
    ng_oracle::EstimatorChoices c;
    c.beyond = static_cast<ng_oracle::Beyond>(variant % 3);
    c.normalize = variant >= 3;
    ng::EstimatorSpec spec;
    spec.kind = ng::EstimatorKind::differentiable;
    spec.beyond = static_cast<ng::EstimatorBeyond>(variant % 3);
    spec.mean = c.normalize ? ng::EstimatorMean::normalized : ng::EstimatorMean::as_published;
    const ng::EstimatorConstants constants = ng::estimator_constants(f, spec);
    for (int i = -1800; i <= 1800; ++i) {
      const float x = static_cast<float>(i) / 256;
      const long double expected = ng_oracle::dge_factor(o, c, x);
      const long double got = static_cast<long double>(ng::estimator_factor(f, spec, constants, x));
      // Beyond the grid `one` is never normalized on either side's word but the oracle's: left to the unit test.
      if (c.beyond == ng_oracle::Beyond::one && std::fabs(x) > 6) continue;
      expect(std::fabs(got - expected) <= std::fabs(expected) * 0x1p-23L, "estimator", std::to_string(variant));
    }
  }
}

void judge_packing() {
  std::uint8_t row[4] = {0, 0, 0, 0};
  for (std::size_t i = 0; i < 3; ++i)
    ng::store_code(row, ng::CodeStorage::nibble, i, static_cast<std::uint32_t>(i + 1));
  expect(row[0] == 0x21 && row[1] == 0x03, "packing", "nibbles");
  ng::store_code(row, ng::CodeStorage::half, 1, 0xABCD);
  expect(row[2] == 0xCD && row[3] == 0xAB && ng::load_code(row, ng::CodeStorage::half, 1) == 0xABCD, "packing",
         "halves");
  for (std::size_t i = 0; i < 2; ++i)
    expect(ng::load_code(row, ng::CodeStorage::nibble, i) == i + 1, "packing", "load");
  expect(ng::packed_row_bytes(ng::CodeStorage::nibble, 3) == 2, "packing", "odd row");
}

void judge_outliers() {
  const std::size_t n = 200;
  const std::vector<float> x = ng_test::matrix("outlier", 1, n, 2);
  for (const double quantile : {0.99, 0.9, 0.6}) {
    const ng_oracle::OutlierSplit split = ng_oracle::split_outliers(x, 1, n, quantile, false, "bf16");
    std::vector<std::uint32_t> keys;
    for (const float v : x) keys.push_back(ng::sort_key(v));
    std::sort(keys.begin(), keys.end());
    const ng::OutlierRanks ranks = ng::outlier_ranks(quantile, static_cast<std::int64_t>(n));
    const ng::OutlierBounds bounds{ng::value_of_sort_key(keys[static_cast<std::size_t>(ranks.low)]),
                                   ng::value_of_sort_key(keys[static_cast<std::size_t>(ranks.high)])};
    std::size_t next = 0;
    for (std::size_t i = 0; i < n; ++i) {
      expect(bits_of(ng::clamp_outlier(bounds, x[i])) == bits_of(split.clamped[i]), "outlier", "clamp");
      if (!ng::is_outlier(bounds, x[i])) continue;
      expect(next < split.codes.size() &&
                 ng::residual_code(ng::format_of(ng::FormatId::bf16), bounds, x[i]) == split.codes[next],
             "outlier", "residual");
      ++next;
    }
    expect(next == split.codes.size(), "outlier", "count");
  }
}

}  // namespace

int main() {
  judge_packing();
  judge_draws();
  judge_outliers();
  judge_casts();
  judge_quantizers();
  judge_orders();
  judge_scales();
  judge_transforms();
  judge_estimator();
  judge_accumulators();
  return 0;
}
