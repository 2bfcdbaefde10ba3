// SPDX-License-Identifier: Apache-2.0
//
// The outlier split of a tensor and its compensation product. Bounds come from a selection, not a full sort: a rank's
// value is the same. Scopes and rows are those of the matrix as quantized, inside each group.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu_backend.hpp"
#include "cpu_decode.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/quantize/outlier_split.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 32;

OutlierBounds bounds_of(std::vector<std::uint32_t>& keys, double quantile) {
  if (keys.empty()) return {};
  const OutlierRanks ranks = outlier_ranks(quantile, static_cast<std::int64_t>(keys.size()));
  const auto value_at = [&](std::int64_t rank) {
    std::nth_element(keys.begin(), keys.begin() + rank, keys.end());
    return value_of_sort_key(keys[static_cast<std::size_t>(rank)]);
  };
  return {value_at(ranks.low), value_at(ranks.high)};
}

struct Entry {
  std::int32_t column;
  std::uint16_t code;
};

}  // namespace

std::shared_ptr<const SparseResidual> CpuBackend::split_outliers(const QuantizerSpec& spec, Orientation orientation,
                                                                 const TensorView& x, const RowGroups& groups,
                                                                 FloatSource& source) {
  const OutlierSpec& outlier = spec.outlier;
  const bool row_form = orientation == Orientation::row;
  const bool keeps = outlier.residual != OutlierResidual::none;
  const FormatId format_id = residual_format(outlier.residual);
  const ElementFormat format = format_of(format_id);
  if (source.copy.empty()) {  // the original stays as it is
    source.copy.resize(static_cast<std::size_t>(x.rows * x.cols));
    for (std::int64_t r = 0; r < x.rows; ++r)
      std::copy_n(source.data + r * source.stride, x.cols, source.copy.data() + r * x.cols);
    source.data = source.copy.data();
    source.stride = x.cols;
  }
  float* data = source.copy.data();
  const std::int64_t rows = row_form ? x.rows : x.cols;  // as quantized
  std::vector<std::vector<Entry>> entries(static_cast<std::size_t>(rows));

  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t begin = groups.begin(g, x.rows);
    const std::int64_t end = groups.end(g, x.rows);
    // Line l of the group: a row as quantized, element (l, i) of it, and its column in the quantized matrix.
    const std::int64_t lines = row_form ? end - begin : x.cols;
    const std::int64_t length = row_form ? x.cols : end - begin;
    const auto at = [&](std::int64_t l, std::int64_t i) -> float& {
      return row_form ? data[(begin + l) * x.cols + i] : data[(begin + i) * x.cols + l];
    };
    /// False where a NaN is found.
    const auto collect = [&](std::int64_t l, std::vector<std::uint32_t>& keys) {
      for (std::int64_t i = 0; i < length; ++i) {
        const float value = at(l, i);
        if (is_nan_bits(bits_of(value))) return false;
        keys.push_back(sort_key(value));
      }
      return true;
    };
    OutlierBounds whole;
    if (outlier.scope == OutlierScope::tensor) {
      std::vector<std::uint32_t> keys;
      keys.reserve(static_cast<std::size_t>(lines * length));
      bool finite = true;
      for (std::int64_t l = 0; l < lines && finite; ++l) finite = collect(l, keys);
      if (finite) whole = bounds_of(keys, outlier.quantile);
    }
    pool_.parallel_ranges(lines, kRowsPerPiece, [&](std::int64_t first, std::int64_t last) {
      std::vector<std::uint32_t> keys;
      for (std::int64_t l = first; l < last; ++l) {
        OutlierBounds bounds = whole;
        if (outlier.scope == OutlierScope::row) {
          keys.clear();
          if (collect(l, keys)) bounds = bounds_of(keys, outlier.quantile);
        }
        std::vector<Entry>& row = entries[static_cast<std::size_t>(row_form ? begin + l : l)];
        for (std::int64_t i = 0; i < length; ++i) {
          float& value = at(l, i);
          if (!is_outlier(bounds, value)) continue;
          if (keeps)
            row.push_back({static_cast<std::int32_t>(row_form ? i : begin + i),
                           static_cast<std::uint16_t>(residual_code(format, bounds, value))});
          value = clamp_outlier(bounds, value);
        }
      }
    });
  }
  if (!keeps) return nullptr;

  auto residual = std::make_shared<SparseResidual>();
  residual->format = format_id;
  residual->rows = rows;
  residual->cols = row_form ? x.cols : x.rows;
  residual->row_pointers = allocate(static_cast<std::size_t>(rows + 1) * sizeof(std::int64_t));
  std::int64_t* pointers = residual->row_pointers.as<std::int64_t>();
  pointers[0] = 0;
  for (std::int64_t r = 0; r < rows; ++r)
    pointers[r + 1] = pointers[r] + static_cast<std::int64_t>(entries[static_cast<std::size_t>(r)].size());
  residual->count = pointers[rows];
  const std::size_t width = format_id == FormatId::bf16 ? 2 : 1;
  residual->columns = allocate(static_cast<std::size_t>(residual->count) * sizeof(std::int32_t));
  residual->values = allocate(static_cast<std::size_t>(residual->count) * width);
  std::int64_t i = 0;
  for (const std::vector<Entry>& row : entries) {
    for (const Entry& entry : row) {
      residual->columns.as<std::int32_t>()[i] = entry.column;
      if (width == 2)
        residual->values.as<std::uint16_t>()[i] = entry.code;
      else
        residual->values.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(entry.code);
      ++i;
    }
  }
  return residual;
}

void CpuBackend::add_residual(const SparseResidual& residual, std::vector<float>& decoded) {
  const ElementTable& table = element_table(residual.format);
  const std::int64_t* pointers = residual.row_pointers.as<std::int64_t>();
  for (std::int64_t r = 0; r < residual.rows; ++r) {
    for (std::int64_t i = pointers[r]; i < pointers[r + 1]; ++i) {
      float& value = decoded[static_cast<std::size_t>(r * residual.cols + residual.columns.as<std::int32_t>()[i])];
      value = add_rn(value, table.value[residual.code(i)]);
    }
  }
}

void CpuBackend::add_residual_product(const SparseResidual& a, const TensorView& b, const TensorView& out) {
  NG_CHECK_EQ(out.rows, a.rows);
  add_residual_rows(a, 0, b, out);
}

void CpuBackend::add_residual_rows(const SparseResidual& a, std::int64_t row0, const TensorView& b,
                                   const TensorView& out) {
  NG_CHECK(out.dtype == Dtype::f32);
  NG_CHECK(b.dtype == Dtype::f32 || b.dtype == Dtype::bf16);
  NG_CHECK_EQ(out.cols, b.rows);
  NG_CHECK_EQ(b.cols, a.cols);
  // B transposed: the entries of a row of A then meet whole rows.
  std::vector<float> turned(static_cast<std::size_t>(b.rows * b.cols));
  std::vector<float> line(static_cast<std::size_t>(b.cols));
  for (std::int64_t n = 0; n < b.rows; ++n) {
    if (b.dtype == Dtype::bf16)
      kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(b.row(n)), line.data(), b.cols);
    else
      std::memcpy(line.data(), b.row(n), line.size() * sizeof(float));
    for (std::int64_t k = 0; k < b.cols; ++k)
      turned[static_cast<std::size_t>(k * b.rows + n)] = line[static_cast<std::size_t>(k)];
  }
  const ElementTable& table = element_table(a.format);
  const std::int64_t* pointers = a.row_pointers.as<std::int64_t>();
  pool_.parallel_ranges(out.rows, kRowsPerPiece, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t m = first; m < last; ++m) {
      float* sums = reinterpret_cast<float*>(out.row(m));
      for (std::int64_t i = pointers[row0 + m]; i < pointers[row0 + m + 1]; ++i) {
        const float value = table.value[a.code(i)];
        const float* weights = turned.data() + a.columns.as<std::int32_t>()[i] * b.rows;
        for (std::int64_t n = 0; n < out.cols; ++n) sums[n] = add_compensation(sums[n], value, weights[n]);
      }
    }
  });
}

}  // namespace ng::cpu
