// SPDX-License-Identifier: Apache-2.0
//
// What one thread of each plain kernel does, as functions for host and device: addressing only, all arithmetic is called
// from the numerics. The host form lets a machine without a GPU prove them equal to the CPU backend.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/quantize/four_over_six.hpp"
#include "plain/quantize_job.hpp"

namespace ng::cuda::plain {

constexpr std::int64_t kAmaxPiece = 256;  ///< columns that one thread looks at

NG_HD float widen(float value) { return value; }
NG_HD float widen(std::uint16_t bf16) { return float_of(static_cast<std::uint32_t>(bf16) << 16); }

template <class Source>
NG_HD float load(const QuantizeJob& job, std::int64_t row, std::int64_t col) {
  return widen(static_cast<const Source*>(job.source)[row * job.stride + col]);
}

/// Group of a row, by bisection; empty groups have no rows.
NG_HD std::int64_t group_of_row(const GroupExtent* groups, std::int64_t count, std::int64_t row) {
  std::int64_t low = 0;
  for (std::int64_t high = count - 1; low < high;) {
    const std::int64_t middle = (low + high) / 2;
    if (row < groups[middle].end)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/// Group of a tile along the rows: the last that starts at or before it.
NG_HD std::int64_t group_of_tile(const GroupExtent* groups, std::int64_t count, std::int64_t tile) {
  std::int64_t low = 0;
  for (std::int64_t high = count - 1; low < high;) {
    const std::int64_t middle = (low + high + 1) / 2;
    if (groups[middle].first_tile <= tile)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

NG_HD std::int64_t tile_number(const QuantizeJob& job, std::int64_t row, std::int64_t col) {
  const GroupExtent& group = job.groups[group_of_row(job.groups, job.group_count, row)];
  const std::int64_t i = group.first_tile + (job.tile_height == 0 ? 0 : (row - group.begin) / job.tile_height);
  return i * job.col_tiles + (job.tile_width == 0 ? 0 : col / job.tile_width);
}

// ---- Hadamard: one thread transforms one group of spec.hadamard.size elements.

NG_HD std::int64_t hadamard_threads(const QuantizeJob& job) { return job.rows * job.cols / job.spec.hadamard.size; }

template <class Source>
NG_HD void hadamard_thread(const QuantizeJob& job, std::int64_t thread) {
  const std::int64_t n = job.spec.hadamard.size;
  const bool row_form = job.orientation == Orientation::row;
  const std::int64_t per_row = row_form ? job.cols / n : job.cols;
  const std::int64_t row = thread / per_row * (row_form ? 1 : n);
  const std::int64_t col = thread % per_row * (row_form ? n : 1);
  float x[kLargestHadamard];
  for (std::int64_t k = 0; k < n; ++k)
    x[k] = row_form ? load<Source>(job, row, col + k) : load<Source>(job, row + k, col);
  hadamard_transform(job.spec.hadamard, job.signs, x);
  for (std::int64_t k = 0; k < n; ++k)
    job.transformed[row_form ? row * job.cols + col + k : (row + k) * job.cols + col] = x[k];
}

// ---- amax: one thread looks at up to kAmaxPiece columns of one row of one tile.

struct AmaxOfPiece {
  std::int64_t tile = 0;
  std::uint32_t amax = 0;
  std::uint32_t nan_count = 0;
};

NG_HD std::int64_t amax_pieces_per_tile(const QuantizeJob& job) {
  const std::int64_t width = job.tile_width == 0 || job.tile_width > job.cols ? job.cols : job.tile_width;
  return (width + kAmaxPiece - 1) / kAmaxPiece;
}
NG_HD std::int64_t amax_threads(const QuantizeJob& job) { return job.rows * job.col_tiles * amax_pieces_per_tile(job); }

template <class Source>
NG_HD AmaxOfPiece amax_thread(const QuantizeJob& job, std::int64_t thread) {
  const std::int64_t pieces = amax_pieces_per_tile(job);
  const std::int64_t row = thread / (job.col_tiles * pieces);
  const std::int64_t col_tile = thread / pieces % job.col_tiles;
  const std::int64_t tile_begin = col_tile * job.tile_width;
  const std::int64_t tile_end =
      job.tile_width == 0 || tile_begin + job.tile_width > job.cols ? job.cols : tile_begin + job.tile_width;
  const std::int64_t begin = tile_begin + thread % pieces * kAmaxPiece;
  const std::int64_t end = begin + kAmaxPiece < tile_end ? begin + kAmaxPiece : tile_end;
  AmaxOfPiece result;
  result.tile = tile_number(job, row, tile_begin);
  for (std::int64_t c = begin; c < end; ++c) {
    const std::uint32_t magnitude = magnitude_bits(load<Source>(job, row, c));
    result.amax = magnitude > result.amax ? magnitude : result.amax;
    result.nan_count += magnitude > kInfinityBits ? 1u : 0u;
  }
  return result;
}

NG_HD bool counts_nan(const QuantizerSpec& spec) {
  return spec.cast.nan == NanChoice::error && spec.element.nan == NanCodes::none;
}

/// Where the amax of a tile goes for the tensor scale of its group.
NG_HD std::int64_t amax_group(const QuantizeJob& job, std::int64_t tile) {
  if (job.spec.tensor_scope == TensorScope::whole) return 0;
  return group_of_tile(job.groups, job.group_count, tile / job.col_tiles);
}

// ---- scales: one thread per group, then one per tile.

NG_HD void tensor_scale_thread(const QuantizeJob& job, std::int64_t group) {
  const std::int64_t from = job.spec.tensor_scope == TensorScope::whole ? 0 : group;
  const TensorScale scale = tensor_scale(job.spec, job.group_amax[from] & kMagnitudeMask);
  job.tensor[group] = scale;
  job.tensor_scales[group] = scale.decode;
  if (job.tensor_amaxes != nullptr) job.tensor_amaxes[group] = scale.amax;
}

/// A group whose one tile is all of it takes the known amax of the group in place of its own.
NG_HD void known_amax_thread(const QuantizeJob& job, const std::uint32_t* known, std::int64_t group) {
  const GroupExtent& extent = job.groups[group];
  if (extent.begin < extent.end && job.cols > 0) job.tile_amax[extent.first_tile] = known[group] & kMagnitudeMask;
}

template <class Source>
NG_HD void tile_scale_thread(const QuantizeJob& job, std::int64_t tile) {
  const bool row_form = job.orientation == Orientation::row;
  const std::int64_t i = tile / job.col_tiles;
  const std::int64_t j = tile % job.col_tiles;
  const std::int64_t g = group_of_tile(job.groups, job.group_count, i);
  const TensorScale tensor = needs_tensor_amax(job.spec.rule) ? job.tensor[g] : TensorScale{};
  const std::uint32_t amax = job.tile_amax[tile];
  TileScale scale;
  if (job.spec.rule == ScaleRule::four_over_six) {
    const GroupExtent& group = job.groups[g];
    const std::int64_t row0 = group.begin + (i - group.first_tile) * job.tile_height;
    const std::int64_t col0 = j * job.tile_width;
    const std::int64_t height = job.tile_height == 0 || row0 + job.tile_height > group.end ? group.end - row0 : job.tile_height;
    const std::int64_t width = job.tile_width == 0 || col0 + job.tile_width > job.cols ? job.cols - col0 : job.tile_width;
    scale = four_over_six_scale(job.spec, amax, tensor, row_form ? height : width, row_form ? width : height,
                                [&](std::int64_t line, std::int64_t k) {
                                  return row_form ? load<Source>(job, row0 + line, col0 + k)
                                                  : load<Source>(job, row0 + k, col0 + line);
                                });
  } else {
    scale = tile_scale(job.spec, amax, tensor);
  }
  job.tiles[tile] = scale;
  const std::int64_t at = row_form ? i * job.scale_cols + j : j * job.scale_cols + i;
  if (job.spec.scale_format == ScaleFormat::f32)
    static_cast<float*>(job.scales)[at] = float_of(scale.code);
  else
    static_cast<std::uint8_t*>(job.scales)[at] = static_cast<std::uint8_t>(scale.code);
}

// ---- codes: one thread writes one byte of nibbles, or one code.

NG_HD std::int64_t codes_per_thread(const QuantizeJob& job) { return job.storage == CodeStorage::nibble ? 2 : 1; }
NG_HD std::int64_t encode_threads_per_row(const QuantizeJob& job) {
  const std::int64_t length = job.orientation == Orientation::row ? job.cols : job.rows;
  return (length + codes_per_thread(job) - 1) / codes_per_thread(job);
}
NG_HD std::int64_t encode_threads(const QuantizeJob& job) {
  return (job.orientation == Orientation::row ? job.rows : job.cols) * encode_threads_per_row(job);
}

/// Code of element (row, col) of the original.
template <class Source>
NG_HD std::uint32_t code_of_element(const QuantizeJob& job, std::int64_t row, std::int64_t col) {
  std::uint32_t draw = 0;
  if (job.spec.cast.rounding == Rounding::stochastic) {
    const std::int64_t logical = job.row_ids != nullptr ? job.row_ids[row] : job.logical_row0 + row;
    if (logical >= 0)
      draw = random_draw(job.stream,
                         static_cast<std::uint64_t>(logical) * static_cast<std::uint64_t>(job.logical_cols) +
                             static_cast<std::uint64_t>(job.logical_col0 + col),
                         job.spec.cast.random_bits);
  }
  const TileScale scale = job.spec.scale_format == ScaleFormat::none ? TileScale{} : job.tiles[tile_number(job, row, col)];
  return encode_scaled(job.spec, scale, load<Source>(job, row, col), draw);
}

template <class Source>
NG_HD void encode_thread(const QuantizeJob& job, std::int64_t thread) {
  const bool row_form = job.orientation == Orientation::row;
  const std::int64_t per_row = encode_threads_per_row(job);
  const std::int64_t line = thread / per_row;
  const std::int64_t first = thread % per_row * codes_per_thread(job);
  const std::int64_t length = row_form ? job.cols : job.rows;
  std::uint8_t* to = job.codes + line * job.row_bytes;
  const std::uint32_t low = row_form ? code_of_element<Source>(job, line, first) : code_of_element<Source>(job, first, line);
  if (job.storage != CodeStorage::nibble) {
    store_code(to, job.storage, static_cast<std::size_t>(first), low);
    return;
  }
  std::uint32_t high = 0;
  if (first + 1 < length)
    high = row_form ? code_of_element<Source>(job, line, first + 1) : code_of_element<Source>(job, first + 1, line);
  to[first / 2] = static_cast<std::uint8_t>(low | high << 4);
}

// ---- decode: one thread per element as quantized.

/// The scale of an element's tile, 1 without scales, and its group.
struct ElementScale {
  float scale;
  std::int64_t group;
};
NG_HD ElementScale element_scale(const DequantizeJob& job, std::int64_t row, std::int64_t col) {
  const bool row_form = job.orientation == Orientation::row;
  const std::int64_t g = group_of_row(job.groups, job.group_count, row_form ? row : col);
  if (job.spec.scale_format == ScaleFormat::none) return {1.0f, g};
  const GroupExtent& group = job.groups[g];
  std::int64_t i = job.spec.tile_rows == 0 ? 0 : (row_form ? row - group.begin : row) / job.spec.tile_rows;
  std::int64_t j = job.spec.tile_cols == 0 ? 0 : (row_form ? col : col - group.begin) / job.spec.tile_cols;
  (row_form ? i : j) += group.first_tile;
  const std::int64_t at = i * job.scale_cols + j;
  return {job.spec.scale_format == ScaleFormat::f32
              ? static_cast<const float*>(job.scales)[at]
              : stored_scale_value(job.spec.scale_format, static_cast<const std::uint8_t*>(job.scales)[at]),
          g};
}

NG_HD float decoded_element(const DequantizeJob& job, std::int64_t row, std::int64_t col) {
  const auto [scale, group] = element_scale(job, row, col);
  const std::uint32_t code = load_code(job.codes + row * job.row_bytes, job.storage, static_cast<std::size_t>(col));
  if (job.spec.decode == DecodeOrder::te)
    return decoded_product(decode(job.spec.element, code), te_decode_factor(scale, job.tensor_amaxes[group]));
  const float tensor = job.tensor_scales != nullptr ? job.tensor_scales[group] : 1.0f;
  return decode_scaled(job.spec, scale, tensor, code);
}

NG_HD void store_rounded(float value, float* to) { *to = value; }
NG_HD void store_rounded(float value, std::uint16_t* to) { *to = static_cast<std::uint16_t>(bits_of(round_to_bf16(value)) >> 16); }

template <class Target>
NG_HD void decode_thread(const DequantizeJob& job, std::int64_t thread) {
  const std::int64_t row = thread / job.cols;
  const std::int64_t col = thread % job.cols;
  store_rounded(decoded_element(job, row, col), static_cast<Target*>(job.out) + row * job.out_stride + col);
}

}  // namespace ng::cuda::plain
