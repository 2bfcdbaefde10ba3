// SPDX-License-Identifier: Apache-2.0
//
// The long way for tiles that are not ordinary, element by element from global memory: values or factors that are not
// finite, and the like. A function of its own, so that the registers of the short way hold nothing for it.
#pragma once

#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/philox_keys.hpp"
#include "plain/quantize_job.hpp"

namespace ng::cuda::fast {

/// Logical row of a row of the job's tensor; negative: padding, which draws zeros.
__device__ inline std::int64_t logical_row(const QuantizeJob& job, std::int64_t row) {
  return job.row_ids != nullptr ? job.row_ids[row] : job.logical_row0 + row;
}

/// The random bytes of 16 neighbours of a row, the first of which is a multiple of 16: zeros for padding. `keys` are
/// those of the job's stream.
__device__ inline uint4 sixteen_bytes(const QuantizeJob& job, const PhiloxKeys& keys, std::int64_t row,
                                      std::int64_t col) {
  const std::int64_t logical = logical_row(job, row);
  if (logical < 0) return uint4{0, 0, 0, 0};
  const std::uint64_t element = static_cast<std::uint64_t>(logical * job.logical_cols + job.logical_col0 + col);
  const PhiloxBlock block = random_block(job.stream, keys, element / 16);
  return uint4{block.word[0], block.word[1], block.word[2], block.word[3]};
}

/// Codes of `count` elements, a multiple of 16, from element `along` of line `across` of the form on, and, where asked,
/// the scale of their tile, whose amax is given.
template <bool kBf16, int kBits>
__device__ __noinline__ void encode_special(const QuantizeJob* job, bool is_column, std::int64_t across,
                                            std::int64_t along, int count, std::uint32_t amax, float tensor_encode,
                                            float tensor_decode, bool writes_scale) {
  const QuantizerSpec& spec = job->spec;
  const TileScale scale = tile_scale(spec, amax, TensorScale{0.0f, tensor_encode, tensor_decode});
  if (writes_scale) {
    const std::int64_t number = across * job->scale_cols + along / spec.tile_cols;
    if (spec.scale_format == ScaleFormat::f32)
      static_cast<float*>(job->scales)[number] = float_of(scale.code);
    else
      static_cast<std::uint8_t*>(job->scales)[number] = static_cast<std::uint8_t>(scale.code);
  }
#pragma unroll 1
  for (int first = 0; first < count; first += 16) {
    float x[16];
    std::uint32_t random[16];
#pragma unroll 1
    for (int i = 0; i < 16; ++i) {
      const std::int64_t row = is_column ? along + first + i : across;
      const std::int64_t col = is_column ? across : along + first + i;
      const std::int64_t at = row * job->stride + col;
      x[i] = kBf16 ? float_of(static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(job->source)[at]) << 16)
                   : static_cast<const float*>(job->source)[at];
      random[i] = 0;
      const std::int64_t logical = logical_row(*job, row);
      if (spec.cast.rounding == Rounding::stochastic && logical >= 0)
        random[i] = random_draw(job->stream,
                                static_cast<std::uint64_t>(logical * job->logical_cols + job->logical_col0 + col), 8);
    }
    if (spec.hadamard.size != 0) hadamard_transform(spec.hadamard, job->signs, x);
    std::uint8_t* to = job->codes + across * job->row_bytes + (along + first) * kBits / 8;
#pragma unroll 1
    for (int i = 0; i < 16; i += 8 / kBits) {
      std::uint32_t byte = encode_scaled(spec, scale, x[i], random[i]);
      if (kBits == 4) byte |= encode_scaled(spec, scale, x[i + 1], random[i + 1]) << 4;
      to[i * kBits / 8] = static_cast<std::uint8_t>(byte);
    }
  }
}

}  // namespace ng::cuda::fast
