// SPDX-License-Identifier: Apache-2.0
//
// `matmul`: one product D = A B^T with a named arithmetic: a tensor core's model, FP32 accumulation, or the correctly
// rounded result.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>

#include "commands.hpp"
#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "output.hpp"
#include "product_operand.hpp"

namespace ng::cli {
namespace {

using validate::OperandNumbers;

const std::vector<std::string> kScaleModes = {"none", "tensor", "outer", "block_1x128", "block_128x128"};

/// ieee and exact, then every arithmetic of the catalogue once.
std::vector<std::string> arithmetics() {
  std::vector<std::string> names = {"hopper", "ieee", "exact"};
  for (const AccumulatorRow& row : accumulator_catalog())
    if (std::find(names.begin(), names.end(), row.arithmetic) == names.end()) names.emplace_back(row.arithmetic);
  return names;
}

ScaleMode scale_mode(const std::string& name) {
  return static_cast<ScaleMode>(std::find(kScaleModes.begin(), kScaleModes.end(), name) - kScaleModes.begin());
}

const char* name_of(Evidence evidence) {
  return evidence == Evidence::silicon ? "equal to vectors measured on silicon" : "model only, not measured on silicon";
}

const char* name_of(OperandScales scales) {
  return scales == OperandScales::e8m0_per_32   ? " with e8m0 scales per 32"
         : scales == OperandScales::e4m3_per_16 ? " with e4m3 scales per 16"
                                                : "";
}

const AccumulatorRow& accumulator(const Arguments& arguments, FormatId a, FormatId b, OperandScales scales) {
  const std::string& name = arguments.get("arithmetic");
  const bool half = arguments.get("accumulator") == "f16";
  const StepResult result = half ? StepResult::fp16_nearest_even : StepResult::fp32_toward_zero;
  const AccumulatorRow* row = find_accumulator(name.c_str(), a, b, result, scales);
  if (row != nullptr) return *row;
  std::string types;
  for (const OperandScales kind : {OperandScales::none, OperandScales::e8m0_per_32, OperandScales::e4m3_per_16})
    for (const NamedFormat& f : format_catalog())
      if (find_accumulator(name.c_str(), f.id, f.id, result, kind) != nullptr)
        types += (types.empty() ? "" : ", ") + std::string(f.name) + name_of(kind);
  arguments.fail(fmt::format("--arithmetic {} has no product of {} and {}{} with {} accumulators; it takes {}", name,
                             ng::name_of(a), ng::name_of(b), name_of(scales), half ? "FP16" : "FP32",
                             types.empty() ? "none" : types));
}

TensorCoreSpec tensor_core_spec(const Arguments& arguments, const AccumulatorRow& row, ScaleMode mode,
                                ProductOutput output, FormatId a_format) {
  TensorCoreSpec spec{row.spec};
  // Only the FP8 path that keeps 14 bits is offered with promotion.
  const bool choice = row.types == OperandTypes::fp8 && row.spec.significand_bits == 14;
  const bool fast = arguments.get("accumulate") == "fast";
  if (is_blockwise(mode) && !choice)
    arguments.fail(
        fmt::format("--scale-mode {} needs FP8 operands and a chain per 128 of K", arguments.get("scale-mode")));
  if (is_blockwise(mode) && fast)
    arguments.fail(fmt::format("--scale-mode {} goes with --accumulate promoted", arguments.get("scale-mode")));
  spec.promotion = choice && !fast ? static_cast<std::int32_t>(kScaleBlock) : 0;
  spec.scales = mode;
  spec.output = output;
  spec.splits = static_cast<std::int32_t>(arguments.integer("splits", 1, 1 << 20));
  spec.split_tile = a_format == FormatId::tf32 ? 32 : row.types == OperandTypes::fp8 ? 128 : 64;
  return spec;
}

void write_result(const Arguments& arguments, const Array& result, const OperandNumbers& a, const OperandNumbers& b,
                  const AccumulatorRow* row) {
  const std::string out = arguments.get("out");
  const std::filesystem::path part = out + ".part";
  UnfinishedFile unfinished(part);
  hdf5::File file(part.string(), hdf5::Mode::create);
  hdf5::Group root = file.root();
  (void)root.create("result", result);
  root.set_attribute("operation", "matmul");
  for (const char* option : {"arithmetic", "accumulate", "accumulator", "scale-mode", "out-format", "a", "b"}) {
    std::string name = option;
    std::replace(name.begin(), name.end(), '-', '_');
    root.set_attribute(name, arguments.get(option));
  }
  root.set_attribute("splits", arguments.integer("splits", 1, 1 << 20));
  root.set_attribute("a_format", ng::name_of(a.format));
  root.set_attribute("b_format", ng::name_of(b.format));
  if (row != nullptr) root.set_attribute("evidence", name_of(row->evidence));
  file.close();
  publish_file(part, out);
  unfinished.done();
}

int run(const Arguments& arguments) {
  const std::string& arithmetic = arguments.get("arithmetic");
  const ScaleMode mode = scale_mode(arguments.get("scale-mode"));
  const std::string& out_format = arguments.get("out-format");
  const ProductOutput output = out_format == "bf16"  ? ProductOutput::bf16
                               : out_format == "f16" ? ProductOutput::f16
                                                     : ProductOutput::f32;
  for (const char* option : {"scale-a", "scale-b"})
    if (arguments.has(option) != (mode != ScaleMode::none))
      arguments.fail(fmt::format("--{} and --scale-mode {} do not go together", option, arguments.get("scale-mode")));
  const bool block_scaled = arguments.has("block-scales-a");
  if (block_scaled != arguments.has("block-scales-b"))
    arguments.fail("--block-scales-a and --block-scales-b come together");
  if (block_scaled && arithmetic == "ieee")
    arguments.fail("--arithmetic ieee takes no block scales; decode the operands first");
  if (block_scaled && is_blockwise(mode))
    arguments.fail(fmt::format("--scale-mode {} takes no block scales besides", arguments.get("scale-mode")));

  std::map<std::string, Array> given;
  for (const char* option : {"a", "b", "scale-a", "scale-b", "block-scales-a", "block-scales-b"}) {
    if (!arguments.has(option)) continue;
    std::string key = option;
    std::replace(key.begin(), key.end(), '-', '_');
    given[key] = read_tensor(arguments.get(option));
  }
  validate::ProductSpec asked;
  asked.a_format = arguments.optional("a-format").value_or("");
  asked.b_format = arguments.optional("b-format").value_or("");
  asked.scale_mode = mode;
  const auto operands = validate::ProductOperands::from(given, asked);
  const OperandNumbers& a = operands.a;
  const OperandNumbers& b = operands.b;
  const auto& [left, right, scales, size] = backend_operands(operands, mode);
  const int threads = static_cast<int>(arguments.integer("threads", 1, 1024));
  std::vector<float> result(static_cast<std::size_t>(a.rows * b.rows));
  const AccumulatorRow* row = nullptr;
  std::string how;
  if (arithmetic == "exact" || arithmetic == "ieee") {
    const auto product = arithmetic == "exact" ? cpu::exact_matmul : cpu::ieee_matmul;
    product(mode, output, left, right, scales, size, result.data(), b.rows, threads);
    how = arithmetic == "exact" ? "rounded once" : "FP32 fma chains";
  } else {
    row = &accumulator(arguments, a.format, b.format, operands.block_a.kind);
    const TensorCoreSpec spec = tensor_core_spec(arguments, *row, mode, output, a.format);
    cpu::tensor_core_matmul(spec, left, right, scales, size, result.data(), b.rows, threads);
    how = fmt::format("{} products a step, {} fraction bits, {} significand bits, {}, {}", spec.accumulator.terms,
                      spec.accumulator.fraction_bits, spec.accumulator.significand_bits,
                      spec.promotion != 0 ? "promoted every 128 of K" : "one chain", name_of(row->evidence));
  }
  throw_if_interrupted("multiplying; nothing was written");
  write_result(arguments, result_array(result, output, a.rows, b.rows), a, b, row);
  write_stderr(fmt::format("{}: [{}, {}], K {}, {} {} {}: {}\n", arguments.get("out"), a.rows, b.rows, a.cols,
                           arithmetic, ng::name_of(a.format), ng::name_of(b.format), how));
  return kExitDone;
}

}  // namespace

Command matmul_command() {
  return {"matmul",
          "one product D = A B^T, as a tensor core, FP32 or exact arithmetic computes it",
          {},
          {{"a", "F:/D", Occurs::required, "", "A, [M, K]: codes, or numbers that the format can hold"},
           {"a-format", "T", Occurs::optional, "", "of A's codes; else what the file says"},
           {"b", "F:/D", Occurs::required, "", "B, [N, K]"},
           {"b-format", "T", Occurs::optional, "", "of B's codes; else what the file says"},
           {"arithmetic", "NAME", Occurs::optional, "hopper", "of the sums", arithmetics()},
           {"accumulate",
            "HOW",
            Occurs::optional,
            "promoted",
            "FP8 that keeps 14 bits: one chain over K, or a chain per 128 of K added in FP32; else ignored",
            {"fast", "promoted"}},
           {"scale-mode", "MODE", Occurs::optional, "none", "FP32 scales: block_128x128 means B's, with A's 1x128",
            kScaleModes},
           {"scale-a", "F:/D", Occurs::optional, "", "one, [M] or [M, K/128]"},
           {"scale-b", "F:/D", Occurs::optional, "", "one, [N], [N, K/128] or [N/128, K/128]"},
           {"block-scales-a", "F:/D", Occurs::optional, "", "of MX or NVFP4 codes: e8m0 [M, K/32] or e4m3 [M, K/16]"},
           {"block-scales-b", "F:/D", Occurs::optional, "", "likewise of B, by rows of N"},
           {"accumulator", "TYPE", Occurs::optional, "f32", "of the chip's accumulators", {"f32", "f16"}},
           {"splits", "N", Occurs::optional, "1", "K in so many parts, added in FP32 (tensor cores only)"},
           {"out-format", "TYPE", Occurs::optional, "f32", "of the result", {"f32", "bf16", "f16"}},
           {"threads", "N", Occurs::optional, "1", "CPU threads; changes no byte"},
           {"out", "OUT.h5", Occurs::required, "", "the file to write: dataset result, [M, N]"}},
          run};
}

}  // namespace ng::cli
