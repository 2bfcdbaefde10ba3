// SPDX-License-Identifier: Apache-2.0
//
// library_model.hpp: layouts turned to one row per matrix row, then backend_cpu's product.
#include "library_model.hpp"

#include <thread>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "subject_model.hpp"
#include "subjects/instruction_products.hpp"

namespace ng_silicon {

using namespace ng;
using cuda::LibraryOutput;
using cuda::LibraryProduct;

namespace {

std::int64_t blocks_of(const LibraryProduct& p) {
  return (p.k + kScaleBlock - 1) / kScaleBlock;
}
std::int64_t padded_blocks(const LibraryProduct& p) {
  return (blocks_of(p) + 3) / 4 * 4;
}

std::vector<float> values(FormatId format, std::span<const std::uint8_t> bytes, std::size_t count) {
  std::vector<float> out(count);
  const int size = cuda::operand_bytes(format);
  CastChoices rounding;
  rounding.overflow = Overflow::nonfinite;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t code = code_at(bytes, i, size);
    if (format == FormatId::tf32) code = encode(format_of(format), rounding, float_of(code)) << 13;
    out[i] = operand_value(format, code);
  }
  return out;
}

/// [blocks][rows] as [rows][blocks].
std::vector<float> by_row(const std::vector<float>& stored, std::int64_t rows, std::int64_t blocks) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < blocks; ++k) out.push_back(stored[static_cast<std::size_t>(k * rows + r)]);
  return out;
}

}  // namespace

StoredScales::StoredScales(const LibraryProduct& p) {
  const auto sized = [](std::int64_t count) { return std::vector<float>(static_cast<std::size_t>(count), 1.0f); };
  switch (p.scales) {
    case ScaleMode::none:
      break;
    case ScaleMode::tensor:
      a = sized(1), b = sized(1);
      break;
    case ScaleMode::outer:
      a = sized(p.m), b = sized(p.n);
      break;
    case ScaleMode::block_1x128:
      a = sized(p.m * blocks_of(p)), b = sized(p.n * blocks_of(p));
      break;
    case ScaleMode::block_128x128:
      a = sized(p.m * blocks_of(p)), b = sized((p.n + 127) / 128 * padded_blocks(p));
      break;
  }
}

std::string described(const LibraryProduct& p) {
  static const char* const kModes[] = {"", ", tensor scales", ", outer scales", ", 1x128 scales", ", 128x128 scales"};
  static const char* const kOutputs[] = {"f32", "bf16", "fp16"};
  std::string text = std::string(name_of(p.a)) + " " + name_of(p.b) + " -> " + kOutputs[static_cast<int>(p.output)];
  if (cuda::operand_bytes(p.a) == 1) text += p.fast ? ", fast" : ", promoted";
  if (p.compute == cuda::LibraryCompute::fp16) text += ", FP16 accumulation";
  return text + kModes[static_cast<int>(p.scales)];
}

ResultType result_type(LibraryOutput output) {
  return output == LibraryOutput::f32    ? ResultType::f32
         : output == LibraryOutput::bf16 ? ResultType::bf16
                                         : ResultType::fp16;
}

std::vector<float> library_sums(const LibraryProduct& p, std::span<const std::uint8_t> a,
                                std::span<const std::uint8_t> b, const StoredScales& stored) {
  const StepResult result =
      p.compute == cuda::LibraryCompute::fp16 ? StepResult::fp16_nearest_even : StepResult::fp32_toward_zero;
  const AccumulatorRow* row = find_accumulator("hopper", p.a, p.b, result);
  if (row == nullptr) throw LogicError("no row of the catalogue for " + described(p));
  TensorCoreSpec spec{row->spec};
  spec.promotion = cuda::operand_bytes(p.a) == 1 && !p.fast ? static_cast<std::int32_t>(kScaleBlock) : 0;
  spec.scales = p.scales;
  const std::vector<float> x = values(p.a, a, static_cast<std::size_t>(p.m * p.k));
  const std::vector<float> y = values(p.b, b, static_cast<std::size_t>(p.n * p.k));
  const std::int64_t blocks = blocks_of(p);
  std::vector<float> scale_a = stored.a, scale_b = stored.b;
  if (is_blockwise(p.scales)) scale_a = by_row(stored.a, p.m, blocks);
  if (p.scales == ScaleMode::block_1x128) scale_b = by_row(stored.b, p.n, blocks);
  cpu::ProductScales scales{scale_a.data(), 0, scale_b.data(), 0, 1};
  if (p.scales == ScaleMode::outer) scales.a_stride = scales.b_stride = 1;
  if (is_blockwise(p.scales)) scales.a_stride = scales.b_stride = blocks;
  if (p.scales == ScaleMode::block_128x128) scales.b_stride = padded_blocks(p), scales.b_rows = kScaleBlock;
  std::vector<float> out(static_cast<std::size_t>(p.m * p.n));
  cpu::tensor_core_matmul(spec, {x.data(), p.m, p.k, p.a}, {y.data(), p.n, p.k, p.b}, scales, {p.k}, out.data(), p.n,
                          static_cast<int>(std::thread::hardware_concurrency()));
  return out;
}

std::uint32_t rounded_output(LibraryOutput output, float sum) {
  if (output == LibraryOutput::fp16) return accumulator_bits(StepResult::fp16_nearest_even, sum);
  return output_bits(output == LibraryOutput::bf16 ? ProductOutput::bf16 : ProductOutput::f32, sum);
}

std::vector<std::uint32_t> library_model(const LibraryProduct& p, std::span<const std::uint8_t> a,
                                         std::span<const std::uint8_t> b, const StoredScales& scales) {
  const std::vector<float> sums = library_sums(p, a, b, scales);
  std::vector<std::uint32_t> bits;
  bits.reserve(sums.size());
  for (const float sum : sums) bits.push_back(rounded_output(p.output, sum));
  return bits;
}

}  // namespace ng_silicon
