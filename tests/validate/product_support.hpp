// SPDX-License-Identifier: Apache-2.0
//
// Random operands of a product, with the scales that its spec needs.
#pragma once

#include <random>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {

inline OperandNumbers random_operand(FormatId format, std::int64_t rows, std::int64_t cols, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  OperandNumbers operand{{}, rows, cols, format};
  for (std::int64_t i = 0; i < rows * cols; ++i)
    operand.values.push_back(decode(format_of(format), encode(format_of(format), CastChoices{}, normal(random))));
  return operand;
}

inline BlockScales random_block_scales(OperandScales kind, std::int64_t rows, std::int64_t k, std::mt19937& random) {
  const std::int64_t per = block_scale_k(kind);
  BlockScales scales{{}, (k + per - 1) / per, kind};
  const ElementFormat format = format_of(block_scale_format(kind));
  for (std::int64_t i = 0; i < rows * scales.blocks; ++i)
    scales.values.push_back(
        decode(format, kind == OperandScales::e8m0_per_32 ? 122 + random() % 10 : 0x28 + random() % 0x28));
  return scales;
}

/// Operands of [m, k] and [n, k].
inline ProductOperands random_operands(const ProductSpec& spec, FormatId a, FormatId b, std::int64_t m, std::int64_t n,
                                       std::int64_t k, OperandScales blocks, unsigned seed) {
  std::mt19937 random(seed);
  ProductOperands in;
  in.a = random_operand(a, m, k, random);
  in.b = random_operand(b, n, k, random);
  const auto scales = [&](std::int64_t rows) {
    std::uniform_real_distribution<float> uniform(0.25f, 4.0f);
    const std::int64_t blocks_of_k = is_blockwise(spec.scale_mode) ? (k + kScaleBlock - 1) / kScaleBlock : 1;
    std::vector<float> values;
    for (std::int64_t i = 0; i < (spec.scale_mode == ScaleMode::tensor ? 1 : rows) * blocks_of_k; ++i)
      values.push_back(uniform(random));
    return values;
  };
  if (spec.scale_mode != ScaleMode::none) {
    in.scale_a = scales(m);
    in.scale_b = scales(spec.scale_mode == ScaleMode::block_128x128 ? (n + 127) / 128 : n);
  }
  if (blocks != OperandScales::none) {
    in.block_a = random_block_scales(blocks, m, k, random);
    in.block_b = random_block_scales(blocks, n, k, random);
  }
  return in;
}

}  // namespace ng::validate
