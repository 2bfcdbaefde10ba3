// SPDX-License-Identifier: Apache-2.0
//
// Which rule reproduces which dataset, and what each file cannot say (data/golden/README.md, "Masked").
#include "golden_cases.hpp"

#include <cmath>
#include <cstdio>
#include <utility>

namespace ng_golden {
namespace {

using ng_oracle::bits_of;
using ng_oracle::BlockSpec;
using ng_oracle::EncodeChoices;
using ng_oracle::float_of;
using ng_oracle::HadamardOrder;
using ng_oracle::HadamardSigns;
using ng_oracle::NanRule;
using ng_oracle::Overflow;
using ng_oracle::Quantized;
using ng_oracle::Rounding;
using ng_oracle::ScaleFormat;
using ng_oracle::ScaleRule;
using ng_oracle::transposed;
using ng_oracle::ZeroSign;

template <class... Args>
std::string text(const char* format, Args... args) {
  char buffer[320];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

struct Matrix {
  std::string name;
  std::size_t rows = 0, cols = 0;
  std::vector<float> x;
};

std::vector<Matrix> inputs(GoldenFile& file) {
  std::vector<Matrix> all;
  for (const std::string& name : file.groups()) {
    const auto shape = file.shape(name + "/x");
    all.push_back({name, shape[0], shape[1], file.floats(name + "/x")});
  }
  return all;
}

Matrix transpose_of(const Matrix& m) {
  return {m.name, m.cols, m.rows, transposed(m.x, m.rows, m.cols)};
}

/// Golden answer of one quantization; `mask` says which codes are not comparable.
struct Expected {
  std::vector<std::uint32_t> codes, scales;
  std::vector<bool> mask;
};

void compare_quantized(const Quantized& q, const Expected& e, const Matrix& m, const BlockSpec& spec, TallyRow& row,
                       Tally& tally) {
  if (q.codes.size() != e.codes.size() || q.scale_codes.size() != e.scales.size()) {
    ++row.compared;
    tally.difference(m.name + ": sizes differ; " + text_of(spec));
    return;
  }
  for (std::size_t i = 0; i < e.scales.size(); ++i) {
    if (!Tally::count(row, q.scale_codes[i], e.scales[i])) {
      tally.difference(text("%s scale [%zu, %zu]: got %02x expected %02x; %s", m.name.c_str(), i / q.scale_cols,
                            i % q.scale_cols, q.scale_codes[i], e.scales[i], text_of(spec).c_str()));
    }
  }
  for (std::size_t i = 0; i < e.codes.size(); ++i) {
    if (Tally::count(row, q.codes[i], e.codes[i], !e.mask.empty() && e.mask[i])) continue;
    const std::size_t r = i / m.cols, c = i % m.cols;
    const std::size_t s = r / spec.tile_rows * q.scale_cols + c / spec.tile_cols;
    tally.difference(
        describe(m.name + " code", r, c, m.x[i], q.codes[i], e.codes[i], q.scale_codes[s], e.scales[s], spec));
  }
}

/// 16x16 scales are stored once per row: checks that they are the same 16 times and keeps one.
std::vector<std::uint32_t> one_per_tile(const std::vector<std::uint32_t>& scales, std::size_t per_row, std::size_t rows,
                                        TallyRow& row, Tally& tally) {
  std::vector<std::uint32_t> kept;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const std::size_t r = i / per_row;
    if (r % rows == 0) {
      kept.push_back(scales[i]);
    } else if (!Tally::count(row, kept[r / rows * per_row + i % per_row], scales[i])) {
      tally.difference("golden 2-D scales differ inside a tile");
    }
  }
  return kept;
}

}  // namespace

std::string text_of(const BlockSpec& spec) {
  static const char* const rules[] = {"floor",
                                      "ceil",
                                      "even",
                                      "rceil",
                                      "absmax",
                                      "absmax_pow2",
                                      "msamp_pow2",
                                      "te_v2_14",
                                      "te_v2_13",
                                      "nvfp4_paper",
                                      "four_over_six:mae",
                                      "four_over_six:mse",
                                      "ao_one_level",
                                      "ao_two_level"};
  static const char* const roundings[] = {"nearest_even", "nearest_away", "toward_zero", "half_up", "stochastic"};
  static const char* const overflows[] = {"saturate", "nonfinite"};
  static const char* const nans[] = {"quiet", "cuda", "error", "largest", "zero", "negated_zero"};
  static const char* const zeros[] = {"keep", "exact_positive", "positive"};
  return text("element=%s tile=%zux%zu rule=%s rounding=%s overflow=%s nan=%s zero_sign=%s", spec.element.c_str(),
              spec.tile_rows, spec.tile_cols, rules[static_cast<int>(spec.rule)],
              roundings[static_cast<int>(spec.encode.rounding)], overflows[static_cast<int>(spec.encode.overflow)],
              nans[static_cast<int>(spec.encode.nan)], zeros[static_cast<int>(spec.encode.zero_sign)]);
}

std::string describe(const std::string& what, std::size_t row, std::size_t col, float input, std::uint32_t got,
                     std::uint32_t expected, std::uint32_t got_scale, std::uint32_t expected_scale,
                     const BlockSpec& spec) {
  return text("%s [%zu, %zu] input %08x (%a): got %02x expected %02x; scale got %02x expected %02x; %s", what.c_str(),
              row, col, bits_of(input), static_cast<double>(input), got, expected, got_scale, expected_scale,
              text_of(spec).c_str());
}

void compare_casts(const Subject& subject, GoldenFile& file, Tally& tally) {
  static const std::pair<const char*, const char*> names[] = {
      {"float4_e2m1fn", "e2m1"},       {"float6_e2m3fn", "e2m3"},       {"float6_e3m2fn", "e3m2"},
      {"float8_e3m4", "e3m4"},         {"float8_e4m3", "e4m3_ieee"},    {"float8_e4m3b11fnuz", "e4m3b11fnuz"},
      {"float8_e4m3fn", "e4m3"},       {"float8_e4m3fnuz", "e4m3fnuz"}, {"float8_e5m2", "e5m2"},
      {"float8_e5m2fnuz", "e5m2fnuz"}, {"float8_e8m0fnu", "e8m0"},      {"bfloat16", "bf16"}};
  const auto float_inputs = file.integers("float32_inputs_bits");
  for (const auto& [theirs, ours] : names) {
    const std::string group = theirs;
    EncodeChoices choices;
    choices.overflow = Overflow::nonfinite;
    choices.nan = ng_oracle::format(ours).has_nan ? NanRule::quiet : NanRule::negated_zero;
    const auto compare_encode = [&, ours = ours](const std::string& what, const std::vector<std::uint32_t>& in,
                                                 const std::vector<std::uint32_t>& expected) {
      TallyRow& row = tally.row("ml_dtypes", ours, "nearest_even", what);
      for (std::size_t i = 0; i < in.size(); ++i) {
        const std::uint32_t got = subject.encode(ours, float_of(in[i]), choices).value_or(0xFFFFFFFFU);
        if (!Tally::count(row, got, expected.at(i))) {
          tally.difference(
              text("cast to %s of input %08x (%a): got %02x expected %02x; nearest_even, overflow nonfinite", ours,
                   in[i], static_cast<double>(float_of(in[i])), got, expected[i]));
        }
      }
    };
    if (std::string(ours) != "bf16") {
      const auto values = file.integers(group + "/decode_f32_bits");
      TallyRow& row = tally.row("ml_dtypes", ours, "decode", "every code");
      for (std::uint32_t code = 0; code < values.size(); ++code) {
        const std::uint32_t got = subject.decode_bits(ours, code);
        if (!Tally::count(row, got, values[code])) {
          tally.difference(text("value of %s code %02x: got bits %08x expected %08x", ours, code, got, values[code]));
        }
      }
      std::vector<std::uint32_t> every_bf16;
      for (std::uint32_t i = 0; i < 65536; ++i) every_bf16.push_back(i << 16);
      compare_encode("every bf16", every_bf16, file.integers(group + "/encode_all_bf16"));
    }
    compare_encode("200,000 fp32", float_inputs, file.integers(group + "/encode_float32"));
  }
}

void compare_torchao(const Subject& subject, GoldenFile& file, Tally& tally) {
  static const std::pair<const char*, ScaleRule> rules[] = {
      {"floor", ScaleRule::floor}, {"ceil", ScaleRule::ceil}, {"even", ScaleRule::even}, {"rceil", ScaleRule::rceil}};
  for (const Matrix& m : inputs(file)) {
    for (const char* element : {"e2m1", "e2m3", "e3m2", "e4m3", "e5m2"}) {
      for (const auto& [name, rule] : rules) {
        BlockSpec spec;
        spec.element = element;
        spec.rule = rule;
        const std::string at = m.name + "/" + element + "/" + name;
        Expected e;
        e.scales = file.integers(at + "/scales_e8m0");
        e.codes = file.integers(at + "/codes");
        if (spec.element == "e2m1") e.codes = unpack_nibbles(e.codes);
        for (std::size_t i = 0; i < e.codes.size(); ++i) {  // blocks whose scale is NaN have no meaningful codes
          e.mask.push_back(e.scales[i / m.cols * (m.cols / 32) + i % m.cols / 32] == 0xFF);
        }
        compare_quantized(subject.quantize(m.x, m.rows, m.cols, spec, false), e, m, spec,
                          tally.row("torchao", element, name, m.name), tally);
      }
    }
    for (const bool two : {false, true}) {
      BlockSpec spec;
      spec.tile_cols = 16;
      spec.scale_format = ScaleFormat::e4m3;
      spec.rule = two ? ScaleRule::ao_two_level : ScaleRule::ao_one_level;
      spec.encode.nan = NanRule::zero;
      const std::string at = m.name + (two ? "/nvfp4_two_level" : "/nvfp4_one_level");
      TallyRow& row = tally.row("torchao", "e2m1", two ? "nvfp4 two level" : "nvfp4 one level", m.name);
      const Quantized q = subject.quantize(m.x, m.rows, m.cols, spec, false);
      Expected e;
      e.scales = file.integers(at + "/scales_e4m3");
      e.codes = unpack_nibbles(file.integers(at + "/codes_packed"));
      if (two) {
        const float theirs = file.floats(at + "/per_tensor_scale").at(0);
        if (!Tally::count(row, bits_of(q.tensor_scale), bits_of(theirs))) {
          tally.difference(
              text("%s tensor scale: got %08x expected %08x", at.c_str(), bits_of(q.tensor_scale), bits_of(theirs)));
        }
        // Where 1 / tensor scale overflows, their zeros became 0 * infinity.
        const bool overflows = static_cast<double>(theirs) < 0x1p-128;
        for (const float x : m.x) e.mask.push_back(overflows && x == 0);
      }
      compare_quantized(q, e, m, spec, row, tally);
    }
  }
}

void compare_te(const Subject& subject, GoldenFile& file, Tally& tally) {
  struct Variant {
    const char* name;
    ScaleRule rule;
    std::size_t tile_rows;
    bool rotated;
    HadamardSigns signs;
  };
  static const Variant variants[] = {{"1d", ScaleRule::te_v2_14, 1, false, HadamardSigns::none},
                                     {"2d", ScaleRule::te_v2_14, 16, false, HadamardSigns::none},
                                     {"1d_rht", ScaleRule::te_v2_14, 1, true, HadamardSigns::te_fixed},
                                     {"1d_rht_nosign", ScaleRule::te_v2_14, 1, true, HadamardSigns::none},
                                     {"1d_4over6_mae", ScaleRule::four_over_six_mae, 1, false, HadamardSigns::none},
                                     {"1d_4over6_mse", ScaleRule::four_over_six_mse, 1, false, HadamardSigns::none},
                                     {"2d_4over6_mae", ScaleRule::four_over_six_mae, 16, false, HadamardSigns::none}};
  for (const Matrix& original : inputs(file)) {
    for (const Variant& v : variants) {
      for (const std::string side : {"row", "col"}) {
        const bool column = side == "col";
        const Matrix m = column ? transpose_of(original) : original;
        const bool rotate = v.rotated && column;
        // Their rotation of the subnormal input flushed every product to zero.
        const bool flushed = rotate && m.name.rfind("subnormal", 0) == 0;
        BlockSpec spec;
        spec.tile_rows = v.tile_rows;
        spec.tile_cols = 16;
        spec.scale_format = ScaleFormat::e4m3;
        spec.rule = v.rule;
        spec.encode.nan = NanRule::zero;
        spec.encode.zero_sign = ZeroSign::exact_positive;
        if (rotate) spec.hadamard = 16;
        spec.hadamard_signs = v.signs;
        const std::string at = m.name + "/" + v.name + "/" + side;
        std::vector<HadamardOrder> orders = {HadamardOrder::serial};
        if (rotate) orders.push_back(HadamardOrder::butterfly);
        for (const HadamardOrder order : orders) {
          spec.hadamard_order = order;
          std::string rule = std::string(v.name) + " " + side;
          if (rotate) rule += order == HadamardOrder::serial ? " serial" : " butterfly";
          TallyRow& row = tally.row("TE", "e2m1", rule, m.name);
          Expected e;
          e.codes = unpack_nibbles(file.integers(at + "_codes_packed"));
          e.scales = one_per_tile(file.integers(at + "_scales_e4m3"), m.cols / 16, v.tile_rows, row, tally);
          const float amax = file.floats(at + "_amax").at(0);
          if (flushed) {
            row.masked += e.codes.size() + e.scales.size() + 1;
            continue;
          }
          const Quantized q = subject.quantize(original.x, original.rows, original.cols, spec, column);
          // The stored tensor scale follows from their amax: 1 / min(2688 / amax, FLT_MAX), 1 for an infinite amax.
          const float encode = ng_oracle::f32_min(ng_oracle::f32_div(2688.0F, amax), 0x1.fffffep127F);
          const float decode = ng_oracle::f32_div(1.0F, encode == 0 ? 1.0F : encode);
          if (!Tally::count(row, bits_of(q.tensor_scale), bits_of(decode))) {
            tally.difference(
                text("%s tensor scale: got %08x expected %08x", at.c_str(), bits_of(q.tensor_scale), bits_of(decode)));
          }
          compare_quantized(q, e, m, spec, row, tally);
        }
      }
    }
  }
}

void compare_microxcaling(const Subject& subject, GoldenFile& file, Tally& tally) {
  static const std::pair<const char*, const char*> elements[] = {{"fp4_e2m1", "e2m1"}, {"fp6_e2m3", "e2m3"},
                                                                 {"fp6_e3m2", "e3m2"}, {"fp8_e4m3", "e4m3"},
                                                                 {"fp8_e5m2", "e5m2"}, {"int8", "int8"}};
  static const std::pair<const char*, Rounding> roundings[] = {
      {"even", Rounding::nearest_even}, {"nearest", Rounding::nearest_away}, {"floor", Rounding::toward_zero}};
  for (const Matrix& m : inputs(file)) {
    for (const auto& [theirs, ours] : elements) {
      for (const auto& [rounding_name, rounding] : roundings) {
        for (const std::string side : {"row", "col"}) {
          BlockSpec spec;
          spec.element = ours;
          spec.encode.rounding = rounding;
          spec.encode.zero_sign = ZeroSign::exact_positive;
          spec.encode.nan = NanRule::zero;
          const auto expected = file.floats(m.name + "/" + theirs + "/" + rounding_name + "/" + side);
          const Quantized q = subject.quantize(m.x, m.rows, m.cols, spec, side == "col");
          const auto got = side == "row" ? q.decoded : transposed(q.decoded, m.cols, m.rows);
          TallyRow& row = tally.row("microxcaling", ours, std::string(rounding_name) + " " + side, m.name);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            // int8 has no -0: there a zero is a zero.
            const bool zeros = spec.element == "int8" && got[i] == 0 && expected[i] == 0;
            if (Tally::count(row, zeros ? 0 : bits_of(got[i]), zeros ? 0 : bits_of(expected[i]))) continue;
            tally.difference(text("%s value [%zu, %zu] input %08x: got %08x expected %08x; %s %s", m.name.c_str(),
                                  i / m.cols, i % m.cols, bits_of(m.x[i]), bits_of(got[i]), bits_of(expected[i]),
                                  side.c_str(), text_of(spec).c_str()));
          }
        }
      }
    }
  }
}

Subject oracle_subject() {
  Subject s;
  s.name = "oracle";
  s.encode = [](const std::string& format, float x, const EncodeChoices& choices) {
    return ng_oracle::encode(ng_oracle::format(format), x, choices);
  };
  s.decode_bits = [](const std::string& format, std::uint32_t code) {
    return ng_oracle::decode_f32_bits(ng_oracle::format(format), code);
  };
  s.quantize = [](const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& spec, bool column) {
    return column ? ng_oracle::quantize(transposed(x, rows, cols), cols, rows, spec)
                  : ng_oracle::quantize(x, rows, cols, spec);
  };
  return s;
}

}  // namespace ng_golden
