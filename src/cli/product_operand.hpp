// SPDX-License-Identifier: Apache-2.0
//
// Operands and scales of `matmul` as FP32 numbers: codes decoded, raw bits taken as they are, floating values accepted
// when the format can hold them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng::cli {

struct ProductOperand {
  std::vector<float> values;  ///< [rows, cols]
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  FormatId format = FormatId::fp32;
  std::string origin;
};

/// `format_name` empty: what the file says (a code format, bf16, fp16, else fp32). Unsigned integers are codes of the
/// format (FP32's bits for tf32). TF32 operands are rounded to nearest even, as cuBLASLt does; a floating value that
/// another format cannot hold is a UserError naming the first.
[[nodiscard]] ProductOperand read_operand(const std::string& in, const std::string& format_name);

/// FP32 scales of one operand, or a UserError that names the shapes that fit. `rows`: as many rows of scales.
struct OperandScaleValues {
  std::vector<float> values;
  std::int64_t stride = 0;  ///< from one row of the operand to the next
};
[[nodiscard]] OperandScaleValues read_scales(const std::string& in, ScaleMode mode, std::int64_t rows, std::int64_t k);

/// Block scales of MX or NVFP4 operands as values, [rows, blocks].
struct BlockScaleValues {
  std::vector<float> values;
  std::int64_t blocks = 0;  ///< along k
  OperandScales scales = OperandScales::none;
};

/// Codes of E8M0 per 32 or E4M3 per 16 values of k: by the array's format, else by its shape. UserError naming both
/// when it is neither.
[[nodiscard]] BlockScaleValues read_block_scales(const std::string& in, std::int64_t rows, std::int64_t k);

/// Values of k that share a block scale, and the scales' format.
[[nodiscard]] constexpr std::int64_t block_scale_k(OperandScales scales) {
  return scales == OperandScales::e8m0_per_32 ? 32 : scales == OperandScales::e4m3_per_16 ? 16 : 1;
}
[[nodiscard]] constexpr FormatId block_scale_format(OperandScales scales) {
  return scales == OperandScales::e4m3_per_16 ? FormatId::e4m3 : FormatId::e8m0;
}

}  // namespace ng::cli
