// SPDX-License-Identifier: Apache-2.0
//
// `validate`: foreign kernels' outputs against the reference, from a dump or from single files.
#include <fmt/format.h>

#include <filesystem>

#include "commands.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/validate/product_case.hpp"
#include "narrowgauge/validate/reference_product.hpp"
#include "narrowgauge/validate/verifier.hpp"
#include "output.hpp"
#include "product_operand.hpp"
#include "validate_probe.hpp"

namespace ng::cli {
namespace {

validate::PlainCase given_files(const Arguments& arguments) {
  const auto text = [&](const char* option) { return arguments.optional(option).value_or(""); };
  validate::PlainCase given;
  given.operation = text("operation");
  given.spec = text("spec");
  given.in = text("in");
  given.in_scales = text("in-scales");
  given.in_b = text("in-b");
  given.in_scale_a = text("in-scale-a");
  given.in_scale_b = text("in-scale-b");
  given.out_codes = text("out-codes");
  given.out_scales = text("out-scales");
  given.out_tensor_scale = text("out-tensor-scale");
  given.out_dequantized = text("out-dequantized");
  given.out_result = text("out-result");
  given.axis = text("axis");
  given.element = text("element");
  given.tile = text("tile");
  given.shape = text("shape");
  given.dtype = text("dtype");
  given.out_shape = text("out-shape");
  given.out_dtype = text("out-dtype");
  given.splits = text("splits");
  given.seed = arguments.integer("seed", 0, 0xffffffff);
  given.tensor_id = arguments.integer("tensor-id", 0, 0xffffffff);
  given.step = arguments.integer("step", 0, 0xffffffff);
  given.layout.scales = *find_enum<validate::ScaleLayout>(arguments.get("scale-layout"));
  given.layout.nibbles = *find_enum<validate::NibbleSide>(arguments.get("nibble-order"));
  given.layout.order = *find_enum<validate::MatrixOrder>(arguments.get("order"));
  given.layout.skip_rows = arguments.integer("skip-rows", 0, std::int64_t{1} << 40);
  return given;
}

int run(const Arguments& arguments) {
  const std::optional<std::string> dump = arguments.operand("DUMP.h5");
  if (arguments.has("probe")) {
    if (dump || arguments.has("operation")) arguments.fail("--probe goes neither with a dump nor with --operation");
    return run_probe(arguments);
  }
  if (dump.has_value() == arguments.has("operation"))
    arguments.fail("give a dump, or --operation with --spec, --in and the outputs");
  for (const char* option : {"spec", "in", "out-codes", "out-dequantized", "out-result"})
    if (dump && arguments.has(option))
      arguments.fail(fmt::format("--{} goes with --operation, not with a dump", option));

  const std::vector<validate::Case> cases =
      dump ? validate::read_dump(*dump) : std::vector<validate::Case>{validate::plain_case(given_files(arguments))};
  validate::VerifyOptions options;
  options.product = product_answer;
  options.explain_product = validate::explain_product_case;
  options.explain = arguments.flag("explain");
  options.product = validate::reference_product;
  options.explain_product = validate::explain_product_case;
  options.blind = arguments.flag("power");
  options.first = static_cast<std::size_t>(arguments.integer("first", 0, 1000000));
  options.limits.between = [] { throw_if_interrupted("searching choices"); };

  std::size_t different = 0;
  Json report(Json::Array{});
  for (const validate::Case& c : cases) {
    throw_if_interrupted("validating");
    const validate::Verdict verdict = validate::verify(c, options);
    different += verdict.equal() ? 0 : 1;
    write_stdout(validate::text_of(verdict, arguments.flag("power")));
    report.push_back(validate::json_of(verdict));
  }
  if (cases.size() > 1) write_stdout(fmt::format("{} of {} cases are equal\n", cases.size() - different, cases.size()));
  if (const std::optional<std::string> file = arguments.optional("json")) write_file(*file, report.pretty() + "\n");
  return different == 0 ? kExitDone : kExitDifference;
}

template <NamedEnum E>
Option enum_option(const char* name, const char* value, const char* help) {
  const std::vector<std::string> values = names_of<E>();
  return {name, value, Occurs::optional, values.front(), help, values};
}

}  // namespace

Command validate_command() {
  Command command{
      "validate",
      "a foreign kernel's output against the reference, bit by bit, and why it differs",
      {{"DUMP.h5", Occurs::optional, "a group a case: attributes operation, spec, made_by; groups in and out"}},
      {{"explain", "", Occurs::optional, "", "search the named choices for the smallest set that reproduces it"},
       {"power", "", Occurs::optional, "",
        "also say which wrong kernels and which choices the inputs would have shown"},
       {"first", "N", Occurs::optional, "5", "differences listed per output"},
       {"json", "FILE", Occurs::optional, "", "the whole answer for programs"},
       {"operation", "OP", Occurs::optional, "", "without a dump: what was computed", names_of<validate::Operation>()},
       {"spec", "SPEC", Occurs::optional, "", "as --as of quantize, or key=value"},
       {"in", "IN", Occurs::optional, "",
        "input: npy, safetensors:name, h5:/dataset or raw; codes for transpose, recode"},
       {"in-scales", "IN", Occurs::optional, "", "of transpose and recode: scales of the input"},
       {"in-b", "IN", Occurs::optional, "", "of matmul: the second operand"},
       {"in-scale-a", "IN", Occurs::optional, "", "of matmul"},
       {"in-scale-b", "IN", Occurs::optional, "", "of matmul"},
       {"element", "FORMAT", Occurs::optional, "", "of the input's codes"},
       {"tile", "RxC", Occurs::optional, "", "of the input's scales"},
       {"shape", "RxC", Occurs::optional, "", "of a raw input"},
       {"dtype", "TYPE", Occurs::optional, "", "of a raw input: f32, f16, bf16 or a code format"},
       {"axis", "AXIS", Occurs::optional, "row", "tiles run along rows, or down columns", {"row", "column"}},
       {"splits", "LIST", Occurs::optional, "", "of transpose: extents of groups of rows, 128,300"},
       {"seed", "S", Occurs::optional, "0", "of stochastic rounding and seeded signs"},
       {"tensor-id", "T", Occurs::optional, "0", "of stochastic rounding"},
       {"step", "K", Occurs::optional, "0", "of stochastic rounding"},
       {"out-codes", "FILE", Occurs::optional, "", "codes, one an element or packed"},
       {"out-scales", "FILE", Occurs::optional, "", "scales"},
       {"out-tensor-scale", "FILE", Occurs::optional, "", "decode scale of the whole tensor"},
       {"out-dequantized", "FILE", Occurs::optional, "", "decoded values"},
       {"out-result", "FILE", Occurs::optional, "", "numbers of a matmul or hadamard"},
       {"out-shape", "RxC", Occurs::optional, "", "of a raw output (packed codes: in bytes)"},
       {"out-dtype", "TYPE", Occurs::optional, "", "of a raw output: u8, u16, f32, bf16, ..."},
       enum_option<validate::ScaleLayout>("scale-layout", "LAYOUT", "how the output's scales lie"),
       enum_option<validate::NibbleSide>("nibble-order", "ORDER", "which of two packed codes comes first"),
       enum_option<validate::MatrixOrder>("order", "ORDER", "of the output's codes and values"),
       {"skip-rows", "N", Occurs::optional, "0", "rows of padding behind the real ones"}},
      run};
  for (Option& option : probe_options()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace ng::cli
