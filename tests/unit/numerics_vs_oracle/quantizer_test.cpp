// SPDX-License-Identifier: Apache-2.0
//
// Claim: the CPU backend's block quantizers give the oracle's codes, scales, tensor scale and decoded values for every
// element, scale rule, tile (ragged tails included), rounding and special-value choice, along rows and columns, on
// ordinary and hostile matrices; with one thread or two, with the baseline instruction set or a better one. Alone:
// ctest -R quantizer_vs_oracle
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "golden/golden_cases.hpp"
#include "golden/program_subject.hpp"
#include "matrices.hpp"
#include "narrowgauge/backend/registry.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;
using ng_oracle::BlockSpec;
using ng_oracle::NanRule;
using ng_oracle::Quantized;
using ng_oracle::Rounding;
using ng_oracle::ScaleFormat;
using ng_oracle::ScaleRule;
using ng_oracle::transposed;
using ng_oracle::ZeroSign;

/// Backends that must all agree; a comparison takes the next one each time.
ng::Backend& next_backend() {
  static const std::vector<std::shared_ptr<ng::Backend>> backends = [] {
    std::vector<std::shared_ptr<ng::Backend>> all;
    for (const auto& [threads, baseline] : {std::pair{1, false}, {2, false}, {1, true}}) {
      ng::BackendOptions options;
      options.threads = threads;
      options.baseline_isa = baseline;
      all.push_back(ng::make_cpu_backend(options));
    }
    return all;
  }();
  static std::size_t turn = 0;
  return *backends[turn++ % backends.size()];
}

/// Compares everything; returns false after reporting the first difference.
bool expect_same(const Quantized& got, const Quantized& expected, const std::vector<float>& x, const BlockSpec& spec,
                 const std::string& what) {
  if (got.rows != expected.rows || got.cols != expected.cols || got.scale_codes.size() != expected.scale_codes.size()) {
    ADD_FAILURE() << what << ": shapes differ; " << ng_golden::text_of(spec);
    return false;
  }
  if (expected.two_level && bits_of(got.tensor_scale) != bits_of(expected.tensor_scale)) {
    ADD_FAILURE() << what << ": tensor scale got " << std::hexfloat << got.tensor_scale << " expected "
                  << expected.tensor_scale << "; " << ng_golden::text_of(spec);
    return false;
  }
  for (std::size_t i = 0; i < expected.scale_codes.size(); ++i) {
    if (got.scale_codes[i] == expected.scale_codes[i]) continue;
    ADD_FAILURE() << what << ": scale " << i << " got " << std::hex << got.scale_codes[i] << " expected "
                  << expected.scale_codes[i] << "; " << ng_golden::text_of(spec);
    return false;
  }
  const std::size_t tile_rows = spec.tile_rows == 0 ? got.rows : spec.tile_rows;
  const std::size_t tile_cols = spec.tile_cols == 0 ? got.cols : spec.tile_cols;
  for (std::size_t i = 0; i < expected.codes.size(); ++i) {
    const std::size_t r = i / got.cols, c = i % got.cols;
    const std::size_t s = r / tile_rows * got.scale_cols + c / tile_cols;
    if (got.codes[i] != expected.codes[i]) {
      ADD_FAILURE() << ng_golden::describe(what + " code", r, c, x[i], got.codes[i], expected.codes[i],
                                           got.scale_codes[s], expected.scale_codes[s], spec);
      return false;
    }
    if (bits_of(got.decoded[i]) != bits_of(expected.decoded[i])) {
      ADD_FAILURE() << ng_golden::describe(what + " decoded bits", r, c, x[i], bits_of(got.decoded[i]),
                                           bits_of(expected.decoded[i]), got.scale_codes[s], expected.scale_codes[s],
                                           spec);
      return false;
    }
  }
  return true;
}

/// One spec on one matrix, along rows and along columns.
bool compare(const std::string& kind, std::size_t rows, std::size_t cols, const BlockSpec& spec) {
  const std::vector<float> x = matrix(kind, rows, cols, static_cast<std::uint32_t>(rows * 1000 + cols));
  for (const bool column : {false, true}) {
    ng::Backend& backend = next_backend();
    const ng::Tensor input = ng_golden::uploaded(backend, x, rows, cols);
    const Quantized got =
        ng_golden::read_back(backend, backend.quantize({}, input.view, {}, ng_golden::program_spec(spec),
                                                       column ? ng::Orientation::column : ng::Orientation::row, {}));
    const std::vector<float> laid = column ? transposed(x, rows, cols) : x;
    const Quantized expected = ng_oracle::quantize(laid, column ? cols : rows, column ? rows : cols, spec);
    const std::string what = kind + " " + std::to_string(rows) + "x" + std::to_string(cols) +
                             (column ? " column form " : " row form ") + backend.device();
    if (!expect_same(got, expected, laid, spec, what)) return false;
  }
  return true;
}

BlockSpec base(const std::string& element, ScaleFormat format, ScaleRule rule, std::size_t tile_rows,
               std::size_t tile_cols) {
  BlockSpec spec;
  spec.element = element;
  spec.scale_format = format;
  spec.rule = rule;
  spec.tile_rows = tile_rows;
  spec.tile_cols = tile_cols;
  spec.encode.nan = ng_oracle::format(element).has_nan ? NanRule::quiet : NanRule::negated_zero;
  return spec;
}

struct Tile {
  std::size_t rows, cols;
};

const char* const kElements[] = {"e2m1", "e2m3", "e3m2", "e4m3",      "e5m2",     "int8",        "e1m2",
                                 "e3m0", "e5m6", "e3m4", "e4m3_ieee", "e4m3fnuz", "e4m3b11fnuz", "e5m2fnuz"};

TEST(QuantizerVsOracle, E8m0Rules) {
  for (const char* element : kElements) {
    for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::ceil, ScaleRule::even, ScaleRule::rceil}) {
      for (const Tile tile : {Tile{1, 32}, {1, 16}, {32, 32}, {0, 0}, {1, 0}, {0, 1}, {3, 7}}) {
        for (const std::string& kind : matrix_kinds()) {
          if (!compare(kind, 19, 77, base(element, ScaleFormat::e8m0, rule, tile.rows, tile.cols))) return;
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, Fp32Rules) {
  for (const char* element : kElements) {
    for (const ScaleRule rule : {ScaleRule::absmax, ScaleRule::absmax_pow2, ScaleRule::msamp_pow2}) {
      for (const Tile tile : {Tile{1, 128}, {128, 128}, {0, 0}, {1, 0}, {0, 1}}) {
        for (const std::string& kind : matrix_kinds()) {
          if (!compare(kind, 13, 137, base(element, ScaleFormat::f32, rule, tile.rows, tile.cols))) return;
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, Fp32RulesWithDivisionAndFloor) {
  for (const char* element : {"e4m3", "e2m1"}) {
    for (const bool divide : {false, true}) {
      for (const float floor : {0.0F, 1e-10F, 1e-4F}) {
        for (const std::string& kind : matrix_kinds()) {
          BlockSpec spec = base(element, ScaleFormat::f32, ScaleRule::absmax, 1, 128);
          spec.divide = divide;
          spec.amax_floor = floor;
          if (!compare(kind, 13, 137, spec)) return;
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, Nvfp4Rules) {
  for (const ScaleRule rule :
       {ScaleRule::te_v2_14, ScaleRule::te_v2_13, ScaleRule::nvfp4_paper, ScaleRule::four_over_six_mae,
        ScaleRule::four_over_six_mse, ScaleRule::ao_one_level, ScaleRule::ao_two_level}) {
    for (const Tile tile : {Tile{1, 16}, {16, 16}, {1, 32}}) {
      for (const ZeroSign zero_sign : {ZeroSign::exact_positive, ZeroSign::keep, ZeroSign::positive}) {
        for (const std::string& kind : matrix_kinds()) {
          BlockSpec spec = base("e2m1", ScaleFormat::e4m3, rule, tile.rows, tile.cols);
          spec.encode.nan = NanRule::zero;
          spec.encode.zero_sign = zero_sign;
          if (!compare(kind, 37, 50, spec)) return;
          spec.e4m3_max = 256;
          const bool six = rule == ScaleRule::four_over_six_mae || rule == ScaleRule::four_over_six_mse;
          if (six && !compare(kind, 37, 50, spec)) return;
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, EveryCastChoice) {
  for (const char* element : kElements) {
    const bool has_nan = ng_oracle::format(element).has_nan;
    for (const Rounding rounding :
         {Rounding::nearest_even, Rounding::nearest_away, Rounding::toward_zero, Rounding::half_up}) {
      for (const auto overflow : {ng_oracle::Overflow::saturate, ng_oracle::Overflow::nonfinite}) {
        for (const ZeroSign zero_sign : {ZeroSign::keep, ZeroSign::exact_positive, ZeroSign::positive}) {
          for (const NanRule nan : has_nan ? std::vector{NanRule::quiet}
                                           : std::vector{NanRule::largest, NanRule::zero, NanRule::negated_zero}) {
            for (const std::string kind : {"ties", "wide", "signed_zeros", "with_nan"}) {
              BlockSpec spec = base(element, ScaleFormat::e8m0, ScaleRule::floor, 1, 32);
              spec.encode.rounding = rounding;
              spec.encode.overflow = overflow;
              spec.encode.zero_sign = zero_sign;
              spec.encode.nan = nan;
              if (!compare(kind, 8, 67, spec)) return;
              spec.scale_format = ScaleFormat::f32;  // NaN codes are written only where scales are not E8M0
              spec.rule = ScaleRule::absmax;
              if (!compare(kind, 8, 67, spec)) return;
            }
          }
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, HadamardBeforeQuantizing) {
  for (const std::size_t n : {2, 16, 64, 128}) {
    for (const auto order : {ng_oracle::HadamardOrder::serial, ng_oracle::HadamardOrder::butterfly}) {
      for (const auto result : {ng_oracle::HadamardResult::bf16, ng_oracle::HadamardResult::f32}) {
        for (const std::string kind : {"normal", "outlier", "subnormal", "huge", "signed_zeros"}) {
          if (n == 128 && kind != "normal") continue;  // the oracle's serial sums take their time
          BlockSpec spec = base("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 1, 16);
          spec.encode.nan = NanRule::zero;
          spec.hadamard = n;
          spec.hadamard_order = order;
          spec.hadamard_result = result;
          if (n == 16) spec.hadamard_signs = ng_oracle::HadamardSigns::te_fixed;
          if (!compare(kind, std::max<std::size_t>(n, 32), 2 * std::max<std::size_t>(n, 32), spec)) return;
        }
      }
    }
  }
}

TEST(QuantizerVsOracle, InfiniteScaleCode) {
  for (const std::string kind : {"with_inf", "huge", "normal"}) {
    for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::even, ScaleRule::rceil}) {
      BlockSpec spec = base("e2m1", ScaleFormat::e8m0, rule, 1, 32);
      spec.infinite_code = 0xFE;
      if (!compare(kind, 9, 65, spec)) return;
    }
  }
}

TEST(QuantizerVsOracle, Presets) {
  struct Preset {
    const char* name;
    const char* element;
    ScaleFormat format;
    ScaleRule rule;
    Tile tile;
  };
  // numerics.md section 2, "Block formats and scales"; defaults: floor and saturate for MX, te_v2_14 for NVFP4.
  const Preset presets[] = {{"mxfp8_e4m3", "e4m3", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"mxfp8_e5m2", "e5m2", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"mxfp6_e2m3", "e2m3", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"mxfp6_e3m2", "e3m2", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"mxfp4", "e2m1", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"mxint8", "int8", ScaleFormat::e8m0, ScaleRule::floor, {1, 32}},
                            {"nvfp4", "e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, {1, 16}},
                            {"nvfp4_2d", "e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, {16, 16}},
                            {"fp8_1x128", "e4m3", ScaleFormat::f32, ScaleRule::absmax, {1, 128}},
                            {"fp8_128x128", "e4m3", ScaleFormat::f32, ScaleRule::absmax, {128, 128}},
                            {"fp8_tensor", "e4m3", ScaleFormat::f32, ScaleRule::absmax, {0, 0}},
                            {"fp8_tensor_e5m2", "e5m2", ScaleFormat::f32, ScaleRule::absmax, {0, 0}},
                            {"fp4_token", "e2m1", ScaleFormat::f32, ScaleRule::absmax, {1, 0}},
                            {"fp4_channel", "e2m1", ScaleFormat::f32, ScaleRule::absmax, {0, 1}}};
  EXPECT_EQ(std::size(presets), ng::kPresetCount);
  for (const ng::NamedQuantizer& ours : ng::quantizer_presets()) {
    const auto* p = std::find_if(std::begin(presets), std::end(presets),
                                 [&](const Preset& other) { return std::string(other.name) == ours.name; });
    ASSERT_NE(p, std::end(presets)) << ours.name;
    BlockSpec spec = base(p->element, p->format, p->rule, p->tile.rows, p->tile.cols);
    const bool nvfp4 = p->format == ScaleFormat::e4m3;
    if (!ng_oracle::format(p->element).has_nan) spec.encode.nan = nvfp4 ? NanRule::zero : NanRule::quiet;
    if (nvfp4) spec.encode.zero_sign = ZeroSign::exact_positive;
    EXPECT_EQ(ng_golden::program_spec(spec), ours.spec) << ours.name;
    if (!compare("wide", 140, 130, spec)) return;
  }
}

TEST(QuantizerVsOracle, Bf16InputsAreTheirFp32Values) {
  const std::size_t rows = 9, cols = 50;
  for (const BlockSpec& spec : {base("e4m3", ScaleFormat::e8m0, ScaleRule::floor, 1, 32),
                                base("e4m3", ScaleFormat::f32, ScaleRule::absmax, 128, 128)}) {
    auto x = matrix("wide", rows, cols, 2);
    std::vector<std::uint16_t> halves;
    for (float& v : x) {
      v = ng_oracle::round_to_bf16(v);
      halves.push_back(static_cast<std::uint16_t>(bits_of(v) >> 16));
    }
    for (const bool column : {false, true}) {
      ng::Backend& backend = next_backend();
      const ng::Tensor input = backend.tensor(ng::Dtype::bf16, rows, cols);
      backend.upload(input.view, halves.data());
      const auto got =
          ng_golden::read_back(backend, backend.quantize({}, input.view, {}, ng_golden::program_spec(spec),
                                                         column ? ng::Orientation::column : ng::Orientation::row, {}));
      const auto laid = column ? transposed(x, rows, cols) : x;
      expect_same(got, ng_oracle::quantize(laid, column ? cols : rows, column ? rows : cols, spec), laid, spec, "bf16");
    }
  }
}

TEST(QuantizerVsOracle, AgainAlongTheSameAxisChangesNothingAlongTheOtherItDoes) {
  // Q(D(Q(x))) = Q(x) under `floor`: the largest value of a tile keeps its binade, so the scale comes back and every
  // value is on the grid. Along the other axis the same quantizer meets other tiles: double quantization.
  const std::size_t rows = 64, cols = 128;
  std::vector<float> x = matrix("normal", rows, cols, 40);
  for (const char* element : {"e2m1", "e2m3", "e3m2", "e4m3", "e5m2"}) {
    const BlockSpec spec = base(element, ScaleFormat::e8m0, ScaleRule::floor, 1, 32);
    const auto quantized = [&](const std::vector<float>& values, ng::Orientation axis) {
      ng::Backend& backend = next_backend();
      const ng::Tensor input = ng_golden::uploaded(backend, values, rows, cols);
      return ng_golden::read_back(backend,
                                  backend.quantize({}, input.view, {}, ng_golden::program_spec(spec), axis, {}));
    };
    const Quantized once = quantized(x, ng::Orientation::row), again = quantized(once.decoded, ng::Orientation::row);
    EXPECT_EQ(again.codes, once.codes) << element;
    EXPECT_EQ(again.scale_codes, once.scale_codes) << element;
    const Quantized direct = quantized(x, ng::Orientation::column),
                    twice = quantized(once.decoded, ng::Orientation::column);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      changed += bits_of(direct.decoded[i]) != bits_of(twice.decoded[i]) ? 1 : 0;
    EXPECT_GT(changed, 0u) << element;
  }
}

TEST(QuantizerVsOracle, SmallAndEmptyShapes) {
  for (const auto& [rows, cols] :
       {std::pair<std::size_t, std::size_t>{1, 1}, {1, 31}, {31, 1}, {2, 3}, {33, 33}, {1, 0}, {0, 5}}) {
    for (const std::string kind : {"normal", "zero"}) {
      if (!compare(kind, rows, cols, base("e2m1", ScaleFormat::e8m0, ScaleRule::floor, 1, 32))) return;
      if (!compare(kind, rows, cols, base("e4m3", ScaleFormat::f32, ScaleRule::absmax, 128, 128))) return;
      BlockSpec spec = base("e2m1", ScaleFormat::e4m3, ScaleRule::te_v2_14, 16, 16);
      spec.encode.nan = NanRule::zero;
      if (!compare(kind, rows, cols, spec)) return;
    }
  }
}

}  // namespace
}  // namespace ng_test
