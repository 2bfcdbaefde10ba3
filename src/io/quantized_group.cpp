// SPDX-License-Identifier: Apache-2.0
//
// quantized_group.hpp: every shape is compared before an element is touched.
#include "narrowgauge/io/quantized_group.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"

namespace ng {
namespace {

const char* axis_name(Orientation axis) {
  return axis == Orientation::row ? "row" : "column";
}

// Names of the scale formats: those of the number formats that they are.
const std::vector<std::string>& scale_format_names() {
  static const std::vector<std::string> names = {"none", name_of(FormatId::e8m0), name_of(FormatId::e4m3),
                                                 std::string(name_of(Dtype::f32))};
  return names;
}

ScaleFormat scale_format_of(const std::string& name, const std::string& where) {
  const std::vector<std::string>& names = scale_format_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end())
    throw UserError(where + ": scale format '" + name + "' is unknown; " + suggestion(name, names));
  return static_cast<ScaleFormat>(found - names.begin());
}

FormatId element_of(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const NamedFormat& f : format_catalog()) {
    if (f.id == FormatId::e8m0 || bit_count(f.format) > 16) continue;
    if (f.name == name) return f.id;
    names.emplace_back(f.name);
  }
  if (name.empty())
    throw UserError(where + ": nothing says which format the codes are of; give element, one of " +
                    suggestion("", names));
  throw UserError(where + ": element '" + name + "' is unknown; " + suggestion(name, names));
}

std::vector<std::uint16_t> codes_of(const Array& array, FormatId element) {
  std::vector<std::uint16_t> codes(static_cast<std::size_t>(array.count()));
  if (array.dtype == Dtype::u8) {
    const auto values = array.as<std::uint8_t>();
    std::copy(values.begin(), values.end(), codes.begin());
  } else if (array.dtype == Dtype::u16) {
    const auto values = array.as<std::uint16_t>();
    std::copy(values.begin(), values.end(), codes.begin());
  } else if ((array.dtype == Dtype::bf16 && element == FormatId::bf16) ||
             (array.dtype == Dtype::f16 && element == FormatId::fp16)) {
    const auto* values = reinterpret_cast<const std::uint16_t*>(array.data.data());
    std::copy(values, values + codes.size(), codes.begin());
  } else {
    throw UserError(array.origin + ": codes are u8 or u16, one an entry; this holds " +
                    std::string(name_of(array.dtype)));
  }
  const int bits = bit_count(format_of(element));
  const auto wrong = std::find_if(codes.begin(), codes.end(), [&](std::uint16_t code) { return code >> bits != 0; });
  if (wrong != codes.end())
    throw UserError(array.origin + ": element " + std::to_string(wrong - codes.begin()) + " is " +
                    std::to_string(*wrong) + ", no code of " + name_of(element) + ", which has " +
                    std::to_string(bits) + " bits");
  return codes;
}

// Codes of one or two bytes each, named by their format. BF16 is a type of its own to HDF5 readers.
Array array_of_codes(FormatId format, std::vector<std::int64_t> shape, std::span<const std::byte> bytes) {
  if (format == FormatId::bf16) return Array::from_bytes(Dtype::bf16, std::move(shape), bytes);
  const bool wide = bit_count(format_of(format)) > 8;
  Array codes = Array::from_bytes(wide ? Dtype::u16 : Dtype::u8, std::move(shape), bytes);
  codes.format = name_of(format);
  return codes;
}

float scalar(const hdf5::Group& group, const char* name) {
  const Array array = group.read(name);
  if (array.count() != 1)
    throw UserError(array.origin + ": one number is needed, the shape is " + shape_text(array.shape));
  return array.as_f32().front();
}

}  // namespace

UnpackedTensor quantized_from(const Array& codes, const Array* scales, const QuantizedLayout& layout) {
  UnpackedTensor t;
  if (!layout.element.empty() && !codes.format.empty() && layout.element != codes.format)
    throw UserError(codes.origin + ": holds codes of " + codes.format + ", not of " + layout.element);
  std::string element = layout.element.empty() ? codes.format : layout.element;
  if (element.empty() && codes.dtype == Dtype::bf16) element = name_of(FormatId::bf16);
  if (element.empty() && codes.dtype == Dtype::f16) element = name_of(FormatId::fp16);
  t.element = element_of(element, codes.origin);
  t.rows = codes.rows();
  t.cols = codes.cols();
  t.axis = layout.axis;
  t.codes = codes_of(codes, t.element);
  if (scales == nullptr) {
    if (!layout.scale_format.empty() && scale_format_of(layout.scale_format, codes.origin) != ScaleFormat::none)
      throw UserError(codes.origin + ": scale format " + layout.scale_format + " without scales");
    t.tile_cols = std::max<std::int64_t>(t.cols, 1);
    return t;
  }
  std::string format = layout.scale_format.empty() ? scales->format : layout.scale_format;
  if (format.empty() && scales->dtype == Dtype::f32) format = name_of(Dtype::f32);
  t.scale_format = scale_format_of(format, scales->origin);
  if (layout.tile_rows < 1 || layout.tile_cols < 1)
    throw UserError(scales->origin + ": scales need the extents of a tile, at least 1 x 1: tile_rows, tile_cols");
  t.tile_rows = layout.tile_rows;
  t.tile_cols = layout.tile_cols;
  t.col_splits = layout.col_splits;
  std::int64_t split = 0;
  for (const std::int64_t extent : t.col_splits) {
    if (extent < 0 || extent > t.cols - split)
      throw UserError(codes.origin + ": splits do not add up to the " + std::to_string(t.cols) + " columns");
    split += extent;
  }
  if (!t.col_splits.empty() && split != t.cols)
    throw UserError(codes.origin + ": splits add up to " + std::to_string(split) + " of " + std::to_string(t.cols) +
                    " columns");
  if (scales->count() != t.scale_rows() * t.scale_cols() ||
      (scales->shape.size() >= 2 && scales->cols() != t.scale_cols()))
    throw UserError(scales->origin + ": " + shape_text(scales->shape) + " scales; tiles " +
                    std::to_string(t.tile_rows) + "x" + std::to_string(t.tile_cols) + " on [" + std::to_string(t.rows) +
                    ", " + std::to_string(t.cols) + "] need [" + std::to_string(t.scale_rows()) + ", " +
                    std::to_string(t.scale_cols()) + "]");
  if (t.scale_format == ScaleFormat::f32) {
    t.scale_values = scales->as_f32();
  } else {
    if (scales->dtype != Dtype::u8)
      throw UserError(scales->origin + ": " + format + " scales are codes, u8; this holds " +
                      std::string(name_of(scales->dtype)));
    const auto values = scales->as<std::uint8_t>();
    t.scale_codes.assign(values.begin(), values.end());
  }
  return t;
}

Array unpacked_nibbles(const Array& packed, std::int64_t cols, bool first_low) {
  if (packed.dtype != Dtype::u8)
    throw UserError(packed.origin + ": packed codes are u8; this holds " + std::string(name_of(packed.dtype)));
  const std::int64_t rows = packed.rows(), row_bytes = packed.cols();
  if (cols < 0 || (cols + 1) / 2 != row_bytes)
    throw UserError(packed.origin + ": rows of " + std::to_string(row_bytes) + " bytes do not hold " +
                    std::to_string(cols) + " codes of 4 bits");
  std::vector<std::uint8_t> codes;
  codes.reserve(static_cast<std::size_t>(rows * cols));
  const auto bytes = packed.as<std::uint8_t>();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) {
      const unsigned byte = bytes[static_cast<std::size_t>(r * row_bytes + c / 2)];
      codes.push_back(static_cast<std::uint8_t>((c % 2 == 0) == first_low ? byte & 0xfu : byte >> 4));
    }
  Array array = Array::from<std::uint8_t>({rows, cols}, codes);
  array.origin = packed.origin;
  array.format = packed.format;
  return array;
}

UnpackedTensor read_quantized(const hdf5::Group& group) {
  QuantizedLayout layout;
  const auto text = [&](const char* name) {
    return group.has_attribute(name) ? group.attribute_text(name) : std::string();
  };
  const auto extent = [&](const char* name, std::int64_t missing) {
    if (!group.has_attribute(name)) return missing;
    const std::int64_t value = group.attribute_integer(name);
    if (value < 0 || value > (std::int64_t{1} << 40))
      throw UserError(group.label() + ": attribute " + name + " is " + std::to_string(value) + ", no extent");
    return value;
  };
  layout.element = text("element");
  layout.scale_format = text("scale_format");
  layout.tile_rows = extent("tile_rows", 0);
  layout.tile_cols = extent("tile_cols", 0);
  const std::string axis = text("axis");
  if (!axis.empty() && axis != "row" && axis != "column")
    throw UserError(group.label() + ": attribute axis is '" + axis + "'; valid: row, column");
  layout.axis = axis == "column" ? Orientation::column : Orientation::row;
  if (group.has_attribute("splits")) {
    const Array splits = group.attribute_array("splits");
    const auto values = splits.as<std::int64_t>();
    layout.col_splits.assign(values.begin(), values.end());
  }
  const bool only_packed = !group.exists("codes") && group.exists("codes_packed");
  const Array codes =
      only_packed ? unpacked_nibbles(group.read("codes_packed"), extent("cols", -1), true) : group.read("codes");
  for (const auto& [name, is] : {std::pair("rows", codes.rows()), std::pair("cols", codes.cols())})
    if (extent(name, is) != is)
      throw UserError(codes.origin + ": shape " + shape_text(codes.shape) + ", but attribute " + name + " of " +
                      group.label() + " is " + std::to_string(extent(name, is)));
  if (layout.scale_format == "none" || !group.exists("scales")) {
    UnpackedTensor t = quantized_from(codes, nullptr, layout);
    return t;
  }
  const Array scales = group.read("scales");
  UnpackedTensor t = quantized_from(codes, &scales, layout);
  if (group.exists("tensor_scale")) t.tensor_scale = scalar(group, "tensor_scale");
  if (group.exists("tensor_amax")) t.tensor_amax = scalar(group, "tensor_amax");
  return t;
}

std::string quantizer_text_of(const hdf5::Group& group) {
  return group.has_attribute("quantizer") ? group.attribute_text("quantizer") : std::string();
}

void write_residual(hdf5::Group& group, const SparseResidual& residual, Orientation axis) {
  hdf5::Group to = group.create_group("residual");
  to.set_attribute("rows", residual.rows);
  to.set_attribute("cols", residual.cols);
  to.set_attribute("axis", axis_name(axis));
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

void write_quantized(hdf5::Group& group, const UnpackedTensor& t, const std::string& quantizer,
                     std::span<const float> dequantized, bool packed) {
  if (!quantizer.empty()) group.set_attribute("quantizer", quantizer);
  group.set_attribute("element", name_of(t.element));
  group.set_attribute("scale_format", scale_format_names()[static_cast<std::size_t>(t.scale_format)]);
  group.set_attribute("rows", t.rows);
  group.set_attribute("cols", t.cols);
  group.set_attribute("tile_rows", t.tile_rows);
  group.set_attribute("tile_cols", t.tile_cols);
  group.set_attribute("axis", axis_name(t.axis));
  if (!t.col_splits.empty())
    group.set_attribute("splits", Array::from<std::int64_t>({static_cast<std::int64_t>(t.col_splits.size())},
                                                            std::span<const std::int64_t>(t.col_splits)));
  const std::vector<std::int64_t> shape = {t.rows, t.cols};
  if (bit_count(format_of(t.element)) > 8) {
    (void)group.create("codes", array_of_codes(t.element, shape, std::as_bytes(std::span(t.codes))));
  } else {
    const std::vector<std::uint8_t> bytes(t.codes.begin(), t.codes.end());
    (void)group.create("codes", array_of_codes(t.element, shape, std::as_bytes(std::span(bytes))));
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
  const std::vector<std::int64_t> scale_shape = {t.scale_rows(), t.scale_cols()};
  if (t.scale_format == ScaleFormat::f32) {
    (void)group.create("scales", Array::from<float>(scale_shape, t.scale_values));
  } else if (t.scale_format != ScaleFormat::none) {
    Array scales = Array::from<std::uint8_t>(scale_shape, t.scale_codes);
    scales.format = scale_format_names()[static_cast<std::size_t>(t.scale_format)];
    (void)group.create("scales", scales);
  }
  const auto write_scalar = [&](const char* name, const std::optional<float>& value) {
    if (value) (void)group.create(name, Array::from<float>({}, std::span<const float>(&*value, 1)));
  };
  write_scalar("tensor_scale", t.tensor_scale);
  write_scalar("tensor_amax", t.tensor_amax);
  if (!dequantized.empty() || t.codes.empty())
    (void)group.create("dequantized", Array::from<float>(shape, dequantized));
}

}  // namespace ng
