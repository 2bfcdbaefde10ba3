// SPDX-License-Identifier: Apache-2.0
//
// Rows to codes and back. Formats and roundings that training uses have a packed form each; everything else takes the
// scalar encode(), with the same bytes. Compiled once per instruction set.
#include "quantize.hpp"

#include "kernels.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "narrowgauge/quantize/scale_span.hpp"

namespace ng::cpu::NG_ISA {

namespace {

/// amax[j] = largest magnitude bits of tile j of the row, or of it and the value already there.
void amax_tiles(const float* x, std::int64_t count, std::int64_t tile, bool merge, std::uint32_t* amax) {
  if (tile == 1) {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint32_t before = merge ? amax[i] : 0u;
      const std::uint32_t magnitude = magnitude_bits(x[i]);
      amax[i] = static_cast<std::int32_t>(magnitude) > static_cast<std::int32_t>(before) ? magnitude : before;
    }
    return;
  }
  for (std::int64_t first = 0, j = 0; first < count; first += tile, ++j) {
    const std::int64_t width = first + tile <= count ? tile : count - first;
    const std::uint32_t largest = amax_span(x + first, static_cast<std::size_t>(width));
    amax[j] = merge && amax[j] > largest ? amax[j] : largest;
  }
}

NG_HD void store_scale(const QuantizerSpec& spec, const TileScale& scale, std::int64_t i, const TileScaleArrays& out) {
  out.encode[i] = spec.application == ScaleApplication::divide ? scale.divisor : scale.encode;
  out.code[i] = scale.code;
  out.poisoned[i] = scale.poisoned ? 1 : 0;
}

/// Eight tiles at a time while every amax is finite. Returns how many tiles are done.
template <ScaleRule kRule>
NG_HD std::int64_t packed_tile_scales(const QuantizerSpec& spec, const TensorScale& tensor, const std::uint32_t* amax,
                                      std::int64_t count, const TileScaleArrays& out) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    EightLanes::U lanes;
    load_lanes(amax + i, lanes);
    std::uint32_t largest = 0;
    for (int lane = 0; lane < kLanes; ++lane) largest |= amax[i + lane] >= kInfinityBits ? 1u : 0u;
    if (largest != 0) break;
    const EightScales scales = eight_scales<kRule>(spec, lanes, tensor);
    store_lanes(scales.encode, out.encode + i);
    store_lanes(scales.code, out.code + i);
    for (int lane = 0; lane < kLanes; ++lane) out.poisoned[i + lane] = 0;
  }
  return i;
}

void tile_scales(const QuantizerSpec& spec, const TensorScale& tensor, const std::uint32_t* amax, std::int64_t count,
                 const TileScaleArrays& out) {
  std::int64_t done = 0;
  if (has_packed_scales(spec) && is_finite_bits(bits_of(tensor.encode)) && is_finite_bits(bits_of(tensor.decode))) {
    switch (spec.rule) {
      case ScaleRule::floor:
        done = packed_tile_scales<ScaleRule::floor>(spec, tensor, amax, count, out);
        break;
      case ScaleRule::rceil:
        done = packed_tile_scales<ScaleRule::rceil>(spec, tensor, amax, count, out);
        break;
      case ScaleRule::absmax:
        done = packed_tile_scales<ScaleRule::absmax>(spec, tensor, amax, count, out);
        break;
      default:
        done = packed_tile_scales<ScaleRule::te_v2_14>(spec, tensor, amax, count, out);
        break;
    }
  }
  for (std::int64_t i = done; i < count; ++i) store_scale(spec, tile_scale(spec, amax[i], tensor), i, out);
}

template <FormatId kFormat, Rounding kRounding, Inputs kInputs>
NG_HD void encode_row_packed(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row) {
  std::uint8_t* codes = static_cast<std::uint8_t*>(row.codes);
  const int bits = spec.cast.random_bits;
  if (row.tile == 1) {
    encode_span<kFormat, kRounding, kInputs>(special, bits, row.x, encode_span_detail::FactorPerElement{row.encode},
                                             row.draws, codes, static_cast<std::size_t>(row.count));
    return;
  }
  for (std::int64_t first = 0, j = 0; first < row.count; first += row.tile, ++j) {
    const std::int64_t width = first + row.tile <= row.count ? row.tile : row.count - first;
    encode_span<kFormat, kRounding, kInputs>(special, bits, row.x + first, encode_span_detail::OneFactor{row.encode[j]},
                                             kRounding == Rounding::stochastic ? row.draws + first : nullptr,
                                             codes + first, static_cast<std::size_t>(width));
  }
}

template <FormatId kFormat, Rounding kRounding>
NG_HD void encode_row_inputs(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row) {
  const bool plain = !row.has_nan && spec.cast.overflow == Overflow::saturate;
  if (plain && spec.cast.zero_sign == ZeroSign::keep)
    encode_row_packed<kFormat, kRounding, Inputs::plain>(spec, special, row);
  else if (plain && spec.cast.zero_sign == ZeroSign::exact_positive)
    encode_row_packed<kFormat, kRounding, Inputs::plain_exact_positive>(spec, special, row);
  else
    encode_row_packed<kFormat, kRounding, Inputs::any>(spec, special, row);
}

template <FormatId kFormat>
NG_HD bool encode_row_rounding(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row) {
  switch (spec.cast.rounding) {
    case Rounding::nearest_even:
      encode_row_inputs<kFormat, Rounding::nearest_even>(spec, special, row);
      return true;
    case Rounding::toward_zero:
      encode_row_inputs<kFormat, Rounding::toward_zero>(spec, special, row);
      return true;
    case Rounding::stochastic:
      if (spec.cast.random_bits > 16) return false;
      encode_row_inputs<kFormat, Rounding::stochastic>(spec, special, row);
      return true;
    default:
      return false;
  }
}

void encode_row_scalar(const QuantizerSpec& spec, const EncodeRow& row) {
  const bool wide = bit_count(spec.element) > 8;
  const bool divide = spec.application == ScaleApplication::divide;
  const bool scaled = spec.scale_format != ScaleFormat::none;
  const bool random = spec.cast.rounding == Rounding::stochastic;
  for (std::int64_t i = 0; i < row.count; ++i) {
    const float factor = row.encode[i / row.tile];
    const float value = !scaled  ? row.x[i]
                        : divide ? scaled_by_division(row.x[i], factor)
                                 : scaled_by_factor(row.x[i], factor);
    const std::uint32_t code = encode(spec.element, spec.cast, value, random ? row.draws[i] : 0u);
    if (wide)
      static_cast<std::uint16_t*>(row.codes)[i] = static_cast<std::uint16_t>(code);
    else
      static_cast<std::uint8_t*>(row.codes)[i] = static_cast<std::uint8_t>(code);
  }
}

void encode_row(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row) {
  bool done = false;
  if (spec.application == ScaleApplication::multiply && spec.element == format_of(spec.element_id)) {
    switch (spec.element_id) {
      case FormatId::e2m1:
        done = encode_row_rounding<FormatId::e2m1>(spec, special, row);
        break;
      case FormatId::e4m3:
        done = encode_row_rounding<FormatId::e4m3>(spec, special, row);
        break;
      case FormatId::e5m2:
        done = encode_row_rounding<FormatId::e5m2>(spec, special, row);
        break;
      case FormatId::e2m3:
        done = encode_row_rounding<FormatId::e2m3>(spec, special, row);
        break;
      case FormatId::e3m2:
        done = encode_row_rounding<FormatId::e3m2>(spec, special, row);
        break;
      default:
        break;
    }
  }
  if (!done) encode_row_scalar(spec, row);
  if (!row.has_nan) return;  // no tile is poisoned
  const std::size_t width = bit_count(spec.element) > 8 ? 2 : 1;
  for (std::int64_t first = 0, j = 0; first < row.count; first += row.tile, ++j) {
    if (row.poisoned[j] == 0) continue;
    const std::int64_t end = first + row.tile <= row.count ? first + row.tile : row.count;
    std::uint8_t* bytes = static_cast<std::uint8_t*>(row.codes);
    for (std::size_t i = static_cast<std::size_t>(first) * width; i < static_cast<std::size_t>(end) * width; ++i)
      bytes[i] = 0;
  }
}

template <class T>
NG_HD void widen(const T* from, std::uint32_t* to, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) to[i] = from[i];
}

/// Draws of elements [first, first + count) of a stream, `bits` (8, 16 or 32) each.
void fill_draws(const RandomStream& stream, std::uint64_t first, std::int64_t count, int bits, std::uint32_t* draws) {
  constexpr int kBlocks = 8;
  const std::uint64_t per_block = 128u / static_cast<unsigned>(bits);
  const std::uint64_t end = first + static_cast<std::uint64_t>(count);
  for (std::uint64_t block = first / per_block; block * per_block < end; block += kBlocks) {
    std::uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
    for (int i = 0; i < kBlocks; ++i) {
      const std::uint64_t index = block + static_cast<std::uint64_t>(i);
      c0[i] = static_cast<std::uint32_t>(index);
      c1[i] = static_cast<std::uint32_t>(index >> 32);
      c2[i] = stream.tensor_id;
      c3[i] = stream.step;
    }
    std::uint32_t key0 = stream.seed;
    std::uint32_t key1 = static_cast<std::uint32_t>(stream.purpose);
    for (int round = 0; round < 10; ++round) {  // philox4x32_10 of counter_rng.hpp, lane by lane
      for (int i = 0; i < kBlocks; ++i) {
        const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53u) * c0[i];
        const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57u) * c2[i];
        c0[i] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[i] ^ key0;
        c1[i] = static_cast<std::uint32_t>(p1);
        c2[i] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[i] ^ key1;
        c3[i] = static_cast<std::uint32_t>(p0);
      }
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    // The bytes of a block in order are its draws, lowest first.
    std::uint32_t words[4 * kBlocks];
    for (int i = 0; i < kBlocks; ++i) {
      words[4 * i] = c0[i];
      words[4 * i + 1] = c1[i];
      words[4 * i + 2] = c2[i];
      words[4 * i + 3] = c3[i];
    }
    const std::uint64_t element0 = block * per_block;
    const std::uint64_t from = element0 < first ? first : element0;
    const std::uint64_t to = element0 + kBlocks * per_block < end ? element0 + kBlocks * per_block : end;
    std::uint32_t* out = draws + (from - first);
    const std::uint64_t skip = from - element0;
    if (bits == 8) {
      widen(reinterpret_cast<const std::uint8_t*>(words) + skip, out, to - from);
    } else if (bits == 16) {
      std::uint16_t halves[8 * kBlocks];
      __builtin_memcpy(halves, words, sizeof halves);
      widen(halves + skip, out, to - from);
    } else {
      widen(words + skip, out, to - from);
    }
  }
}

void pack_codes(const std::uint8_t* codes, std::int64_t count, std::uint8_t* packed) {
  pack_nibbles(codes, static_cast<std::size_t>(count), packed);
}

/// Exchanges the halves of neighbouring words that a transposition of 8x8 bytes has to: three such steps do it.
template <int kDistance>
NG_HD void exchange_bytes(std::uint64_t* word) {
  constexpr int kBits = 8 * kDistance;
  constexpr std::uint64_t kMask = kDistance == 1   ? 0x00ff00ff00ff00ffull
                                  : kDistance == 2 ? 0x0000ffff0000ffffull
                                                   : 0x00000000ffffffffull;
  for (int i = 0; i < 8; ++i) {
    if ((i & kDistance) != 0) continue;
    const std::uint64_t moved = ((word[i] >> kBits) ^ word[i + kDistance]) & kMask;
    word[i + kDistance] ^= moved;
    word[i] ^= moved << kBits;
  }
}

/// out[c * out_stride + r] = block[r * cols + c], one byte each.
void transpose_codes(const std::uint8_t* block, std::int64_t rows, std::int64_t cols, std::uint8_t* out,
                     std::int64_t out_stride) {
  std::int64_t r = 0;
  for (; r + 8 <= rows; r += 8) {
    std::int64_t c = 0;
    for (; c + 8 <= cols; c += 8) {
      std::uint64_t word[8];
      for (int i = 0; i < 8; ++i) __builtin_memcpy(&word[i], block + (r + i) * cols + c, 8);
      exchange_bytes<1>(word);
      exchange_bytes<2>(word);
      exchange_bytes<4>(word);
      for (int i = 0; i < 8; ++i) __builtin_memcpy(out + (c + i) * out_stride + r, &word[i], 8);
    }
    for (; c < cols; ++c)
      for (int i = 0; i < 8; ++i) out[c * out_stride + r + i] = block[(r + i) * cols + c];
  }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) out[c * out_stride + r] = block[r * cols + c];
}

/// Hadamard transform of consecutive groups of spec.size elements of a row, in place.
void hadamard_row(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += spec.size) hadamard_transform(spec, mask, x + i);
}

/// The same across rows: element (k, c) is x[k * stride + c], k < spec.size; every column is one group. The sums of
/// hadamard_transform, column by column at once.
void hadamard_columns(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t stride,
                      std::int64_t count) {
  const int n = spec.size;
  if (spec.order != HadamardOrder::butterfly) {
    for (std::int64_t c = 0; c < count; ++c) {
      float group[kLargestHadamard];
      for (int k = 0; k < n; ++k) group[k] = x[k * stride + c];
      hadamard_transform(spec, mask, group);
      for (int k = 0; k < n; ++k) x[k * stride + c] = group[k];
    }
    return;
  }
  const float scale = hadamard_scale(n);
  for (int k = 0; k < n; ++k) {
    const float signed_scale = hadamard_negates(mask, k) ? -scale : scale;
    for (std::int64_t c = 0; c < count; ++c) x[k * stride + c] = mul_rn(x[k * stride + c], signed_scale);
  }
  for (int distance = 1; distance < n; distance *= 2) {
    for (int k = 0; k < n; ++k) {
      if ((k & distance) != 0) continue;
      float* upper = x + k * stride;
      float* lower = x + (k + distance) * stride;
      for (std::int64_t c = 0; c < count; ++c) {
        const float a = upper[c];
        const float b = lower[c];
        upper[c] = add_rn(a, b);
        lower[c] = sub_rn(a, b);
      }
    }
  }
  for (int k = 0; k < n; ++k)
    for (std::int64_t c = 0; c < count; ++c) x[k * stride + c] = hadamard_result(spec, x[k * stride + c]);
}

/// out[i] = table[code i] * scale of its tile; count codes as they are stored from code number `first` of the row on.
void decode_row(CodeStorage storage, const float* table, const std::uint8_t* row, std::int64_t first,
                std::int64_t count, const float* scales, std::int64_t tile, float* out) {
  for (std::int64_t begin = 0, j = 0; begin < count; begin += tile, ++j) {
    const std::int64_t end = begin + tile <= count ? begin + tile : count;
    const float scale = scales[j];
    std::int64_t i = begin;
    if (storage == CodeStorage::nibble) {
      if (((first + i) & 1) != 0 && i < end) {
        out[i] = decoded_product(table[row[(first + i) / 2] >> 4], scale);
        ++i;
      }
      const std::uint8_t* bytes = row + (first + i) / 2;
      const std::int64_t pairs = (end - i) / 2;
      for (std::int64_t p = 0; p < pairs; ++p) {
        out[i + 2 * p] = decoded_product(table[bytes[p] & 15], scale);
        out[i + 2 * p + 1] = decoded_product(table[bytes[p] >> 4], scale);
      }
      i += 2 * pairs;
      if (i < end) out[i] = decoded_product(table[bytes[pairs] & 15], scale);
    } else if (storage == CodeStorage::byte) {
      for (; i < end; ++i) out[i] = decoded_product(table[row[first + i]], scale);
    } else {
      for (; i < end; ++i)
        out[i] = decoded_product(table[load_code(row, storage, static_cast<std::size_t>(first + i))], scale);
    }
  }
}

}  // namespace

void add_quantize_kernels(CpuKernels& table) {
  table.amax_tiles = amax_tiles;
  table.tile_scales = tile_scales;
  table.encode_row = encode_row;
  table.fill_draws = fill_draws;
  table.pack_nibbles = pack_codes;
  table.transpose_codes = transpose_codes;
  table.hadamard_row = hadamard_row;
  table.hadamard_columns = hadamard_columns;
  table.decode_row = decode_row;
}

}  // namespace ng::cpu::NG_ISA
