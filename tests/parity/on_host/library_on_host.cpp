// SPDX-License-Identifier: Apache-2.0
//
// The tensor core's library without a GPU: the model of it, over exactly the memory that the library would be given.
// What the library demands of shapes and addresses is demanded here too.
#include <vector>

#include "backend/cublaslt_matmul.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "plain/elements.hpp"
#include "runtime/stream_fan.hpp"

namespace ng::cuda {

namespace {

bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

std::int64_t width_of(FormatId format) {
  return format == FormatId::bf16 ? 2 : 1;
}

/// [rows, k] as FP32.
std::vector<float> numbers(const LibraryOperand& x, std::int64_t rows, std::int64_t k) {
  NG_CHECK(is_aligned(x.data));
  NG_CHECK_EQ(x.stride * width_of(x.format) % 16, 0);
  NG_CHECK_GE(x.stride, x.order == OperandOrder::along_k ? k : rows);
  NG_CHECK(x.format == FormatId::bf16 || x.order == OperandOrder::along_k);
  std::vector<float> list(static_cast<std::size_t>(rows * k));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = x.order == OperandOrder::along_k ? r * x.stride + i : i * x.stride + r;
      list[static_cast<std::size_t>(r * k + i)] =
          x.format == FormatId::bf16 ? widen_bf16(static_cast<const std::uint16_t*>(x.data)[at])
                                     : decode(format_of(x.format), static_cast<const std::uint8_t*>(x.data)[at]);
    }
  return list;
}

/// [row][block].
std::vector<float> scales(const LibraryOperand& x, ScaleMode mode, bool is_b, std::int64_t rows, std::int64_t blocks) {
  std::vector<float> list;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < blocks; ++b) {
      std::int64_t at = 0;
      if (mode == ScaleMode::outer) at = r;
      if (is_blockwise(mode)) at = b * rows + r;
      if (mode == ScaleMode::block_128x128 && is_b) at = r / kScaleBlock * ((blocks + 3) / 4 * 4) + b;
      list.push_back(mode == ScaleMode::none ? 1.0f : x.scales[at]);
    }
  return list;
}

}  // namespace

struct TensorCoreLibrary::State {};

TensorCoreLibrary::TensorCoreLibrary() = default;
TensorCoreLibrary::~TensorCoreLibrary() = default;

std::string TensorCoreLibrary::version() const {
  return "none";
}
std::vector<LibraryAlgorithm> TensorCoreLibrary::algorithms() const {
  return {};
}

bool TensorCoreLibrary::serves(const LibraryMatmul& p) {
  return p.a.format != FormatId::e5m2 || p.b.format != FormatId::e5m2;
}

void TensorCoreLibrary::run(const LibraryMatmul& p, int lane, Stream /*stream*/) {
  const bool fp8 = p.a.format != FormatId::bf16;
  const std::int64_t out_width = p.output == ProductOutput::bf16 ? 2 : 4;
  NG_CHECK(serves(p) && lane < kLanes && p.m > 0 && p.n > 0 && p.k > 0);
  NG_CHECK(is_aligned(p.out) && p.out_stride * out_width % 16 == 0 && p.out_stride >= p.n);
  if (fp8) NG_CHECK(p.m % 16 == 0 && p.n % 16 == 0 && p.k % (is_blockwise(p.scales) ? kScaleBlock : 16) == 0);
  TensorCoreSpec spec{};
  spec.accumulator = find_accumulator("hopper", p.a.format, p.b.format, StepResult::fp32_toward_zero)->spec;
  spec.promotion = fp8 && !p.fast_accumulation ? kScaleBlock : 0;
  spec.scales = p.scales;
  const std::int64_t blocks = is_blockwise(p.scales) ? p.k / kScaleBlock : 1;
  const std::vector<float> a = numbers(p.a, p.m, p.k), b = numbers(p.b, p.n, p.k);
  const std::vector<float> scales_a = scales(p.a, p.scales, false, p.m, blocks);
  const std::vector<float> scales_b = scales(p.b, p.scales, true, p.n, blocks);
  for (std::int64_t i = 0; i < p.m; ++i)
    for (std::int64_t j = 0; j < p.n; ++j) {
      const StepOperands in{a.data() + i * p.k,
                            b.data() + j * p.k,
                            nullptr,
                            nullptr,
                            smallest_exponent(format_of(p.a.format)),
                            smallest_exponent(format_of(p.b.format)),
                            0};
      const float result =
          tensor_core_element(spec, in, {scales_a.data() + i * blocks, scales_b.data() + j * blocks}, p.k);
      const std::uint32_t bits = output_bits(p.output, result);
      if (p.output == ProductOutput::bf16)
        static_cast<std::uint16_t*>(p.out)[i * p.out_stride + j] = static_cast<std::uint16_t>(bits);
      else
        static_cast<float*>(p.out)[i * p.out_stride + j] = float_of(bits);
    }
}

StreamFan::StreamFan() = default;
StreamFan::~StreamFan() = default;
Stream StreamFan::stream(int /*i*/) const {
  return nullptr;
}

}  // namespace ng::cuda
