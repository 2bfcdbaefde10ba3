// SPDX-License-Identifier: Apache-2.0
//
// Transposes and recodings of whole tensors as commands and verifier use them: everything that the conversions demand
// of their input is checked here and answered with a UserError.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"
#include "narrowgauge/validate/specs.hpp"

namespace ng::validate {

/// [cols, rows] with tiles along its rows. exact, published: tiles 1 x T along rows, scales powers of two, none NaN.
/// requantize: decoded, transposed and quantized by spec.quantizer, each split on its own. `splits` empty: one group.
[[nodiscard]] UnpackedTensor transposed_reference(const UnpackedTensor& x, const TransposeSpec& spec,
                                                  const std::vector<std::int64_t>& splits);

/// x in the format of `spec`, on x's own axes: tiles along rows (axis row), or down its columns (column: what a
/// transpose wants). Power-of-two scales on both sides; smaller tiles need e8m0 scales.
[[nodiscard]] UnpackedTensor recoded_reference(const UnpackedTensor& x, const QuantizerSpec& spec, Orientation axis);

}  // namespace ng::validate
