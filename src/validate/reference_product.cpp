// SPDX-License-Identifier: Apache-2.0
//
// reference_product.hpp: the order of numerics/tensor_core_product.hpp, with each of its orders replaceable.
#include "narrowgauge/validate/reference_product.hpp"

#include <fmt/format.h>

#include <numeric>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/exact_product.hpp"

namespace ng::validate {
namespace {

bool is_tensor_core(const ProductSpec& spec) {
  return spec.arithmetic != "ieee" && spec.arithmetic != "exact";
}

/// The order that `measured` means.
ScaleOrder order_of(const ProductSpec& spec) {
  if (spec.scale_order != ScaleOrder::measured) return spec.scale_order;
  switch (spec.scale_mode) {
    case ScaleMode::outer:
      return ScaleOrder::b_first;
    case ScaleMode::block_1x128:
      return ScaleOrder::a_first;
    default:
      return ScaleOrder::product_first;
  }
}

/// The value and the factor of its last multiply.
struct LastMultiply {
  float value, factor;
};
LastMultiply before_last(ScaleOrder order, float value, float a, float b) {
  if (order == ScaleOrder::a_first) return {gpu_mul(value, a), b};
  if (order == ScaleOrder::b_first) return {gpu_mul(value, b), a};
  return {value, gpu_mul(a, b)};
}

std::uint32_t fp16_bits(float value, Rounding rounding) {
  if (is_nan_bits(bits_of(value))) return 0x7fffu;
  CastChoices choices;
  choices.overflow = Overflow::nonfinite;
  choices.rounding = rounding;
  return encode(format_of(FormatId::fp16), choices, value);
}
std::uint32_t bf16_bits(float value, Rounding rounding) {
  if (is_nan_bits(bits_of(value))) return 0x7fffu;
  CastChoices choices;
  choices.overflow = Overflow::nonfinite;
  choices.rounding = rounding;
  return encode(format_of(FormatId::bf16), choices, value);
}

std::uint32_t rounded_output(const ProductSpec& spec, float value) {
  Rounding rounding = Rounding::nearest_even;
  switch (spec.rounding) {
    case OutputRounding::nearest_even:
      return output_bits(spec.out_format, value);
    case OutputRounding::through_bf16:
      return output_bits(spec.out_format, output_value(ProductOutput::bf16, output_bits(ProductOutput::bf16, value)));
    case OutputRounding::through_f16:
      return output_bits(spec.out_format, output_value(ProductOutput::f16, output_bits(ProductOutput::f16, value)));
    case OutputRounding::nearest_away:
      rounding = Rounding::nearest_away;
      break;
    case OutputRounding::toward_zero:
      rounding = Rounding::toward_zero;
      break;
  }
  return spec.out_format == ProductOutput::bf16 ? bf16_bits(value, rounding) : fp16_bits(value, rounding);
}

}  // namespace

struct ReferenceProduct::Machine {
  TensorCoreSpec core{};
  FormatId a_format, b_format;
  bool scaled = false;  ///< block scales inside the step
};

ReferenceProduct::ReferenceProduct(ProductOperands operands) : in_(std::move(operands)) {}

std::optional<ReferenceProduct::Machine> ReferenceProduct::machine(const ProductSpec& spec,
                                                                   std::string& problem) const {
  const auto no = [&](std::string why) {
    problem = std::move(why);
    return std::optional<Machine>();
  };
  const bool has_blocks = in_.block_a.kind != OperandScales::none;
  if (spec.carrier != ScaledCarrier::scales && !has_blocks) return no("a carrier is for operands with block scales");
  if (spec.rounding != OutputRounding::nearest_even && spec.arithmetic == "exact")
    return no("exact products are rounded once, to nearest even");
  if ((spec.rounding == OutputRounding::nearest_away || spec.rounding == OutputRounding::toward_zero) &&
      spec.out_format == ProductOutput::f32)
    return no("FP32 sums are FP32 outputs; nothing is rounded");
  if (spec.scale_mode == ScaleMode::none && spec.scale_order != ScaleOrder::measured)
    return no("scale_order needs a scale_mode");
  if (!is_blockwise(spec.scale_mode) && spec.promotion_add != PromotionAdd::fused)
    return no("promotion_add needs blockwise scales");
  Machine m{TensorCoreSpec{}, in_.a.format, in_.b.format, false};
  m.scaled = has_blocks && spec.carrier == ScaledCarrier::scales;
  if (spec.carrier != ScaledCarrier::scales)
    m.a_format = m.b_format = spec.carrier == ScaledCarrier::bf16 ? FormatId::bf16 : FormatId::e4m3;
  if (!is_tensor_core(spec)) {
    if (m.scaled && spec.arithmetic == "ieee") return no("ieee takes no block scales; give a carrier");
    if (spec.splits != 1 || spec.promotion != 0 || spec.accumulator != AccumulatorType::f32)
      return no("splits, promotion and accumulators are a tensor core's");
    if (spec.arithmetic == "exact" &&
        (spec.scale_order != ScaleOrder::measured || spec.promotion_add != PromotionAdd::fused))
      return no("exact products have no order of scales");
    return m;
  }
  const StepResult result =
      spec.accumulator == AccumulatorType::f16 ? StepResult::fp16_nearest_even : StepResult::fp32_toward_zero;
  const OperandScales kind = m.scaled ? in_.block_a.kind : OperandScales::none;
  const AccumulatorRow* row = find_accumulator(spec.arithmetic.c_str(), m.a_format, m.b_format, result, kind);
  if (row == nullptr)
    return no(fmt::format("{} has no product of {} and {}{}", spec.arithmetic, name_of(m.a_format), name_of(m.b_format),
                          m.scaled ? " with these block scales" : ""));
  m.core.accumulator = row->spec;
  const bool choice = row->types == OperandTypes::fp8 && row->spec.significand_bits == 14;
  if (spec.accumulate == Chains::fast && (!choice || spec.promotion != 0))
    return no("accumulate=fast is for FP8 that keeps 14 bits, without a promotion");
  m.core.promotion = spec.promotion != 0 ? spec.promotion : choice && spec.accumulate == Chains::promoted ? 128 : 0;
  if (is_blockwise(spec.scale_mode)) {
    if (m.core.promotion == 0) m.core.promotion = 128;
    if (spec.accumulate == Chains::fast || 128 % m.core.promotion != 0)
      return no("blockwise scales need chains that end with each 128 of K");
  }
  if (m.core.promotion % row->spec.instruction_k != 0)
    return no(
        fmt::format("promotion={} is no multiple of the instruction's {}", m.core.promotion, row->spec.instruction_k));
  m.core.scales = spec.scale_mode;
  m.core.splits = spec.splits;
  m.core.split_tile = m.a_format == FormatId::tf32 ? 32 : row->types == OperandTypes::fp8 ? 128 : 64;
  if (m.core.promotion > m.core.split_tile && spec.splits > 1) m.core.split_tile = m.core.promotion;
  return m;
}

std::string ReferenceProduct::impossible(const ProductSpec& spec) const {
  std::string problem;
  (void)machine(spec, problem);
  return problem;
}

TensorCoreSpec ReferenceProduct::tensor_core_spec(const ProductSpec& spec) const {
  std::string problem;
  const std::optional<Machine> m = machine(spec, problem);
  if (!m) throw UserError("product: " + problem);
  TensorCoreSpec core = m->core;
  core.output = spec.out_format;
  return core;
}

const ReferenceProduct::Carried& ReferenceProduct::carried(ScaledCarrier carrier) {
  const auto found = carried_.find(carrier);
  if (found != carried_.end()) return found->second;
  const ElementFormat format = format_of(carrier == ScaledCarrier::bf16 ? FormatId::bf16 : FormatId::e4m3);
  const auto carry = [&](const OperandNumbers& x, const BlockScales& scales) {
    std::vector<float> out(x.values.size());
    const std::int64_t per = block_scale_k(scales.kind);
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t k = 0; k < x.cols; ++k) {
        const auto at = static_cast<std::size_t>(r * x.cols + k);
        const float scale = scales.values[static_cast<std::size_t>(r * scales.blocks + k / per)];
        out[at] = decode(format, encode(format, CastChoices{}, mul_rn(x.values[at], scale)));
      }
    return out;
  };
  return carried_[carrier] = {carry(in_.a, in_.block_a), carry(in_.b, in_.block_b)};
}

std::vector<std::uint32_t> ReferenceProduct::elements(const ProductSpec& spec, std::span<const std::int64_t> which) {
  std::string problem;
  const std::optional<Machine> machine_or = machine(spec, problem);
  if (!machine_or) throw UserError("product: " + problem);
  const Machine& m = *machine_or;
  const bool through_carrier = spec.carrier != ScaledCarrier::scales;
  const float* const a = through_carrier ? carried(spec.carrier).a.data() : in_.a.values.data();
  const float* const b = through_carrier ? carried(spec.carrier).b.data() : in_.b.values.data();
  const std::int64_t k = depth();
  const std::int64_t per = m.scaled ? block_scale_k(in_.block_a.kind) : 1;
  const std::int64_t blocks = is_blockwise(spec.scale_mode) ? (k + kScaleBlock - 1) / kScaleBlock : 1;
  const ScaleOrder order = order_of(spec);

  std::vector<std::uint32_t> bits;
  bits.reserve(which.size());
  ExactProduct exact;
  for (const std::int64_t element : which) {
    const std::int64_t row = element / cols(), col = element % cols();
    const StepOperands in{a + row * k,
                          b + col * k,
                          m.scaled ? in_.block_a.values.data() + row * in_.block_a.blocks : nullptr,
                          m.scaled ? in_.block_b.values.data() + col * in_.block_b.blocks : nullptr,
                          smallest_exponent(format_of(m.a_format)),
                          smallest_exponent(format_of(m.b_format)),
                          smallest_exponent(format_of(block_scale_format(in_.block_a.kind)))};
    const std::int64_t scale_col = spec.scale_mode == ScaleMode::block_128x128 ? col / kScaleBlock : col;
    const float* scale_a = nullptr;
    const float* scale_b = nullptr;
    if (spec.scale_mode == ScaleMode::tensor) {
      scale_a = in_.scale_a.data(), scale_b = in_.scale_b.data();
    } else if (spec.scale_mode != ScaleMode::none) {
      scale_a = in_.scale_a.data() + row * blocks, scale_b = in_.scale_b.data() + scale_col * blocks;
    }
    if (spec.arithmetic == "exact") {
      exact.start();
      const std::int64_t step = std::min(is_blockwise(spec.scale_mode) ? kScaleBlock : std::max<std::int64_t>(k, 1),
                                         m.scaled ? per : std::max<std::int64_t>(k, 1));
      for (std::int64_t at = 0; at < k; at += step) {
        ScaleFactors factors;
        if (scale_a != nullptr) {
          const std::int64_t block = is_blockwise(spec.scale_mode) ? at / kScaleBlock : 0;
          factors.multiply(scale_a[block]);
          factors.multiply(scale_b[block]);
        }
        if (m.scaled) {
          factors.multiply(in.scale_a[at / per]);
          factors.multiply(in.scale_b[at / per]);
        }
        exact.add(in.a + at, in.b + at, std::min(step, k - at), factors);
      }
      bits.push_back(output_bits(spec.out_format, exact.result(spec.out_format)));
      continue;
    }
    // Chains: of an fma each, or of the accumulator; blockwise scales enter with each promotion.
    const bool core = is_tensor_core(spec);
    const std::int64_t length = core ? split_length(m.core, k) : std::max<std::int64_t>(k, 1);
    const std::int64_t chain_length = core && m.core.promotion != 0   ? m.core.promotion
                                      : is_blockwise(spec.scale_mode) ? kScaleBlock
                                                                      : length;
    const bool promoted = chain_length != length || (core && m.core.promotion != 0);
    float total = 0.0f;
    for (std::int64_t begin = 0; begin < k; begin += length) {
      const std::int64_t end = std::min(begin + length, k);
      float part = 0.0f;
      for (std::int64_t at = begin; at < end; at += chain_length) {
        const std::int64_t stop = std::min(at + chain_length, end);
        float chain = 0.0f;
        if (core)
          chain = accumulate(m.core.accumulator, in, at, stop, 0.0f, per);
        else
          for (std::int64_t i = at; i < stop; ++i) chain = gpu_fma(in.a[i], in.b[i], chain);
        if (is_blockwise(spec.scale_mode)) {
          const LastMultiply last = before_last(order, chain, scale_a[at / kScaleBlock], scale_b[at / kScaleBlock]);
          part = spec.promotion_add == PromotionAdd::fused ? gpu_fma(last.value, last.factor, part)
                                                           : gpu_add(part, gpu_mul(last.value, last.factor));
        } else {
          part = promoted ? gpu_add(part, chain) : chain;
        }
      }
      total = begin == 0 ? part : gpu_add(total, part);
    }
    if (scale_a != nullptr && !is_blockwise(spec.scale_mode)) {
      const LastMultiply last = before_last(order, total, *scale_a, *scale_b);
      total = gpu_mul(last.value, last.factor);
    }
    bits.push_back(rounded_output(spec, total));
  }
  return bits;
}

Array reference_product(const std::string& text, const std::map<std::string, Array>& operands) {
  const ProductSpec spec = product_of(text);
  ReferenceProduct reference(ProductOperands::from(operands, spec));
  if (const std::string problem = reference.impossible(spec); !problem.empty())
    throw UserError(fmt::format("product '{}': {}", text, problem));
  const std::int64_t m = reference.rows(), n = reference.cols();
  std::vector<std::int64_t> all(static_cast<std::size_t>(m * n));
  std::iota(all.begin(), all.end(), 0);
  const std::vector<std::uint32_t> bits = reference.elements(spec, all);
  if (spec.out_format == ProductOutput::f32) {
    std::vector<float> values;
    for (const std::uint32_t b : bits) values.push_back(float_of(b));
    return Array::from<float>({m, n}, values);
  }
  const std::vector<std::uint16_t> narrow(bits.begin(), bits.end());
  return Array::from_bytes(spec.out_format == ProductOutput::bf16 ? Dtype::bf16 : Dtype::f16, {m, n},
                           std::as_bytes(std::span(narrow)));
}

}  // namespace ng::validate
