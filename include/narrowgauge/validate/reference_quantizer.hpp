// SPDX-License-Identifier: Apache-2.0
//
// The answer to "what should this quantizer have written", element by element from the scalar functions of numerics/,
// for any spec and any known defect, for all rows or for some. Slower than a backend and equal to it (test); it keeps
// the input, its transforms and its amaxes, so that the search can ask thousands of times.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"
#include "narrowgauge/validate/deviation.hpp"

namespace ng::validate {

/// x [rows, cols] and what else a quantizer depends on.
struct QuantizerInput {
  std::vector<float> x;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Orientation axis = Orientation::row;              ///< column: tiles run down the columns
  std::uint32_t seed = 0, tensor_id = 0, step = 0;  ///< of the counter RNG
  std::vector<std::uint32_t> draws;  ///< [rows, cols] random bits that the kernel was given; empty: the counter RNG
  std::optional<float> tensor_amax;  ///< given to the kernel; else measured
};

/// Rows as quantized (columns of the original where axis is column).
struct QuantizedRows {
  std::vector<std::uint16_t> codes;   ///< [asked rows, columns as quantized]
  std::vector<std::uint8_t> nothing;  ///< 1 where a code means nothing: its tile's scale is NaN
  std::vector<float> decoded;         ///< the same shape; where asked for
  std::vector<std::uint32_t> scales;  ///< [tile rows that the asked rows touch, ascending; tiles along a row]
  std::int64_t scale_cols = 0;
  float tensor_scale = 1.0f;
  float tensor_amax = 0.0f;
  std::int64_t nan_inputs = 0;  ///< among the asked rows
};

class ReferenceQuantizer {
 public:
  explicit ReferenceQuantizer(QuantizerInput input);
  ~ReferenceQuantizer();
  ReferenceQuantizer(const ReferenceQuantizer&) = delete;
  ReferenceQuantizer& operator=(const ReferenceQuantizer&) = delete;

  [[nodiscard]] std::int64_t rows() const { return rows_; }  ///< as quantized
  [[nodiscard]] std::int64_t cols() const { return cols_; }
  [[nodiscard]] const QuantizerInput& input() const { return input_; }
  /// The input as the quantizer sees its axes: [rows(), cols()].
  [[nodiscard]] std::span<const float> turned_input() const { return turned_.empty() ? input_.x : turned_; }

  /// `rows` ascending. False for a transform that does not divide the columns, a defect that the spec cannot have.
  [[nodiscard]] bool possible(const QuantizerSpec& spec, const Deviation& deviation) const;
  [[nodiscard]] QuantizedRows quantize(const QuantizerSpec& spec, const Deviation& deviation,
                                       std::span<const std::int64_t> rows, bool decoded = false);
  /// Largest magnitude of everything that the quantizer encodes (what a tensor scale follows from); remembered.
  [[nodiscard]] float tensor_amax(const QuantizerSpec& spec, const Deviation& deviation);
  /// From now on given, not measured.
  void give_tensor_amax(float amax) { input_.tensor_amax = amax; }
  /// Everything, in the axes of the original.
  [[nodiscard]] UnpackedTensor quantize(const QuantizerSpec& spec);
  /// The values after transform and outlier clamping, [rows(), cols()].
  [[nodiscard]] std::span<const float> prepared_input(const QuantizerSpec& spec);

 private:
  struct Prepared;
  struct Tiles;
  Prepared& prepare(const QuantizerSpec& spec, const Deviation& deviation);
  const std::vector<std::uint32_t>& tile_amax(Prepared& prepared, const QuantizerSpec& spec, AmaxDefect defect);
  std::uint32_t draw_of(const QuantizerSpec& spec, DrawOrder order, std::int64_t row, std::int64_t col) const;

  QuantizerInput input_;
  std::vector<float> turned_;
  std::int64_t rows_ = 0, cols_ = 0;
  std::list<Prepared> prepared_;
  struct KnownAmax {
    HadamardSpec hadamard;
    OutlierSpec outlier;
    bool flush;
    AmaxDefect defect;
    std::uint32_t amax;
  };
  std::vector<KnownAmax> known_amaxes_;  ///< of every input ever prepared
};

}  // namespace ng::validate
