// SPDX-License-Identifier: Apache-2.0
//
// Rows to codes. Formats and roundings that training uses have a packed form each; everything else takes the scalar
// encode(), with the same bytes. Compiled once per instruction set.
#include "quantize.hpp"

#include "kernels.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "narrowgauge/quantize/scale_span.hpp"

#if NG_ISA_LEVEL >= 3
#include "encode_avx2.hpp"
#endif

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
  std::int64_t done = 0;
#if NG_ISA_LEVEL >= 3
  if (tile == 16) done = amax_of_eight_tiles<16>(x, count / tile, merge, amax);
  if (tile == 32) done = amax_of_eight_tiles<32>(x, count / tile, merge, amax);
  if (tile == 128) done = amax_of_eight_tiles<128>(x, count / tile, merge, amax);
#endif
  for (std::int64_t first = done * tile, j = done; first < count; first += tile, ++j) {
    const std::int64_t width = first + tile <= count ? tile : count - first;
    const std::uint32_t largest = amax_span(x + first, static_cast<std::size_t>(width));
    amax[j] = merge && amax[j] > largest ? amax[j] : largest;
  }
}

/// False for a tile whose elements may be NaN once they are scaled.
NG_HD bool store_scale(const QuantizerSpec& spec, const TileScale& scale, std::uint32_t amax, std::int64_t i,
                       const TileScaleArrays& out) {
  out.encode[i] = spec.application == ScaleApplication::divide ? scale.divisor : scale.encode;
  out.code[i] = scale.code;
  out.poisoned[i] = scale.poisoned ? 1 : 0;
  return amax < kInfinityBits && is_finite_bits(bits_of(out.encode[i])) && !scale.poisoned;
}

/// Eight tiles at a time while every amax is finite, and with it every factor. Returns how many tiles are done.
template <ScaleRule kRule>
NG_HD std::int64_t packed_tile_scales(const QuantizerSpec& spec, const TensorScale& tensor, const std::uint32_t* amax,
                                      std::int64_t count, const TileScaleArrays& out) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    EightLanes::U lanes;
    load_lanes(amax + i, lanes);
    if (any_lane(lane_signed(lanes) > static_cast<std::int32_t>(kLargestFiniteBits))) break;
    const EightScales scales = eight_scales<kRule>(spec, lanes, tensor);
    store_lanes(scales.encode, out.encode + i);
    store_lanes(scales.code, out.code + i);
    __builtin_memset(out.poisoned + i, 0, kLanes);
  }
  return i;
}

bool tile_scales(const QuantizerSpec& spec, const TensorScale& tensor, const std::uint32_t* amax, std::int64_t count,
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
  bool plain = true;
  for (std::int64_t i = done; i < count; ++i)
    plain &= store_scale(spec, tile_scale(spec, amax[i], tensor), amax[i], i, out);
  return plain;
}

/// Codes of one a byte of `count` elements with the factor that `factor` gives each. `draws`: kBits / 8 bytes each.
template <FormatId kFormat, Rounding kRounding, int kBits, Inputs kInputs, class Factor>
NG_HD void encode_bytes(const SpecialCodes& special, const float* x, const Factor& factor, const std::uint8_t* draws,
                        std::int64_t count, std::uint8_t* codes) {
  const std::size_t n = static_cast<std::size_t>(count);
  if constexpr (kBits == 32)
    encode_span<kFormat, kRounding, kInputs>(special, kBits, x, factor, reinterpret_cast<const std::uint32_t*>(draws),
                                             codes, n);
  else if constexpr (kBits == 16)
    encode_span<kFormat, kRounding, kInputs>(special, kBits, x, factor, reinterpret_cast<const std::uint16_t*>(draws),
                                             codes, n);
  else
    encode_span<kFormat, kRounding, kInputs>(special, kBits, x, factor, draws, codes, n);
}

/// The same for one tile with one factor, or (kEach) with a factor for each element; with `nibbles` two codes a byte.
template <FormatId kFormat, Rounding kRounding, int kBits, Inputs kInputs, bool kEach>
__attribute__((noinline)) void encode_elements(const SpecialCodes& special, const float* x, const float* factors,
                                               const std::uint8_t* draws, std::int64_t count, bool nibbles,
                                               std::uint8_t* out) {
  constexpr std::int64_t kPart = 64;
  std::uint8_t part[kPart];
  for (std::int64_t first = 0; first < count; first += kPart) {
    const std::int64_t n = count - first < kPart ? count - first : kPart;
    std::uint8_t* codes = nibbles ? part : out + first;
    const std::uint8_t* from = kBits == 0 ? nullptr : draws + first * kBits / 8;
    if constexpr (kEach)
      encode_bytes<kFormat, kRounding, kBits, kInputs>(
          special, x + first, encode_span_detail::FactorPerElement{factors + first}, from, n, codes);
    else
      encode_bytes<kFormat, kRounding, kBits, kInputs>(special, x + first, encode_span_detail::OneFactor{*factors},
                                                       from, n, codes);
    if (nibbles) pack_nibbles(codes, static_cast<std::size_t>(n), out + first / 2);
  }
}

#if NG_ISA_LEVEL < 3
enum class Factors : std::uint8_t { one, per_16, per_element };
#endif

/// As many elements as make whole blocks of an instruction set that has them. Returns how many are done.
template <FormatId kFormat, Rounding kRounding, int kBits, Inputs kInputs, Factors kFactors>
NG_HD std::int64_t encode_whole_blocks([[maybe_unused]] const float* x, [[maybe_unused]] const float* factors,
                                       [[maybe_unused]] const std::uint8_t* draws, [[maybe_unused]] std::int64_t count,
                                       [[maybe_unused]] bool nibbles, [[maybe_unused]] std::uint8_t* out) {
#if NG_ISA_LEVEL >= 3
  if constexpr (kInputs != Inputs::any) {
    using Encoder = BlockEncoder<kFormat, kRounding, kBits, kInputs>;
    const std::int64_t whole = count / kBlock * kBlock;
    if constexpr (bit_count(kFormatOf<kFormat>) == 4) {
      if (nibbles) {
        encode_blocks<Encoder, kFactors, true, kBits>(x, factors, draws, whole, out);
        return whole;
      }
    }
    encode_blocks<Encoder, kFactors, false, kBits>(x, factors, draws, whole, out);
    return whole;
  }
#endif
  return 0;
}

/// A row, or with `nibbles` (tiles then start at whole bytes) two codes a byte of it.
template <FormatId kFormat, Rounding kRounding, int kBits, Inputs kInputs>
NG_HD void encode_row_packed(const SpecialCodes& special, const EncodeRow& row, bool nibbles, std::uint8_t* out) {
  const std::uint8_t* draws = static_cast<const std::uint8_t*>(row.draws);
  const auto bytes = [nibbles](std::int64_t count) { return nibbles ? count / 2 : count; };
  const auto draw_bytes = [](std::int64_t count) { return count * kBits / 8; };
  if (row.tile == 1) {
    const std::int64_t done = encode_whole_blocks<kFormat, kRounding, kBits, kInputs, Factors::per_element>(
        row.x, row.encode, draws, row.count, nibbles, out);
    encode_elements<kFormat, kRounding, kBits, kInputs, true>(special, row.x + done, row.encode + done,
                                                              draws + draw_bytes(done), row.count - done, nibbles,
                                                              out + bytes(done));
    return;
  }
  std::int64_t first = 0;
  if (row.tile == 16)
    first = encode_whole_blocks<kFormat, kRounding, kBits, kInputs, Factors::per_16>(row.x, row.encode, draws,
                                                                                     row.count, nibbles, out);
  for (std::int64_t j = first / row.tile; first < row.count; first += row.tile, ++j) {
    const std::int64_t width = first + row.tile <= row.count ? row.tile : row.count - first;
    std::int64_t done = encode_whole_blocks<kFormat, kRounding, kBits, kInputs, Factors::one>(
        row.x + first, row.encode + j, draws + draw_bytes(first), width, nibbles, out + bytes(first));
    if (done == width) continue;
    done += first;
    encode_elements<kFormat, kRounding, kBits, kInputs, false>(special, row.x + done, row.encode + j,
                                                               draws + draw_bytes(done), first + width - done, nibbles,
                                                               out + bytes(done));
  }
}

template <FormatId kFormat, Rounding kRounding, int kBits>
NG_HD void encode_row_inputs(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row, bool nibbles,
                             std::uint8_t* out) {
  const bool plain = !row.has_nan && spec.cast.overflow == Overflow::saturate;
  if (plain && spec.cast.zero_sign == ZeroSign::keep)
    encode_row_packed<kFormat, kRounding, kBits, Inputs::plain>(special, row, nibbles, out);
  else if (plain && spec.cast.zero_sign == ZeroSign::exact_positive)
    encode_row_packed<kFormat, kRounding, kBits, Inputs::plain_exact_positive>(special, row, nibbles, out);
  else
    encode_row_packed<kFormat, kRounding, kBits, Inputs::any>(special, row, nibbles, out);
}

/// False where there is no packed form of the rounding.
template <FormatId kFormat>
bool encode_row_rounding(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row, bool nibbles,
                         std::uint8_t* out) {
  switch (spec.cast.rounding) {
    case Rounding::nearest_even:
      encode_row_inputs<kFormat, Rounding::nearest_even, 0>(spec, special, row, nibbles, out);
      return true;
    case Rounding::toward_zero:
      encode_row_inputs<kFormat, Rounding::toward_zero, 0>(spec, special, row, nibbles, out);
      return true;
    case Rounding::stochastic:
      if (spec.cast.random_bits == 8)
        encode_row_inputs<kFormat, Rounding::stochastic, 8>(spec, special, row, nibbles, out);
      else if (spec.cast.random_bits == 16)
        encode_row_inputs<kFormat, Rounding::stochastic, 16>(spec, special, row, nibbles, out);
      else
        encode_row_inputs<kFormat, Rounding::stochastic, 32>(spec, special, row, nibbles, out);
      return true;
    default:
      return false;
  }
}

NG_HD std::uint32_t draw_of(const void* draws, int bits, std::int64_t i) {
  if (bits == 8) return static_cast<const std::uint8_t*>(draws)[i];
  if (bits == 16) return static_cast<const std::uint16_t*>(draws)[i];
  return static_cast<const std::uint32_t*>(draws)[i];
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
    const std::uint32_t code =
        encode(spec.element, spec.cast, value, random ? draw_of(row.draws, spec.cast.random_bits, i) : 0u);
    if (wide)
      static_cast<std::uint16_t*>(row.codes)[i] = static_cast<std::uint16_t>(code);
    else
      static_cast<std::uint8_t*>(row.codes)[i] = static_cast<std::uint8_t>(code);
  }
}

bool encode_row_fast(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row, bool nibbles,
                     std::uint8_t* out) {
  if (spec.application != ScaleApplication::multiply || !(spec.element == format_of(spec.element_id))) return false;
  switch (spec.element_id) {
    case FormatId::e2m1:
      return encode_row_rounding<FormatId::e2m1>(spec, special, row, nibbles, out);
    case FormatId::e4m3:
      return encode_row_rounding<FormatId::e4m3>(spec, special, row, nibbles, out);
    case FormatId::e5m2:
      return encode_row_rounding<FormatId::e5m2>(spec, special, row, nibbles, out);
    case FormatId::e2m3:
      return encode_row_rounding<FormatId::e2m3>(spec, special, row, nibbles, out);
    case FormatId::e3m2:
      return encode_row_rounding<FormatId::e3m2>(spec, special, row, nibbles, out);
    default:
      return false;
  }
}

void encode_row(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row) {
  // Straight to two codes a byte where each tile starts at a byte and no tile is poisoned.
  const bool whole_bytes = row.tile == 1 || row.tile % 2 == 0 || row.tile >= row.count;
  if (row.nibbles != nullptr && whole_bytes && !row.has_nan && encode_row_fast(spec, special, row, true, row.nibbles))
    return;
  if (!encode_row_fast(spec, special, row, false, static_cast<std::uint8_t*>(row.codes))) encode_row_scalar(spec, row);
  const std::size_t width = bit_count(spec.element) > 8 ? 2 : 1;
  for (std::int64_t first = 0, j = 0; row.has_nan && first < row.count; first += row.tile, ++j) {
    if (row.poisoned[j] == 0) continue;
    const std::int64_t end = first + row.tile <= row.count ? first + row.tile : row.count;
    std::uint8_t* bytes = static_cast<std::uint8_t*>(row.codes);
    for (std::size_t i = static_cast<std::size_t>(first) * width; i < static_cast<std::size_t>(end) * width; ++i)
      bytes[i] = 0;
  }
  if (row.nibbles != nullptr)
    pack_nibbles(static_cast<const std::uint8_t*>(row.codes), static_cast<std::size_t>(row.count), row.nibbles);
}

#if NG_ISA_LEVEL < 3
/// Four blocks of Philox4x32-10 (counter_rng.hpp) from block number `block` on, in order, 64 bytes.
NG_HD void four_random_blocks(const RandomStream& stream, std::uint64_t block, std::uint8_t* out) {
  for (std::uint64_t i = 0; i < 4; ++i) {
    const PhiloxBlock words = random_block(stream, block + i);
    __builtin_memcpy(out + 16 * i, words.word, 16);
  }
}
#endif

/// Draws of elements [first, first + count) of a stream, `bits` (8, 16 or 32) each. The bytes of a block in order are
/// its draws, lowest first: the draws of a row are a piece of one long sequence of bytes.
void fill_draws(const RandomStream& stream, std::uint64_t first, std::int64_t count, int bits, void* draws) {
  constexpr std::uint64_t kBytes = 64;
  const std::uint64_t width = static_cast<std::uint64_t>(bits) / 8;
  std::uint64_t at = first * width;
  const std::uint64_t end = at + static_cast<std::uint64_t>(count) * width;
  std::uint8_t* out = static_cast<std::uint8_t*>(draws);
  while (at < end) {
    const std::uint64_t skip = at % 16;
    if (skip == 0 && end - at >= kBytes) {
      four_random_blocks(stream, at / 16, out);
      at += kBytes;
      out += kBytes;
      continue;
    }
    std::uint8_t bytes[kBytes];
    four_random_blocks(stream, at / 16, bytes);
    const std::uint64_t have = kBytes - skip < end - at ? kBytes - skip : end - at;
    __builtin_memcpy(out, bytes + skip, have);
    at += have;
    out += have;
  }
}

void pack_codes(const std::uint8_t* codes, std::int64_t count, std::uint8_t* packed) {
  pack_nibbles(codes, static_cast<std::size_t>(count), packed);
}

}  // namespace

void add_quantize_kernels(CpuKernels& table) {
  table.amax_tiles = amax_tiles;
  table.tile_scales = tile_scales;
  table.encode_row = encode_row;
  table.fill_draws = fill_draws;
  table.pack_nibbles = pack_codes;
}

}  // namespace ng::cpu::NG_ISA
