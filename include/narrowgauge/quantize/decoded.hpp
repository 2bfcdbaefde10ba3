// SPDX-License-Identifier: Apache-2.0
//
// The numbers that a quantized matrix means.
#pragma once

#include <vector>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng {

/// [rows, cols] in the axes of `t`: fp32(fp32(code * scale) * tensor scale), or in Transformer Engine's order.
inline std::vector<float> decoded_values(const UnpackedTensor& t, DecodeOrder order) {
  const ElementFormat f = format_of(t.element);
  const std::vector<std::int64_t> scale_col = t.scale_col_of_col();
  std::vector<float> values;
  values.reserve(t.codes.size());
  for (std::int64_t r = 0; r < t.rows; ++r)
    for (std::int64_t c = 0; c < t.cols; ++c) {
      const float element = decode(f, t.codes[static_cast<std::size_t>(r * t.cols + c)]);
      if (t.scale_format == ScaleFormat::none) {
        values.push_back(element);
        continue;
      }
      const std::size_t at =
          static_cast<std::size_t>(r / t.tile_rows * t.scale_cols() + scale_col[static_cast<std::size_t>(c)]);
      const float scale = t.scale_format == ScaleFormat::f32 ? t.scale_values[at]
                                                             : stored_scale_value(t.scale_format, t.scale_codes[at]);
      if (order == DecodeOrder::te && t.tensor_amax) {
        values.push_back(decoded_product(element, te_decode_factor(scale, *t.tensor_amax)));
        continue;
      }
      const float one_level = decoded_product(element, scale);
      values.push_back(t.tensor_scale ? decoded_product(one_level, *t.tensor_scale) : one_level);
    }
  return values;
}

}  // namespace ng
