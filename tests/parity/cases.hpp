// SPDX-License-Identifier: Apache-2.0
//
// The quantizations that parity is judged on: catalogue x rules x roundings x tiles, odd shapes, ragged groups, special
// values. A case is a pure function of its number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/observe/tap.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"
#include "narrowgauge/tensor/step_context.hpp"

namespace ng_test {

enum class Fill : std::uint8_t { normal, wide, special, ties, tiny, huge, zero, every_bf16 };
constexpr int kFillCount = 7;  ///< every_bf16 is asked for by name

struct ParityCase {
  std::string name;
  ng::QuantizerSpec spec{};
  ng::Orientation orientation = ng::Orientation::row;
  ng::Dtype dtype = ng::Dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
  ng::RowGroups groups;
  Fill fill = Fill::normal;
  ng::Placement placement{};               ///< row_ids is set by the user of the case
  std::vector<std::int64_t> row_ids;       ///< empty: none
  ng::StepContext context{};
  ng::Site site;

  /// The elements as they lie in memory: rows * stride of dtype.
  [[nodiscard]] std::vector<std::byte> data() const;
};

/// Every format of at most 16 bits that can be an element, with every rule that suits it and every rounding; shapes,
/// groups, orientation, source type and the other choices vary from case to case.
[[nodiscard]] std::vector<ParityCase> catalogue_cases();

/// Every preset, both orientations, both source types, every shape of the list.
[[nodiscard]] std::vector<ParityCase> preset_cases();

/// Every preset and bare cast on all 65536 BF16 values.
[[nodiscard]] std::vector<ParityCase> every_bf16_cases();

/// Row forms that the fast kernels serve, on larger tensors; `served` specs and their choices.
[[nodiscard]] std::vector<ParityCase> fast_cases();

/// What quantize_tiles serves: both orientations, transforms, stochastic rounding, row groups.
[[nodiscard]] std::vector<ParityCase> tile_cases();

/// What quantize_patches is for: every preset and what the catalogue's cases have too small; ragged sizes, strides that
/// are not aligned, groups that begin anywhere, all random bits, transforms, tiles longer than a patch.
[[nodiscard]] std::vector<ParityCase> patch_cases();

/// A few small cases of each kind, for slow instruments.
[[nodiscard]] std::vector<ParityCase> reduced_cases();

/// What one backend made of a case, in host memory.
struct Outcome {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> scales;
  std::vector<float> tensor_scales;
  std::vector<float> decoded;
  std::vector<std::uint16_t> decoded_bf16;
  std::int64_t nan_inputs = 0;
};

/// The case on the CPU backend with `threads` threads.
[[nodiscard]] Outcome run_on_cpu(const ParityCase& c, int threads);

/// Empty when equal byte for byte, else what differs first: place, input, codes, scales, spec.
[[nodiscard]] std::string difference(const ParityCase& c, const Outcome& expected, const Outcome& got);

}  // namespace ng_test
