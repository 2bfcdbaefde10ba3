// SPDX-License-Identifier: Apache-2.0
//
// Cases from a counter: draws of a number choose shapes, groups, fills and the choices of a cast.
#include "cases.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/hadamard.hpp"

namespace ng_test {
namespace {

using namespace ng;

/// Draws of one case.
class Draws {
 public:
  explicit Draws(std::uint32_t case_number) : stream_{case_number, RandomPurpose::test_vectors, 77, 0} {}
  std::uint32_t next() { return random_draw(stream_, at_++, 32); }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n)); }
  bool one_in(int n) { return below(n) == 0; }

 private:
  RandomStream stream_;
  std::uint64_t at_ = 0;
};

struct Shape {
  std::int64_t rows;
  std::int64_t cols;
};
constexpr Shape kShapes[] = {{1, 1},     {3, 5},    {7, 33},   {16, 16},  {32, 128}, {33, 127}, {64, 64}, {129, 257},
                             {128, 256}, {5, 1000}, {257, 48}, {16, 512}, {0, 8},    {8, 0},    {31, 160}};
constexpr std::int64_t kShapeCount = sizeof(kShapes) / sizeof(kShapes[0]);

RowGroups ragged_groups(Draws& draws, std::int64_t rows, std::int64_t unit) {
  RowGroups groups;
  groups.offsets.push_back(0);
  const std::int64_t count = 1 + draws.below(5);
  for (std::int64_t g = 1; g < count; ++g) {
    const std::int64_t left = (rows - groups.offsets.back()) / unit;
    groups.offsets.push_back(groups.offsets.back() + (draws.one_in(4) ? 0 : draws.below(left + 1) * unit));
  }
  groups.offsets.push_back(rows);
  return groups;
}

void choose_placement(Draws& draws, ParityCase& c) {
  c.context.seed = draws.next();
  c.context.step = draws.below(100000);
  c.site = Site{"layer.1/fc1/activation/fprop", 0, draws.next()};
  c.placement = Placement{c.rows, c.cols, 0, 0, nullptr};
  if (draws.one_in(2)) c.placement = Placement{c.rows + 1000, c.cols + 37, draws.below(1000), draws.below(37), nullptr};
  if (draws.one_in(3))
    for (std::int64_t r = 0; r < c.rows; ++r) c.row_ids.push_back(draws.one_in(6) ? -1 : draws.below(1LL << 31));
}

void choose_cast(Draws& draws, QuantizerSpec& spec) {
  spec.cast.overflow = draws.one_in(3) ? Overflow::nonfinite : Overflow::saturate;
  spec.cast.nan = static_cast<NanChoice>(draws.below(6));
  spec.cast.zero_sign = static_cast<ZeroSign>(draws.below(3));
}

void choose_rest(Draws& draws, ParityCase& c) {
  const Shape shape = kShapes[draws.below(kShapeCount)];
  c.rows = shape.rows;
  c.cols = shape.cols;
  c.stride = c.cols + (draws.one_in(3) ? draws.below(9) : 0);
  c.orientation = draws.one_in(2) ? Orientation::column : Orientation::row;
  c.dtype = draws.one_in(2) ? Dtype::bf16 : Dtype::f32;
  c.fill = static_cast<Fill>(draws.below(kFillCount));
  const bool row_form = c.orientation == Orientation::row;
  const std::int64_t along = row_form ? c.cols : c.rows;
  constexpr std::int16_t kSizes[] = {2, 16, 32, 128};
  const std::int16_t size = kSizes[draws.below(4)];
  if (draws.one_in(3) && along % size == 0) {
    c.spec.hadamard.size = size;
    c.spec.hadamard.signs = size == 16 && draws.one_in(2)
                                ? HadamardSigns::te_fixed
                                : (draws.one_in(2) ? HadamardSigns::seeded : HadamardSigns::none);
    c.spec.hadamard.order = draws.one_in(3) ? HadamardOrder::serial : HadamardOrder::butterfly;
    c.spec.hadamard.result = draws.one_in(2) ? HadamardResult::f32 : HadamardResult::bf16;
  }
  if (draws.one_in(2)) c.groups = ragged_groups(draws, c.rows, !row_form && c.spec.hadamard.size != 0 ? size : 1);
  choose_placement(draws, c);
}

struct RoundingChoice {
  Rounding rounding;
  std::uint8_t bits;
};
constexpr RoundingChoice kRoundings[] = {
    {Rounding::nearest_even, 0}, {Rounding::nearest_away, 0}, {Rounding::toward_zero, 0}, {Rounding::half_up, 0},
    {Rounding::stochastic, 8},   {Rounding::stochastic, 16},  {Rounding::stochastic, 32}};

std::string spec_text(const QuantizerSpec& s) {
  std::ostringstream out;
  out << name_of(s.element_id) << " scale " << int(s.scale_format) << " rule " << int(s.rule) << " tile " << s.tile_rows
      << "x" << s.tile_cols << " rounding " << int(s.cast.rounding) << ":" << int(s.cast.random_bits) << " overflow "
      << int(s.cast.overflow) << " nan " << int(s.cast.nan) << " zero " << int(s.cast.zero_sign) << " apply "
      << int(s.application) << " scope " << int(s.tensor_scope) << " hadamard " << s.hadamard.size << ":"
      << int(s.hadamard.signs) << ":" << int(s.hadamard.order) << ":" << int(s.hadamard.result);
  return out.str();
}

/// FP32 bits of element number `i` of a fill.
std::uint32_t element(Fill fill, const RandomStream& stream, std::uint64_t i) {
  const PhiloxBlock b = random_block(stream, i);
  const float normal = static_cast<float>(normal_from_bits(b.word[0], b.word[1]));
  switch (fill) {
    case Fill::normal:
      return bits_of(normal);
    case Fill::wide: {  // exponents over the whole range, finite
      const std::uint32_t bits = b.word[0] & ~0x7f800000u;
      return bits | (b.word[1] % 255u) << 23;
    }
    case Fill::special: {
      constexpr std::uint32_t kSpecials[] = {
          0u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffbfffffu,
          1u, 0x80000001u, 0x007fffffu, 0x00800000u, 0x7f7fffffu, 0xff7fffffu, 0x3f800000u, 0xbf800000u};
      return b.word[2] % 97u == 0 ? kSpecials[b.word[3] % 16u] : bits_of(normal);
    }
    case Fill::ties:
      return bits_of(static_cast<float>(static_cast<int>(b.word[0] % 65u) - 32) * 0.125f);
    case Fill::tiny:
      return bits_of(normal * 0x1p-126f * ((b.word[2] & 1u) != 0 ? 1.0f : 0x1p-8f));
    case Fill::huge:
      return magnitude_bits(normal) > 0x40000000u ? bits_of(normal) : bits_of(normal * 0x1p126f);
    case Fill::zero:
      return (b.word[0] & 1u) << 31;
    case Fill::every_bf16:
      return static_cast<std::uint32_t>(i & 0xffffu) << 16;
  }
  return 0;
}

/// What the fast kernels serve, in nearest even and without a transform.
std::vector<QuantizerSpec> served_specs() {
  std::vector<QuantizerSpec> specs;
  const auto add = [&](const char* name, ScaleRule rule, ZeroSign zero_sign) {
    for (const NamedQuantizer& preset : quantizer_presets()) {
      if (std::string(preset.name) != name) continue;
      specs.push_back(preset.spec);
      specs.back().rule = rule;
      specs.back().cast.zero_sign = zero_sign;
    }
  };
  add("mxfp4", ScaleRule::floor, ZeroSign::keep);
  add("mxfp4", ScaleRule::rceil, ZeroSign::keep);
  add("mxfp8_e4m3", ScaleRule::floor, ZeroSign::keep);
  add("mxfp8_e4m3", ScaleRule::rceil, ZeroSign::keep);
  add("mxfp8_e5m2", ScaleRule::floor, ZeroSign::keep);
  add("nvfp4", ScaleRule::te_v2_14, ZeroSign::exact_positive);
  add("nvfp4", ScaleRule::te_v2_14, ZeroSign::keep);
  add("fp8_1x128", ScaleRule::absmax, ZeroSign::keep);
  add("fp8_1x128", ScaleRule::absmax_pow2, ZeroSign::keep);
  return specs;
}

void name_cases(std::vector<ParityCase>& cases, const std::string& kind) {
  for (std::size_t i = 0; i < cases.size(); ++i)
    cases[i].name = kind + "/" + std::to_string(i) + " " + spec_text(cases[i].spec);
}

}  // namespace

std::vector<std::byte> ParityCase::data() const {
  const std::size_t width = size_of(dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * stride) * width, std::byte{0xff});
  const RandomStream stream{context.seed, RandomPurpose::test_vectors, site.tensor_id, 1};
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::uint32_t bits = element(fill, stream, static_cast<std::uint64_t>(r * cols + c));
      std::byte* to = bytes.data() + static_cast<std::size_t>(r * stride + c) * width;
      const std::uint16_t high = static_cast<std::uint16_t>(bits >> 16);
      if (dtype == Dtype::bf16)
        std::memcpy(to, &high, 2);
      else
        std::memcpy(to, &bits, 4);
    }
  }
  return bytes;
}

std::vector<ParityCase> catalogue_cases() {
  std::vector<ParityCase> cases;
  std::uint32_t number = 0;
  const auto add = [&](const QuantizerSpec& spec, bool any_cast) {
    for (const RoundingChoice& rounding : kRoundings) {
      Draws draws(++number);
      ParityCase c;
      c.spec = spec;
      if (any_cast) choose_cast(draws, c.spec);
      c.spec.cast.rounding = rounding.rounding;
      c.spec.cast.random_bits = rounding.bits;
      c.spec.tensor_scope = draws.one_in(2) ? TensorScope::whole : TensorScope::group;
      choose_rest(draws, c);
      cases.push_back(std::move(c));
    }
  };
  constexpr ScaleRule kF32Rules[] = {ScaleRule::absmax, ScaleRule::absmax_pow2, ScaleRule::msamp_pow2};
  constexpr int kTiles[][2] = {{1, 128}, {128, 128}, {0, 0}, {1, 0}, {0, 1}, {1, 32}, {3, 7}};
  for (const NamedFormat& f : format_catalog()) {
    if (f.id == FormatId::e8m0 || bit_count(f.format) > 16) continue;
    add(bare_cast(f.id), true);
    for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::ceil, ScaleRule::even, ScaleRule::rceil}) {
      QuantizerSpec spec = preset_literals::scaled(f.id, ScaleFormat::e8m0, rule, 1, 32);
      spec.infinite_scale_code = number % 2 == 0 ? 0xff : 0xfe;
      add(spec, true);
    }
    for (std::size_t rule = 0; rule < 3; ++rule) {
      const auto& tile = kTiles[(static_cast<std::size_t>(f.id) + 2 * rule) % 7];
      QuantizerSpec spec = preset_literals::scaled(f.id, ScaleFormat::f32, kF32Rules[rule], tile[0], tile[1]);
      spec.application = number % 3 == 0 ? ScaleApplication::divide : ScaleApplication::multiply;
      spec.amax_floor = number % 5 == 0 ? 1e-4f : 0.0f;
      add(spec, true);
    }
  }
  for (const ScaleRule rule : {ScaleRule::te_v2_14, ScaleRule::te_v2_13, ScaleRule::nvfp4_paper,
                               ScaleRule::four_over_six, ScaleRule::ao_one_level, ScaleRule::ao_two_level}) {
    for (const int tile_rows : {1, 16}) {
      QuantizerSpec spec = preset_literals::scaled(FormatId::e2m1, ScaleFormat::e4m3, rule, tile_rows, 16);
      spec.cast.nan = NanChoice::zero;
      spec.cast.zero_sign = ZeroSign::exact_positive;
      add(spec, false);
      spec.four_over_six_error = FourOverSixError::mse;
      spec.four_over_six_e4m3_max = 256.0f;
      add(spec, true);
    }
  }
  name_cases(cases, "catalogue");
  return cases;
}

std::vector<ParityCase> preset_cases() {
  std::vector<ParityCase> cases;
  std::uint32_t number = 1u << 20;
  for (const NamedQuantizer& preset : quantizer_presets())
    for (const Shape& shape : kShapes)
      for (const Orientation orientation : {Orientation::row, Orientation::column})
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
          Draws draws(++number);
          ParityCase c;
          c.spec = preset.spec;
          c.rows = shape.rows;
          c.cols = c.stride = shape.cols;
          c.orientation = orientation;
          c.dtype = dtype;
          c.fill = static_cast<Fill>(draws.below(kFillCount));
          if (draws.one_in(3)) c.groups = ragged_groups(draws, c.rows, 1);
          choose_placement(draws, c);
          cases.push_back(std::move(c));
        }
  name_cases(cases, "preset");
  return cases;
}

std::vector<ParityCase> every_bf16_cases() {
  std::vector<ParityCase> cases;
  const auto add = [&](const QuantizerSpec& spec) {
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
      for (const Orientation orientation : {Orientation::row, Orientation::column}) {
        ParityCase c;
        c.spec = spec;
        c.rows = 128;
        c.cols = c.stride = 512;
        c.dtype = dtype;
        c.orientation = orientation;
        c.fill = Fill::every_bf16;
        c.placement = Placement{c.rows, c.cols, 0, 0, nullptr};
        c.context.seed = 5;
        cases.push_back(std::move(c));
      }
  };
  for (const NamedQuantizer& preset : quantizer_presets()) add(preset.spec);
  for (const NamedFormat& f : format_catalog())
    if (f.id != FormatId::e8m0 && bit_count(f.format) <= 16) add(bare_cast(f.id));
  name_cases(cases, "every_bf16");
  return cases;
}

std::vector<ParityCase> fast_cases() {
  std::vector<ParityCase> cases;
  std::uint32_t number = 1u << 21;
  constexpr Shape kLarge[] = {{1, 128}, {3, 384}, {257, 1280}, {512, 1024}};
  const auto add = [&](const QuantizerSpec& spec) {
    for (const Shape& shape : kLarge)
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
        for (int fill = 0; fill <= kFillCount; ++fill) {
          Draws draws(++number);
          ParityCase c;
          c.spec = spec;
          c.rows = shape.rows;
          c.cols = c.stride = shape.cols;
          c.dtype = dtype;
          c.fill = static_cast<Fill>(fill);
          choose_placement(draws, c);
          cases.push_back(std::move(c));
        }
  };
  for (const QuantizerSpec& spec : served_specs()) add(spec);
  name_cases(cases, "fast");
  return cases;
}

std::vector<ParityCase> tile_cases() {
  std::vector<ParityCase> cases;
  std::uint32_t number = 3u << 21;
  constexpr Shape kMultiples[] = {{32, 32}, {160, 96}, {288, 416}};
  const auto add = [&](const QuantizerSpec& spec, Orientation orientation, bool transform, bool stochastic) {
    for (const Shape& shape : kMultiples)
      for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
        for (int fill = 0; fill <= kFillCount; ++fill) {
          if (dtype == Dtype::f32 && (transform || stochastic)) continue;
          if (dtype == Dtype::f32 && orientation == Orientation::row && spec.tile_cols > 64) continue;
          Draws draws(++number);
          ParityCase c;
          c.spec = spec;
          c.rows = shape.rows;
          c.cols = shape.cols;
          c.stride = shape.cols + (draws.one_in(3) ? 8 * draws.below(5) : 0);
          c.orientation = orientation;
          c.dtype = dtype;
          c.fill = static_cast<Fill>(fill);
          choose_placement(draws, c);
          if (transform) {
            c.spec.hadamard.size = 16;
            c.spec.hadamard.signs = draws.one_in(2) ? HadamardSigns::te_fixed : HadamardSigns::seeded;
          }
          if (stochastic) {
            c.spec.cast.rounding = Rounding::stochastic;
            c.spec.cast.random_bits = 8;
            c.placement.cols = (c.placement.cols + 15) / 16 * 16;
            c.placement.col0 = c.placement.col0 / 16 * 16;
          }
          c.spec.tensor_scope = draws.one_in(2) ? TensorScope::whole : TensorScope::group;
          const std::int64_t unit = orientation == Orientation::column && spec.tile_cols == 128 ? 128 : 32;
          if (draws.one_in(2)) c.groups = ragged_groups(draws, c.rows, unit);
          cases.push_back(std::move(c));
        }
  };
  for (const QuantizerSpec& spec : served_specs()) {
    const bool four_bits = bit_count(spec.element) == 4;
    for (const Orientation orientation : {Orientation::column, Orientation::row})
      for (const bool transform : {false, true})
        for (const bool stochastic : {false, true})
          if (!stochastic || four_bits) add(spec, orientation, transform, stochastic);
  }
  name_cases(cases, "tiles");
  return cases;
}

std::vector<ParityCase> patch_cases() {
  std::vector<ParityCase> cases;
  std::uint32_t number = 5u << 21;
  constexpr Shape kRagged[] = {{70, 1000}, {131, 513}, {260, 264}, {3, 20011}, {1030, 24}, {128, 256}};
  const auto add = [&](const QuantizerSpec& spec, Orientation orientation, Rounding rounding, std::uint8_t bits) {
    for (const Shape& shape : kRagged) {
      Draws draws(++number);
      ParityCase c;
      c.spec = spec;
      c.spec.cast.rounding = rounding;
      c.spec.cast.random_bits = bits;
      c.spec.tensor_scope = draws.one_in(2) ? TensorScope::whole : TensorScope::group;
      c.orientation = orientation;
      c.dtype = draws.one_in(3) ? Dtype::f32 : Dtype::bf16;
      c.fill = static_cast<Fill>(draws.below(kFillCount));
      c.rows = shape.rows;
      c.cols = shape.cols;
      const std::int64_t along = orientation == Orientation::row ? c.cols : c.rows;
      const bool transform = along % 16 == 0 && draws.one_in(2);
      if (transform) c.spec.hadamard = HadamardSpec{16, HadamardSigns::seeded, HadamardOrder::butterfly,
                                                    draws.one_in(3) ? HadamardResult::f32 : HadamardResult::bf16};
      c.stride = c.cols + (draws.one_in(2) ? draws.below(9) : 0);
      if (draws.one_in(2)) c.groups = ragged_groups(draws, c.rows, transform ? 16 : 1);
      choose_placement(draws, c);
      cases.push_back(std::move(c));
    }
  };
  for (const Orientation orientation : {Orientation::row, Orientation::column}) {
    for (const NamedQuantizer& preset : quantizer_presets()) add(preset.spec, orientation, Rounding::nearest_even, 0);
    for (const NamedQuantizer& preset : quantizer_presets()) {
      const RoundingChoice& choice = kRoundings[cases.size() / 6 % 7];
      add(preset.spec, orientation, choice.rounding, choice.bits);
    }
  }
  name_cases(cases, "patches");
  return cases;
}

std::vector<ParityCase> reduced_cases() {
  std::vector<ParityCase> cases;
  const auto take = [&](std::vector<ParityCase> from, std::size_t every, std::int64_t most) {
    for (std::size_t i = 0; i < from.size(); i += every)
      if (from[i].rows * from[i].cols <= most) cases.push_back(std::move(from[i]));
  };
  take(catalogue_cases(), 37, 20000);
  take(preset_cases(), 29, 20000);
  take(fast_cases(), 7, 20000);
  take(tile_cases(), 61, 40000);
  take(patch_cases(), 11, 70000);
  return cases;
}

}  // namespace ng_test
