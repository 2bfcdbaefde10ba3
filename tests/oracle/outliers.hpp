// SPDX-License-Identifier: Apache-2.0
//
// Outlier clamping and compensation of the oracle (arXiv 2501.17116 section 3.2 and MS-AMP's choice of ranks): a full
// sort, a dense residual beside the sparse one, products one chain at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ng_oracle {

struct OutlierSplit {
  std::vector<float> clamped;              ///< [rows, cols]
  std::vector<float> residual;             ///< [rows, cols], values of the residual's codes; 0 elsewhere
  std::vector<std::int64_t> row_pointers;  ///< [rows + 1]
  std::vector<std::int32_t> columns;       ///< ascending in a row
  std::vector<std::uint32_t> codes;        ///< of `format`
};

/// Splits x [rows, cols] by row or as a whole. Scopes with a NaN are left alone. `format`: of the residual; empty: none
/// is kept.
OutlierSplit split_outliers(const std::vector<float>& x, std::size_t rows, std::size_t cols, double quantile,
                            bool whole, const std::string& format);

/// out[m, n] continued by the chain of fma(residual[m, k], weight[n, k]) over the sparse entries of row m, ascending k.
void add_compensation(const OutlierSplit& split, std::size_t rows, std::size_t cols, const std::vector<float>& weight,
                      std::size_t n, std::vector<float>& out);

}  // namespace ng_oracle
