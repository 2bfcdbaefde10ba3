// SPDX-License-Identifier: Apache-2.0
//
// Arguments of the quantization kernels: rows of FP32 in, codes of one byte each out (two bytes for wider formats).
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/encode_span.hpp"

namespace ng::cpu {

/// Scales of a row of tiles, one entry per tile.
struct TileScaleArrays {
  float* encode;           ///< what elements are multiplied by, or divided by (application = divide)
  std::uint32_t* code;     ///< stored scale
  std::uint8_t* poisoned;  ///< codes of this tile are 0
};

/// One row, or a part of it, of elements that lie in consecutive tiles of `tile` columns.
struct EncodeRow {
  const float* x;
  std::int64_t count;
  std::int64_t tile;             ///< columns per tile; x starts at the start of a tile, or tile >= count
  const float* encode;           ///< per tile
  const std::uint8_t* poisoned;  ///< per tile
  bool has_nan;                  ///< some element may be NaN, or some tile is poisoned
  const void* draws;             ///< per element, as wide as the random bits; for stochastic rounding
  void* codes;                   ///< uint8 per element, uint16 for formats above 8 bits
  std::uint8_t* nibbles;         ///< where not null: two codes a byte go here; `codes` is then scratch
};

}  // namespace ng::cpu
