// SPDX-License-Identifier: Apache-2.0
//
// The measures of a quantized tensor by their definitions, sums in long double over elements in index order.
#pragma once

#include <cstddef>
#include <vector>

#include "blocks.hpp"

namespace ng_oracle {

struct Measures {
  double rel_mse = 0;  ///< sum (d-x)^2 / sum x^2; 0 where the tensor is empty or zero
  double sqnr_db = 0;  ///< -10 log10(rel_mse); +infinity without error, NaN for an empty or zero tensor
  double cosine = 0;   ///< NaN where either tensor is zero
  double bias = 0;     ///< sum (d-x) sign(x) / sum |x|
  double max_abs_error = 0;
  double max_rel_error = 0;    ///< over x != 0
  double underflow_rate = 0;   ///< share of x != 0 with d = 0; NaN if there is no such x
  double saturation_rate = 0;  ///< share with |x| above what its tile can hold
  double scale_log2_mean = 0;  ///< over the positive finite scales of `q`
  double scale_log2_min = 0;
  double scale_log2_max = 0;
};

/// Errors of decoded values `d` against the original `x`, and the scale measures of `q`. `spec` gives the tiles.
Measures measure(const std::vector<float>& x, const Quantized& q, const BlockSpec& spec);

struct DoubleQuantization {
  double error = 0;    ///< sum (D(Qc D(Qr x)) - D(Qc x))^2 / sum x^2
  double excess = 0;   ///< rel_mse of Qc D(Qr x) minus rel_mse of Qc x
  double changed = 0;  ///< share of elements whose decoded value differs
};

/// Quantizes x [rows, cols] along rows, the decoded result along columns, and x itself along columns (both column
/// quantizations are those of the transpose under `column`).
DoubleQuantization double_quantization(const std::vector<float>& x, std::size_t rows, std::size_t cols,
                                       const BlockSpec& row, const BlockSpec& column);

}  // namespace ng_oracle
