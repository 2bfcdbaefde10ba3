// SPDX-License-Identifier: Apache-2.0
//
// `matmul`: one product D = A B^T with a named arithmetic: a tensor core's model, FP32 accumulation, or the correctly
// rounded result.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>

#include "commands.hpp"
#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "output.hpp"
#include "product_operand.hpp"

namespace ng::cli {
namespace {

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

/// Removes an unfinished file unless told that it is whole.
class Unfinished {
 public:
  explicit Unfinished(std::filesystem::path path) : path_(std::move(path)) {}
  ~Unfinished() {
    std::error_code error;
    if (!done_) std::filesystem::remove(path_, error);
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  void done() { done_ = true; }

 private:
  std::filesystem::path path_;
  bool done_ = false;
};

Array result_array(const std::vector<float>& result, ProductOutput output, std::int64_t m, std::int64_t n) {
  if (output == ProductOutput::f32) return Array::from<float>({m, n}, result);
  std::vector<std::uint16_t> narrow;
  narrow.reserve(result.size());
  for (const float value : result) narrow.push_back(static_cast<std::uint16_t>(output_bits(output, value)));
  return Array::from_bytes(output == ProductOutput::bf16 ? Dtype::bf16 : Dtype::f16, {m, n},
                           std::as_bytes(std::span(narrow)));
}

void write_result(const Arguments& arguments, const Array& result, const ProductOperand& a, const ProductOperand& b,
                  const AccumulatorRow* row) {
  const std::string out = arguments.get("out");
  const std::filesystem::path part = out + ".part";
  Unfinished unfinished(part);
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

  const ProductOperand a = read_operand(arguments.get("a"), arguments.optional("a-format").value_or(""));
  const ProductOperand b = read_operand(arguments.get("b"), arguments.optional("b-format").value_or(""));
  if (a.cols != b.cols)
    throw UserError(fmt::format("D = A B^T: {} is [{}, {}] and {} is [{}, {}]; the last extents differ", a.origin,
                                a.rows, a.cols, b.origin, b.rows, b.cols));
  OperandScaleValues scale_a, scale_b;
  const bool square = mode == ScaleMode::block_128x128;
  if (mode != ScaleMode::none) {
    scale_a = read_scales(arguments.get("scale-a"), mode, a.rows, a.cols);
    scale_b = read_scales(arguments.get("scale-b"), mode, square ? (b.rows + 127) / 128 : b.rows, b.cols);
  }
  const cpu::ProductScales scales{scale_a.values.data(), scale_a.stride, scale_b.values.data(), scale_b.stride,
                                  square ? kScaleBlock : 1};
  cpu::ProductMatrix left{a.values.data(), a.rows, a.cols, a.format};
  cpu::ProductMatrix right{b.values.data(), b.rows, b.cols, b.format};
  cpu::MatmulSize size{a.cols};
  BlockScaleValues block_a, block_b;
  if (block_scaled) {
    block_a = read_block_scales(arguments.get("block-scales-a"), a.rows, a.cols);
    block_b = read_block_scales(arguments.get("block-scales-b"), b.rows, b.cols);
    if (block_a.scales != block_b.scales)
      arguments.fail(fmt::format("A{} and B{} do not go together", name_of(block_a.scales), name_of(block_b.scales)));
    left.block_scales = block_a.values.data();
    right.block_scales = block_b.values.data();
    left.block_scale_stride = block_a.blocks;
    right.block_scale_stride = block_b.blocks;
    size.block_scale_k = block_scale_k(block_a.scales);
    size.block_scale_format = block_scale_format(block_a.scales);
  }
  const int threads = static_cast<int>(arguments.integer("threads", 1, 1024));
  std::vector<float> result(static_cast<std::size_t>(a.rows * b.rows));
  const AccumulatorRow* row = nullptr;
  std::string how;
  if (arithmetic == "exact" || arithmetic == "ieee") {
    const auto product = arithmetic == "exact" ? cpu::exact_matmul : cpu::ieee_matmul;
    product(mode, output, left, right, scales, size, result.data(), b.rows, threads);
    how = arithmetic == "exact" ? "rounded once" : "FP32 fma chains";
  } else {
    row = &accumulator(arguments, a.format, b.format, block_a.scales);
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
