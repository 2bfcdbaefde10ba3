// SPDX-License-Identifier: Apache-2.0
//
// Probes and answers. The oracle's side follows numerics.md: transform, outlier split, quantization of each group.
#include "answers.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

#include "golden/program_subject.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "oracle/outliers.hpp"

namespace ng_mutation {
namespace {

using ng_oracle::bits_of;
using ng_oracle::float_of;

constexpr std::uint32_t kSeed = 77, kTensor = 0x1234ABCD, kStep = 5;

/// Uniform words by the oracle's Philox.
class Words {
 public:
  explicit Words(std::uint32_t key) : key_(key) {}
  std::uint32_t next() {
    if (at_ == 4) {
      words_ = ng_oracle::philox({count_++, 0, 0, 0}, {key_, 99});
      at_ = 0;
    }
    return words_[at_++];
  }
  std::uint32_t below(std::uint32_t n) { return next() % n; }
  /// Sum of four uniform numbers: a bell over (-2, 2), exact in FP32.
  float bell() {
    std::int32_t sum = -(2 << 16);
    for (int i = 0; i < 4; ++i) sum += static_cast<std::int32_t>(next() >> 16);
    return static_cast<float>(sum) * 0x1p-16F;
  }

 private:
  std::uint32_t key_, count_ = 0;
  std::size_t at_ = 4;
  ng_oracle::Words words_{};
};

constexpr const char* kKinds[] = {"bell", "wide", "ties", "zeros", "outliers", "tiny", "huge", "grouped"};

Probe make_probe(const std::string& kind, std::size_t rows, std::size_t cols) {
  Probe probe{kind, rows, cols, {}, {}};
  Words words(static_cast<std::uint32_t>(kind.front()) * 256 + static_cast<std::uint32_t>(kind.size()));
  for (std::size_t i = 0; i < rows * cols; ++i) {
    float v = words.bell();
    if (kind == "wide") v = std::ldexp(v, static_cast<int>(words.below(40)) - 20);
    if (kind == "ties") v = static_cast<float>(static_cast<int>(words.below(129)) - 64) / 8;
    if (kind == "zeros") v = words.below(3) == 0 ? -0.0F : words.below(3) == 0 ? 0.0F : v * 0x1p-4F;
    if (kind == "outliers" && words.below(40) == 0) v *= 4096;
    if (kind == "tiny") v *= 0x1p-131F;
    if (kind == "huge") v = std::copysign(0x1.fep127F - std::ldexp(std::fabs(v), 125), v);
    if (kind == "grouped") v = std::ldexp(v, static_cast<int>(i / cols));
    if (kind == "special" && words.below(50) == 0) {
      const float infinity = std::numeric_limits<float>::infinity();
      v = std::copysign(words.below(2) == 0 ? infinity : std::numeric_limits<float>::quiet_NaN(), v);
    }
    probe.x.push_back(v);
  }
  if (kind == "grouped") probe.groups = {0, 3, 3, static_cast<std::int64_t>(rows)};
  return probe;
}

/// Rows of blocks of 16 under one tensor amax, their amaxes such that amax * fp32(S * fp32(1/6)) and fp32(amax / 6) * S
/// round to different E4M3 codes: about one BF16 number in a thousand, under few tensor amaxes.
Probe order_probe() {
  Probe probe{"orders", 8, 128, std::vector<float>(8 * 128, 0.0F), {}};
  const ng_oracle::Format& e4m3 = ng_oracle::format("e4m3");
  std::size_t block = 1, most = 0;
  for (std::uint32_t mantissa = 0; mantissa < 128; ++mantissa) {
    const float tensor = float_of(0x45000000U | mantissa << 16);
    const float s = ng_oracle::f32_div(2688.0F, tensor);
    const float sixth = ng_oracle::f32_mul(s, ng_oracle::f32_div(1.0F, 6.0F));
    std::vector<float> found;
    for (std::uint32_t high = 0x4100; high < 0x4500 && found.size() < 63; ++high) {
      const float amax = float_of(high << 16);
      const auto a = ng_oracle::encode(e4m3, ng_oracle::f32_mul(amax, sixth));
      const auto b = ng_oracle::encode(e4m3, ng_oracle::f32_mul(ng_oracle::f32_div(amax, 6.0F), s));
      if (a != b) found.push_back(amax);
    }
    if (found.size() <= most) continue;
    most = found.size();
    probe.x.assign(probe.x.size(), 0.0F);
    probe.x[0] = tensor;
    block = 1;
    for (const float amax : found) {
      probe.x[block * 16] = amax;
      for (std::size_t i = 1; i < 16; ++i) probe.x[block * 16 + i] = amax * static_cast<float>(i) / 16;
      ++block;
    }
  }
  if (most == 0) throw std::logic_error("no amax tells the orders of rounding apart");
  return probe;
}

ng::Backend& backend() {
  static const std::unique_ptr<ng::Backend> made = ng::make_cpu_backend({1, ng::Arithmetic::ieee, false});
  return *made;
}

void append(Answer& answer, const std::vector<std::uint32_t>& part) {
  answer.push_back(static_cast<std::uint32_t>(part.size()));
  answer.insert(answer.end(), part.begin(), part.end());
}

std::vector<std::uint32_t> bits_of_all(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float v : values) bits.push_back(bits_of(v));
  return bits;
}

template <class To, class From>
To named(From value) {
  return static_cast<To>(static_cast<int>(value));
}

/// One group, or a whole tensor.
struct Part {
  ng_oracle::Quantized q;
  ng_oracle::OutlierSplit split;
};

const char* residual_name(ng::OutlierResidual residual) {
  return residual == ng::OutlierResidual::none ? "" : ng::name_of(residual).data();
}

Part quantize_part(const std::vector<float>& original, std::size_t rows, std::size_t cols,
                   const ng::QuantizerSpec& spec, ng_oracle::BlockSpec block) {
  Part part;
  std::vector<float> x = original;
  if (block.hadamard != 0) {
    x = ng_oracle::hadamard(x, rows, cols, block.hadamard, block.hadamard_signs, block.hadamard_order,
                            block.hadamard_result, block.hadamard_seed);
    block.hadamard = 0;
  }
  if (spec.outlier.quantile != 0.0) {
    part.split =
        ng_oracle::split_outliers(x, rows, cols, spec.outlier.quantile, spec.outlier.scope == ng::OutlierScope::tensor,
                                  residual_name(spec.outlier.residual));
    x = part.split.clamped;
  }
  part.q = ng_oracle::quantize(x, rows, cols, block);
  if (spec.decode == ng::DecodeOrder::te) {  // Transformer Engine's dequantize kernel
    const ng_oracle::Format& element = ng_oracle::format(block.element);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float scale = part.q.scales[i / cols / block.tile_rows * part.q.scale_cols + i % cols / block.tile_cols];
      const float factor =
          ng_oracle::f32_mul(ng_oracle::f32_mul(scale, part.q.tensor_amax), ng_oracle::f32_div(1.0F, 2688.0F));
      part.q.decoded[i] = ng_oracle::f32_mul(static_cast<float>(ng_oracle::decode(element, part.q.codes[i])), factor);
    }
  }
  return part;
}

Answer bare_cast_answer(const ng::QuantizerSpec& spec, const Probe& probe) {
  const std::string element(ng::name_of(spec.element_id));
  const ng_oracle::Format& f = ng_oracle::format(element);
  ng_oracle::EncodeChoices choices = oracle_spec(spec).encode;
  std::vector<std::uint32_t> codes, decoded;
  for (std::size_t i = 0; i < probe.x.size(); ++i) {
    choices.random = choices.rounding == ng_oracle::Rounding::stochastic
                         ? ng_oracle::element_draw(kSeed, 3, kTensor, kStep, i, choices.stochastic_bits)
                         : 0;
    codes.push_back(ng_oracle::encode(f, probe.x[i], choices).value_or(0));  // a refused NaN has code 0
    decoded.push_back(ng_oracle::decode_f32_bits(f, codes.back()));
  }
  Answer answer;
  append(answer, codes);
  append(answer, {});
  append(answer, {});
  append(answer, decoded);
  return answer;
}

}  // namespace

const std::vector<Probe>& finite_probes() {
  static const std::vector<Probe> made = [] {
    std::vector<Probe> all;
    for (const char* kind : kKinds) all.push_back(make_probe(kind, 8, 128));
    all.push_back(order_probe());
    return all;
  }();
  return made;
}

const std::vector<Probe>& special_probes() {
  static const std::vector<Probe> made = [] {
    std::vector<Probe> all = finite_probes();
    all.push_back(make_probe("special", 8, 128));
    return all;
  }();
  return made;
}

const std::vector<Probe>& large_probes() {
  static const std::vector<Probe> made = {make_probe("wide", 144, 160)};
  return made;
}

ng_oracle::BlockSpec oracle_spec(const ng::QuantizerSpec& spec) {
  ng_oracle::BlockSpec block;
  block.element = ng::name_of(spec.element_id);
  block.tile_rows = static_cast<std::size_t>(spec.tile_rows);
  block.tile_cols = static_cast<std::size_t>(spec.tile_cols);
  block.scale_format = spec.scale_format == ng::ScaleFormat::e4m3  ? ng_oracle::ScaleFormat::e4m3
                       : spec.scale_format == ng::ScaleFormat::f32 ? ng_oracle::ScaleFormat::f32
                                                                   : ng_oracle::ScaleFormat::e8m0;
  using O = ng_oracle::ScaleRule;
  const bool mse = spec.four_over_six_error == ng::FourOverSixError::mse;
  // In the order of ng::ScaleRule.
  const O rules[] = {O::floor,        O::floor,       O::ceil,        O::even,
                     O::rceil,        O::absmax,      O::absmax_pow2, O::msamp_pow2,
                     O::te_v2_14,     O::te_v2_13,    O::nvfp4_paper, mse ? O::four_over_six_mse : O::four_over_six_mae,
                     O::ao_one_level, O::ao_two_level};
  static_assert(static_cast<std::size_t>(ng::ScaleRule::ao_two_level) + 1 == std::size(rules));
  block.rule = rules[static_cast<int>(spec.rule)];
  block.encode.rounding = named<ng_oracle::Rounding>(spec.cast.rounding);
  block.encode.overflow = named<ng_oracle::Overflow>(spec.cast.overflow);
  block.encode.nan = named<ng_oracle::NanRule>(spec.cast.nan);
  block.encode.zero_sign = named<ng_oracle::ZeroSign>(spec.cast.zero_sign);
  block.encode.stochastic_bits = spec.cast.random_bits;
  block.e4m3_max = static_cast<double>(spec.four_over_six_e4m3_max);
  block.divide = spec.application == ng::ScaleApplication::divide;
  block.amax_floor = spec.amax_floor;
  block.infinite_code = spec.infinite_scale_code;
  block.hadamard = static_cast<std::size_t>(spec.hadamard.size);
  block.hadamard_signs = named<ng_oracle::HadamardSigns>(spec.hadamard.signs);
  block.hadamard_order = named<ng_oracle::HadamardOrder>(spec.hadamard.order);
  block.hadamard_result = named<ng_oracle::HadamardResult>(spec.hadamard.result);
  block.hadamard_seed = kSeed;
  return block;
}

std::vector<Answer> oracle_answers(const ng::QuantizerSpec& spec, const std::vector<Probe>& probes) {
  std::vector<Answer> answers;
  for (const Probe& probe : probes) {
    std::uint32_t refused = 0;
    if (spec.cast.nan == ng::NanChoice::error) {
      for (const float v : probe.x) refused += std::isnan(v) ? 1 : 0;
    }
    if (spec.scale_format == ng::ScaleFormat::none) {
      answers.push_back(bare_cast_answer(spec, probe));
      append(answers.back(), {refused});
      continue;
    }
    ng_oracle::BlockSpec block = oracle_spec(spec);
    // A NaN that the format cannot say and that is refused, or left without a rule, has code 0.
    const bool left = spec.cast.nan == ng::NanChoice::quiet || spec.cast.nan == ng::NanChoice::error;
    if (left && !ng_oracle::format(block.element).has_nan) block.encode.nan = ng_oracle::NanRule::zero;
    std::vector<std::int64_t> offsets = probe.groups;
    const auto rows = static_cast<std::int64_t>(probe.rows);
    if (offsets.empty() || spec.tensor_scope == ng::TensorScope::whole) offsets = {0, rows};
    std::vector<std::uint32_t> codes, scales, decoded, entries, tensor;
    for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
      const auto begin = static_cast<std::size_t>(offsets[g]), end = static_cast<std::size_t>(offsets[g + 1]);
      const auto at = [&](std::size_t row) { return probe.x.begin() + static_cast<std::ptrdiff_t>(row * probe.cols); };
      block.random = [&](std::size_t r, std::size_t c) {
        return ng_oracle::element_draw(kSeed, 3, kTensor, kStep, (begin + r) * probe.cols + c,
                                       block.encode.stochastic_bits);
      };
      const Part part = quantize_part(std::vector<float>(at(begin), at(end)), end - begin, probe.cols, spec, block);
      codes.insert(codes.end(), part.q.codes.begin(), part.q.codes.end());
      scales.insert(scales.end(), part.q.scale_codes.begin(), part.q.scale_codes.end());
      const auto bits = bits_of_all(part.q.decoded);
      decoded.insert(decoded.end(), bits.begin(), bits.end());
      if (g == 0 && part.q.two_level) tensor.push_back(bits_of(part.q.tensor_scale));
      for (std::size_t i = 0; i < part.split.codes.size(); ++i) {
        entries.push_back(static_cast<std::uint32_t>(part.split.columns[i]));
        entries.push_back(part.split.codes[i]);
      }
    }
    Answer answer;
    append(answer, codes);
    append(answer, scales);
    append(answer, tensor);
    append(answer, decoded);
    if (spec.outlier.quantile != 0.0) append(answer, entries);
    append(answer, {refused});
    answers.push_back(answer);
  }
  return answers;
}

std::vector<Answer> program_answers(const ng::QuantizerSpec& spec, const std::vector<Probe>& probes) {
  ng::StepContext context;
  context.seed = kSeed;
  context.step = kStep;
  const ng::Site site{"probe", 0, kTensor};
  std::vector<Answer> answers;
  for (const Probe& probe : probes) {
    const ng::Tensor input = ng_golden::uploaded(backend(), probe.x, probe.rows, probe.cols);
    const ng::QuantizedTensor q =
        backend().quantize(context, input.view, {probe.groups}, spec, ng::Orientation::row, site);
    const ng_oracle::Quantized got = ng_golden::read_back(backend(), q);
    Answer answer;
    append(answer, got.codes);
    append(answer, got.scale_codes);
    append(answer, got.two_level ? std::vector{bits_of(got.tensor_scale)} : std::vector<std::uint32_t>{});
    append(answer, bits_of_all(got.decoded));
    if (spec.outlier.quantile != 0.0) {
      std::vector<std::uint32_t> entries;
      for (std::int64_t i = 0; q.residual != nullptr && i < q.residual->count; ++i) {
        entries.push_back(static_cast<std::uint32_t>(q.residual->columns.as<std::int32_t>()[i]));
        entries.push_back(q.residual->code(i));
      }
      append(answer, entries);
    }
    append(answer, {static_cast<std::uint32_t>(q.nan_inputs)});
    answers.push_back(answer);
  }
  return answers;
}

std::size_t size_of(const std::vector<Answer>& answers) {
  std::size_t n = 0;
  for (const Answer& answer : answers) n += answer.size();
  return n;
}

std::size_t differences(const std::vector<Answer>& a, const std::vector<Answer>& b) {
  std::size_t n = 0;
  for (std::size_t p = 0; p < a.size(); ++p) {
    const std::size_t common = std::min(a[p].size(), b[p].size());
    for (std::size_t i = 0; i < common; ++i) n += a[p][i] != b[p][i] ? 1 : 0;
    n += a[p].size() + b[p].size() - 2 * common;
  }
  return n;
}

}  // namespace ng_mutation
