// SPDX-License-Identifier: Apache-2.0
//
// The layout of a quantized tensor in HDF5.
#include "quantized_file.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng::cli {
namespace {

template <class To, class From>
std::vector<To> in_original_axes(const From* from, std::int64_t rows, std::int64_t cols, bool turned) {
  std::vector<To> to(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      to[static_cast<std::size_t>(r * cols + c)] = static_cast<To>(from[turned ? c * rows + r : r * cols + c]);
  return to;
}

// Codes of one or two bytes each, named by their format. BF16 is a type of its own to HDF5 readers.
Array array_of_codes(FormatId format, std::vector<std::int64_t> shape, std::span<const std::byte> bytes) {
  if (format == FormatId::bf16) return Array::from_bytes(Dtype::bf16, std::move(shape), bytes);
  const bool wide = bit_count(format_of(format)) > 8;
  Array codes = Array::from_bytes(wide ? Dtype::u16 : Dtype::u8, std::move(shape), bytes);
  codes.format = name_of(format);
  return codes;
}

// Group `residual`: compressed sparse rows of the matrix as quantized; with axis column those are the original's
// columns.
void write_residual(hdf5::Group& group, const SparseResidual& residual, Orientation axis) {
  hdf5::Group to = group.create_group("residual");
  to.set_attribute("rows", residual.rows);
  to.set_attribute("cols", residual.cols);
  to.set_attribute("axis", name_of(axis));
  const std::size_t count = static_cast<std::size_t>(residual.count);
  const std::span<const std::int64_t> pointers(residual.row_pointers.as<std::int64_t>(),
                                               static_cast<std::size_t>(residual.rows + 1));
  (void)to.create("row_pointers", Array::from<std::int64_t>({residual.rows + 1}, pointers));
  const std::span<const std::int32_t> columns(residual.columns.as<std::int32_t>(), count);
  (void)to.create("columns", Array::from<std::int32_t>({residual.count}, columns));
  const std::size_t width = residual.format == FormatId::bf16 ? 2 : 1;
  const std::span<const std::byte> bytes(residual.values.as<std::byte>(), count * width);
  (void)to.create("values", array_of_codes(residual.format, {residual.count}, bytes));
}

}  // namespace

UnpackedTensor unpack(const QuantizedTensor& q) {
  NG_CHECK_EQ(q.groups.count(), 1);
  const bool turned = q.orientation == Orientation::column;
  UnpackedTensor t;
  t.rows = turned ? q.cols : q.rows;
  t.cols = turned ? q.rows : q.cols;
  const std::int64_t across = q.spec.tile_rows == 0 ? std::max<std::int64_t>(q.rows, 1) : q.spec.tile_rows;
  const std::int64_t along = q.spec.tile_cols == 0 ? std::max<std::int64_t>(q.cols, 1) : q.spec.tile_cols;
  t.tile_rows = turned ? along : across;
  t.tile_cols = turned ? across : along;

  std::vector<std::uint16_t> codes(static_cast<std::size_t>(q.rows * q.cols));
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const std::uint8_t* row = q.codes.as<std::uint8_t>() + r * q.row_bytes;
    for (std::int64_t c = 0; c < q.cols; ++c)
      codes[static_cast<std::size_t>(r * q.cols + c)] =
          static_cast<std::uint16_t>(load_code(row, q.storage, static_cast<std::size_t>(c)));
  }
  t.codes = in_original_axes<std::uint16_t>(codes.data(), t.rows, t.cols, turned);

  if (q.spec.scale_format == ScaleFormat::none) return t;
  const std::int64_t scale_rows = turned ? q.scale_cols : q.scale_rows;
  const std::int64_t scale_cols = turned ? q.scale_rows : q.scale_cols;
  NG_CHECK_EQ(scale_rows, tile_count(t.rows, t.tile_rows));
  NG_CHECK_EQ(scale_cols, tile_count(t.cols, t.tile_cols));
  if (q.spec.scale_format == ScaleFormat::f32) {
    t.scale_values = in_original_axes<float>(q.scales.as<float>(), scale_rows, scale_cols, turned);
  } else {
    t.scale_codes = in_original_axes<std::uint8_t>(q.scales.as<std::uint8_t>(), scale_rows, scale_cols, turned);
  }
  return t;
}

void write_quantized(hdf5::Group& group, const QuantizedTensor& q, const std::vector<float>& dequantized, bool packed) {
  const UnpackedTensor t = unpack(q);
  const std::string element = name_of(q.spec.element_id);
  group.set_attribute("quantizer", to_json(q.spec).canonical());
  group.set_attribute("element", element);
  group.set_attribute("scale_format", name_of(q.spec.scale_format));
  group.set_attribute("rows", t.rows);
  group.set_attribute("cols", t.cols);
  group.set_attribute("tile_rows", t.tile_rows);
  group.set_attribute("tile_cols", t.tile_cols);
  group.set_attribute("axis", name_of(q.orientation));

  const std::vector<std::int64_t> shape = {t.rows, t.cols};
  if (q.storage == CodeStorage::half) {
    (void)group.create("codes", array_of_codes(q.spec.element_id, shape, std::as_bytes(std::span(t.codes))));
  } else {
    const std::vector<std::uint8_t> bytes(t.codes.begin(), t.codes.end());
    (void)group.create("codes", array_of_codes(q.spec.element_id, shape, std::as_bytes(std::span(bytes))));
  }

  if (packed) {
    const std::int64_t row_bytes = (t.cols + 1) / 2;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(t.rows * row_bytes), 0);
    for (std::int64_t r = 0; r < t.rows; ++r)
      for (std::int64_t c = 0; c < t.cols; ++c)
        store_code(bytes.data() + r * row_bytes, CodeStorage::nibble, static_cast<std::size_t>(c),
                   t.codes[static_cast<std::size_t>(r * t.cols + c)]);
    (void)group.create("codes_packed", Array::from<std::uint8_t>({t.rows, row_bytes}, bytes));
  }

  const std::vector<std::int64_t> scale_shape = {tile_count(t.rows, t.tile_rows), tile_count(t.cols, t.tile_cols)};
  if (q.spec.scale_format == ScaleFormat::f32) {
    (void)group.create("scales", Array::from<float>(scale_shape, t.scale_values));
  } else if (q.spec.scale_format != ScaleFormat::none) {
    Array scales = Array::from<std::uint8_t>(scale_shape, t.scale_codes);
    scales.format = name_of(q.spec.scale_format);
    (void)group.create("scales", scales);
  }
  if (q.has_tensor_scale())
    (void)group.create("tensor_scale", Array::from<float>({}, std::span<const float>(q.tensor_scales.as<float>(), 1)));
  if (q.spec.decode == DecodeOrder::te)
    (void)group.create("tensor_amax", Array::from<float>({}, std::span<const float>(q.tensor_amaxes.as<float>(), 1)));
  (void)group.create("dequantized", Array::from<float>(shape, dequantized));
  if (q.residual != nullptr) write_residual(group, *q.residual, q.orientation);
}

}  // namespace ng::cli
