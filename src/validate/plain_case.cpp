// SPDX-License-Identifier: Apache-2.0
//
// A case from single files named on the command line: npy, safetensors, HDF5 datasets, or raw bytes with a shape and a
// type.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/validate/case.hpp"
#include "narrowgauge/validate/specs.hpp"

namespace ng::validate {
namespace {

std::vector<std::string> raw_types() {
  std::vector<std::string> names = {"f32", "f16", "bf16", "u8", "u16", "u32"};
  for (const std::string& name : element_format_names())
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  names.emplace_back("e8m0");
  return names;
}

Array read_one(const std::string& file, const std::string& shape, const std::string& dtype, const std::string& option) {
  if (describes_itself(file)) return read_tensor(file);
  if (shape.empty() || dtype.empty())
    throw UserError(fmt::format("{}: raw bytes need --{}shape and --{}dtype", file, option, option));
  const std::vector<std::string> names = raw_types();
  if (std::find(names.begin(), names.end(), dtype) == names.end())
    throw UserError(fmt::format("--{}dtype '{}' is unknown; {}", option, dtype, suggestion(dtype, names)));
  const std::optional<FormatId> code = find_format(dtype);
  const bool wide = code && bit_count(format_of(*code)) > 8;
  return read_raw(file, parse_shape(shape, fmt::format("--{}shape", option)), dtype, wide ? 2 : 1);
}

// Raw scales have no shape of their own: as many as the file holds.
Array read_scales(const std::string& file, bool f32) {
  if (describes_itself(file)) return read_tensor(file);
  const std::int64_t bytes = raw_size(file), unit = f32 ? 4 : 1;
  if (bytes % unit != 0) throw UserError(fmt::format("{}: {} bytes are no whole number of FP32 scales", file, bytes));
  return read_raw(file, {bytes / unit}, f32 ? "f32" : "u8");
}

void need(const std::string& value, const char* option, const char* operation) {
  if (value.empty()) throw UserError(fmt::format("--operation {} needs --{}", operation, option));
}

UnpackedTensor source_of(const PlainCase& given) {
  QuantizedLayout layout;
  layout.element = given.element;
  layout.axis = given.axis == "column" ? Orientation::column : Orientation::row;
  if (!given.tile.empty()) {
    const std::vector<std::int64_t> tile = parse_shape(given.tile, "--tile");
    if (tile.size() != 2) throw UserError(fmt::format("--tile {} is not ROWSxCOLS", given.tile));
    layout.tile_rows = tile[0];
    layout.tile_cols = tile[1];
  }
  const Array codes = read_one(given.in, given.shape, given.dtype, "");
  if (given.in_scales.empty()) throw UserError("a transpose or recode needs --in-scales");
  Array scales = describes_itself(given.in_scales) ? read_tensor(given.in_scales) : read_scales(given.in_scales, true);
  return quantized_from(codes, &scales, layout);
}

}  // namespace

std::vector<std::int64_t> parse_shape(const std::string& text, const std::string& what) {
  std::vector<std::int64_t> shape;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t extent = -1;
    const auto [after, error] = std::from_chars(at, end, extent);
    if (error != std::errc{} || extent < 0 || (after != end && *after != 'x') || shape.size() == 32)
      throw UserError(fmt::format("{} {} is not EXTENTxEXTENT, for example 128x4096", what, text));
    shape.push_back(extent);
    if (after == end) return shape;
    at = after + 1;
  }
}

Case plain_case(const PlainCase& given) {
  Case c;
  c.operation = parse_enum<Operation>("operation", given.operation);
  const char* operation = given.operation.c_str();
  need(given.spec, "spec", operation);
  need(given.in, "in", operation);
  c.spec = given.spec;
  c.made_by = "files";
  c.axis = given.axis.empty() ? Orientation::row : parse_enum<Orientation>("axis", given.axis);
  c.seed = static_cast<std::uint32_t>(given.seed);
  c.tensor_id = static_cast<std::uint32_t>(given.tensor_id);
  c.step = static_cast<std::uint32_t>(given.step);
  c.layout = given.layout;
  bool f32_scales = true;
  switch (c.operation) {
    case Operation::quantize:
    case Operation::hadamard: {
      const Array x = read_one(given.in, given.shape, given.dtype, "");
      c.rows = x.rows();
      c.cols = x.cols();
      c.x = numbers_of(x);
      if (c.operation == Operation::quantize) f32_scales = quantizer_of(c.spec).scale_format == ScaleFormat::f32;
      break;
    }
    case Operation::transpose:
    case Operation::recode:
      c.source = source_of(given);
      f32_scales = c.operation == Operation::recode ? quantizer_of(c.spec).scale_format == ScaleFormat::f32
                                                    : c.source->scale_format == ScaleFormat::f32;
      break;
    case Operation::matmul:
      need(given.in_b, "in-b", operation);
      c.operands.emplace("a", read_one(given.in, given.shape, given.dtype, ""));
      c.operands.emplace("b", read_tensor(given.in_b));
      if (!given.in_scale_a.empty()) c.operands.emplace("scale_a", read_tensor(given.in_scale_a));
      if (!given.in_scale_b.empty()) c.operands.emplace("scale_b", read_tensor(given.in_scale_b));
      break;
  }
  for (std::size_t at = 0; !given.splits.empty() && at <= given.splits.size();) {
    const std::size_t comma = std::min(given.splits.find(',', at), given.splits.size());
    const std::vector<std::int64_t> extent = parse_shape(given.splits.substr(at, comma - at), "--splits");
    if (extent.size() != 1) throw UserError(fmt::format("--splits {} is not a list of extents: 128,300", given.splits));
    c.splits.push_back(extent.front());
    at = comma + 1;
  }
  const auto output = [&](const std::string& file) -> std::optional<Array> {
    if (file.empty()) return std::nullopt;
    if (c.name.empty()) c.name = file;
    return read_one(file, given.out_shape, given.out_dtype, "out-");
  };
  c.codes = output(given.out_codes);
  if (!given.out_scales.empty()) c.scales = read_scales(given.out_scales, f32_scales);
  if (!given.out_tensor_scale.empty()) c.tensor_scale = read_scales(given.out_tensor_scale, true);
  c.dequantized = output(given.out_dequantized);
  c.result = output(given.out_result);
  if (!c.codes && !c.dequantized && !c.result)
    throw UserError("nothing to judge: give --out-codes, --out-dequantized or --out-result");
  return c;
}

}  // namespace ng::validate
