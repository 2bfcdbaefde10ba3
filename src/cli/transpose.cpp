// SPDX-License-Identifier: Apache-2.0
//
// `transpose` and `recode`: quantized tensors to quantized tensors, without a round trip through numbers.
#include <fmt/format.h>

#include <charconv>

#include "commands.hpp"
#include "conversion_output.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/validate/conversions.hpp"

namespace ng::cli {
namespace {

std::vector<std::int64_t> splits_from(const Arguments& arguments) {
  std::vector<std::int64_t> splits;
  if (!arguments.has("splits")) return splits;
  const std::string& text = arguments.get("splits");
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t extent = -1;
    const auto [after, error] = std::from_chars(at, end, extent);
    if (error != std::errc{} || extent < 0 || (after != end && *after != ','))
      arguments.fail(fmt::format("--splits {} is not a list of extents, for example 128,300,212", text));
    splits.push_back(extent);
    if (after == end) return splits;
    at = after + 1;
  }
}

// Of requantize: what --as says, else what made the input.
QuantizerSpec requantizer(const Arguments& arguments, const QuantizedInput& in) {
  if (arguments.has("as")) return parse_quantizer_with_recipes(arguments.get("as"));
  if (in.quantizer.empty())
    arguments.fail(fmt::format("{} does not say which quantizer made it; give --as", in.origin));
  return quantizer_from_json(Json::parse(in.quantizer, in.origin), in.origin);
}

int run(const Arguments& arguments) {
  const QuantizedInput in = read_quantized_input(*arguments.operand("IN.h5"));
  validate::TransposeSpec spec;
  spec.via = *find_enum<validate::TransposeVia>(arguments.get("method"));
  const bool requantize = spec.via == validate::TransposeVia::requantize;
  if (arguments.has("as") && !requantize) arguments.fail("--as goes with --method requantize");
  if (requantize) spec.quantizer = requantizer(arguments, in);
  const UnpackedTensor out =
      about(in, [&] { return validate::transposed_reference(in.tensor, spec, splits_from(arguments)); });
  const std::string quantizer = requantize ? to_json(spec.quantizer).canonical() : in.quantizer;
  write_converted(arguments, in, out, quantizer, fmt::format("transpose, {}", arguments.get("method")));
  return kExitDone;
}

}  // namespace

Command transpose_command() {
  return {
      "transpose",
      "a quantized tensor the other way round: scaling-aware, as published, or quantized again",
      {{"IN.h5", Occurs::required, "a quantized tensor: FILE.h5 or FILE.h5:/group; power-of-two scales, tiles 1xT"}},
      {{"method", "HOW", Occurs::required, "", "exact rounds underflow to nearest even; published is FP8-Flow's kernel",
        names_of<validate::TransposeVia>()},
       {"splits", "LIST", Occurs::optional, "", "extents of groups of rows; blocks restart at each: 128,300,212"},
       {"as", "QUANTIZER", Occurs::optional, "", "of requantize; else the one that made the input"},
       {"out", "OUT.h5", Occurs::required, "", "the transposed tensor, [cols, rows], tiles along its rows"}},
      run};
}

}  // namespace ng::cli
