// SPDX-License-Identifier: Apache-2.0
//
// `quantize`: one tensor to codes and scales, with every measure of the error, through the same backend operation that
// training uses.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>

#include "commands.hpp"
#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/recording/measures.hpp"
#include "output.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

// Values of an input tensor in FP32, exactly; codes are decoded.
std::vector<float> values_of(const Array& array) {
  if (array.format.empty()) return array.as_f32();
  const std::optional<FormatId> id = find_format(array.format);
  const std::size_t bits = id ? static_cast<std::size_t>(bit_count(format_of(*id))) : 0;
  if (!id || bits > 16 || (array.dtype != Dtype::u8 && array.dtype != Dtype::u16) || bits > 8 * size_of(array.dtype))
    throw UserError(fmt::format("{}: attribute dtype = '{}' does not name a code format that fits {} values",
                                array.origin, array.format, name_of(array.dtype)));
  const ElementFormat format = format_of(*id);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(array.count()));
  const auto add = [&](std::uint32_t code) {
    if (code >> bits != 0)
      throw UserError(
          fmt::format("{}: {} is no code of {}, which has {} bits", array.origin, code, array.format, bits));
    values.push_back(decode(format, code));
  };
  if (array.dtype == Dtype::u8) {
    for (const std::uint8_t code : array.as<std::uint8_t>()) add(code);
  } else {
    for (const std::uint16_t code : array.as<std::uint16_t>()) add(code);
  }
  return values;
}

// "[0, 3, 17]": position of the flat index in the tensor's own shape.
std::string coordinates(std::span<const std::int64_t> shape, std::int64_t index) {
  std::vector<std::int64_t> at(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    at[d] = index % shape[d];
    index /= shape[d];
  }
  return shape_text(at);
}

// "37x75", "2x5x15" or "12".
std::vector<std::int64_t> shape_from(const Arguments& arguments) {
  const std::string& text = arguments.get("shape");
  std::vector<std::int64_t> shape;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t extent = -1;
    const auto [after, error] = std::from_chars(at, end, extent);
    if (error != std::errc{} || extent < 0 || (after != end && *after != 'x') || shape.size() == 32)
      arguments.fail(fmt::format("--shape {} is not EXTENTxEXTENT, for example 128x4096", text));
    shape.push_back(extent);
    if (after == end) return shape;
    at = after + 1;
  }
}

// IN, or raw bytes with --shape and --dtype.
Array read_input(const Arguments& arguments) {
  const std::string in = *arguments.operand("IN");
  const bool raw = arguments.has("shape") || arguments.has("dtype");
  if (!raw) return read_tensor(in);
  if (describes_itself(in)) arguments.fail(fmt::format("--shape and --dtype are for raw bytes; {} says its own", in));
  for (const char* needed : {"shape", "dtype"})
    if (!arguments.has(needed)) arguments.fail(fmt::format("raw bytes need --{} as well", needed));
  const std::string& dtype = arguments.get("dtype");
  const std::optional<FormatId> code = find_format(dtype);
  if (dtype == "f32" || dtype == "f16" || dtype == "bf16") return read_raw(in, shape_from(arguments), dtype);
  std::vector<std::string> names = {"f32", "f16", "bf16"};
  for (const std::string& name : element_format_names())
    if (bit_count(format_of(*find_format(name))) <= 16) names.push_back(name);
  if (std::find(names.begin(), names.end(), dtype) == names.end())
    arguments.fail(fmt::format("--dtype '{}' is unknown; {}", dtype, suggestion(dtype, names)));
  return read_raw(in, shape_from(arguments), dtype, bit_count(format_of(*code)) > 8 ? 2 : 1);
}

// A NaN is an error where the quantizer says so, else worth a word.
void check_nan(const Array& array, const std::vector<float>& values, const QuantizerSpec& spec) {
  const auto is_nan = [](float value) { return std::isnan(value); };
  const auto count = std::count_if(values.begin(), values.end(), is_nan);
  if (count == 0) return;
  const auto first = std::find_if(values.begin(), values.end(), is_nan) - values.begin();
  const std::string where =
      fmt::format("{}: {} NaN, the first at {}", array.origin, count, coordinates(array.shape, first));
  if (spec.cast.nan == NanChoice::error)
    throw UserError(
        fmt::format("{}, and the quantizer forbids it (nan=error); valid for {}: nan=largest, zero, negated_zero",
                    where, name_of(spec.element_id)));
  const char* becomes = "each is written as the choice nan says";
  if (spec.scale_format == ScaleFormat::e8m0) becomes = "each makes the scale of its tile NaN, and so the whole tile";
  if (spec.scale_format == ScaleFormat::f32) becomes = "each makes the scale of its tile NaN";
  write_stderr(fmt::format("{}; {}\n", where, becomes));
}

void check_transform(const Array& array, const QuantizerSpec& spec, Orientation axis) {
  if (spec.hadamard.size == 0) return;
  const std::int64_t length = axis == Orientation::row ? array.cols() : array.rows();
  if (length % spec.hadamard.size != 0)
    throw UserError(fmt::format("{}: a Hadamard transform of size {} does not divide the {} elements along axis {}",
                                array.origin, spec.hadamard.size, length, name_of(axis)));
}

std::vector<float> decoded_values(Backend& backend, const QuantizedTensor& q) {
  const Tensor decoded = backend.tensor(Dtype::f32, q.rows, q.cols);
  backend.dequantize(q, decoded.view);
  std::vector<float> values(static_cast<std::size_t>(q.rows * q.cols));
  backend.download(values.data(), decoded.view);
  if (q.orientation == Orientation::row) return values;
  std::vector<float> turned(values.size());
  for (std::int64_t r = 0; r < q.rows; ++r)
    for (std::int64_t c = 0; c < q.cols; ++c)
      turned[static_cast<std::size_t>(c * q.rows + r)] = values[static_cast<std::size_t>(r * q.cols + c)];
  return turned;
}

int run(const Arguments& arguments) {
  const QuantizerSpec spec = parse_quantizer_with_recipes(arguments.get("as"));
  const Orientation axis = *find_enum<Orientation>(arguments.get("axis"));
  const bool packed = arguments.flag("packed");
  if (packed && storage_of(spec.element) != CodeStorage::nibble)
    arguments.fail(
        fmt::format("--packed packs codes of 4 bits; {} has {}", name_of(spec.element_id), bit_count(spec.element)));
  StepContext context;
  context.seed = static_cast<std::uint32_t>(arguments.integer("seed", 0, 0xffffffff));
  context.step = arguments.integer("step", 0, 0xffffffff);
  const Site site{"quantize", 0, static_cast<std::uint32_t>(arguments.integer("tensor-id", 0, 0xffffffff))};

  const std::string in = *arguments.operand("IN");
  const std::string out = arguments.get("out");
  const Array array = read_input(arguments);
  const std::vector<float> values = values_of(array);
  check_nan(array, values, spec);
  check_transform(array, spec, axis);

  BackendOptions options;
  options.threads = static_cast<int>(arguments.integer("threads", 1, 1024));
  const std::unique_ptr<Backend> backend = make_backend("cpu", options);
  const Tensor x = backend->tensor(Dtype::f32, array.rows(), array.cols());
  backend->upload(x.view, values.data());
  const QuantizedTensor q = backend->quantize(context, x.view, RowGroups{}, spec, axis, site);
  const RowGroups groups;
  const bool column = axis == Orientation::column;
  Measured measured;
  measured.sums =
      backend
          ->measure(QuantizationEvent{context, site, x.view, groups, q},
                    {.row_spec = &spec, .double_quantization = column, .scale_gap = column, .transpose = true})
          .sums;
  throw_if_interrupted("quantizing; nothing was written");

  const std::filesystem::path part = out + ".part";
  UnfinishedFile unfinished(part);
  hdf5::File file(part.string(), hdf5::Mode::create);
  hdf5::Group root = file.root();
  write_quantized(root, unpack(q), to_json(q.spec).canonical(), decoded_values(*backend, q), packed);
  if (q.residual != nullptr) write_residual(root, *q.residual, q.orientation);
  root.set_attribute("source", in);
  root.set_attribute("seed", context.seed);
  root.set_attribute("tensor_id", site.tensor_id);
  root.set_attribute("step", context.step);
  hdf5::Group measures = root.create_group("measures");
  TextTable table({"measure", "value", "definition"}, {Align::left, Align::right, Align::left});
  for (const NamedMeasure& measure : measure_table()) {
    const MeasureSource source = measure.source;
    const bool one_tensor =
        source == MeasureSource::errors ||
        (column && (source == MeasureSource::double_quantization || source == MeasureSource::scale_gap)) ||
        (source == MeasureSource::transpose && measured.sums.transpose_count > 0);
    const double value = one_tensor ? measure.form(measured) : std::nan("");
    measures.set_attribute(measure.name, value);
    if (one_tensor) table.add({measure.name, fmt::format("{:.6g}", value), measure.definition});
  }
  file.close();
  publish_file(part, out);
  unfinished.done();
  write_stdout(table.text());
  write_stderr(fmt::format("{}: {} {} as {}, axis {}\n", out, shape_text(array.shape), array.origin, to_text(spec),
                           name_of(axis)));
  return kExitDone;
}

}  // namespace

Command quantize_command() {
  return {"quantize",
          "one tensor as codes and scales, with every measure of the error",
          {{"IN", Occurs::required,
            "FILE.h5:/dataset, FILE.npy, FILE.safetensors:name or raw bytes; FP32, FP16, BF16 or codes"}},
          {{"as", "QUANTIZER", Occurs::required, "",
            "for example mxfp4,rule=rceil; narrowgauge formats lists what there is"},
           {"shape", "RxC", Occurs::optional, "", "of raw bytes: extents of the row-major tensor"},
           {"dtype", "TYPE", Occurs::optional, "",
            "of raw bytes: f32, f16, bf16, or an element format with a code per byte (two bytes above 8 bits)"},
           {"axis", "AXIS", Occurs::optional, "row", "tiles run along rows, or down columns", {"row", "column"}},
           {"seed", "S", Occurs::optional, "0", "of stochastic rounding and seeded Hadamard signs"},
           {"tensor-id", "T", Occurs::optional, "0", "which tensor's random draws"},
           {"step", "K", Occurs::optional, "0", "which step's random draws"},
           {"packed", "", Occurs::optional, "", "also write two 4-bit codes per byte, the even element low"},
           {"threads", "N", Occurs::optional, "1", "CPU threads; changes no byte"},
           {"out", "OUT.h5", Occurs::required, "", "the file to write"}},
          run};
}

}  // namespace ng::cli
