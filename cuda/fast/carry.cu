// SPDX-License-Identifier: Apache-2.0
//
// carry.hpp: indices of 32 bits, one division for a thread's eight numbers and one for each tile that they meet.
#include "fast/carry.hpp"

#include "fast/quick_decode.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::fast {

namespace {

constexpr std::int32_t kPack = 8;

struct alignas(16) EightBf16 {
  std::uint16_t values[kPack];
};
struct alignas(8) EightBytes {
  std::uint8_t values[kPack];
};

/// Codes of eight columns from `col` on, of which the first `count` are read.
NG_HD void load_codes(const CarrierJob& job, std::int64_t row, std::int32_t col, std::int32_t count,
                      std::uint32_t (&codes)[kPack]) {
  const std::uint8_t* const line = job.codes + row * job.row_bytes;
  if (count == kPack && col % kPack == 0 && job.storage == CodeStorage::byte && job.row_bytes % kPack == 0) {
    const EightBytes bytes = *reinterpret_cast<const EightBytes*>(line + col);
    for (int e = 0; e < kPack; ++e) codes[e] = bytes.values[e];
  } else if (count == kPack && col % kPack == 0 && job.storage == CodeStorage::nibble && job.row_bytes % 4 == 0) {
    const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(line + col / 2);
    for (int e = 0; e < kPack; ++e) codes[e] = word >> (4 * e) & 0xfu;
  } else {
    for (int e = 0; e < kPack; ++e)
      codes[e] = e < count ? load_code(line, job.storage, static_cast<std::size_t>(col + e)) : 0u;
  }
}

/// What a thread copies: columns of the operand from `col` on, one after the other, in group g; `count` of eight.
struct Place {
  std::int32_t row, col, count, g;
};

/// The first stretch of columns of the copy from `at` on, up to eight, that lies in one group.
NG_HD Place place_of(const CarrierJob& job, std::int32_t to_row, std::int32_t at, std::int32_t most) {
  const OperandGroups& groups = job.groups;
  const std::int32_t g = groups.count == 1 ? 0 : group_at(groups.place, groups.count, job.grouped_rows ? to_row : at);
  const std::int32_t moved = groups.begin[g] - groups.place[g];
  Place place{to_row, at, 0, g};
  (job.grouped_rows ? place.row : place.col) += moved;
  const bool row_there = place.row < (job.grouped_rows ? groups.begin[g + 1] : static_cast<std::int32_t>(job.rows));
  const std::int32_t end = job.grouped_rows ? static_cast<std::int32_t>(job.depth) : groups.begin[g + 1];
  const std::int32_t left = end - place.col;
  if (row_there && left > 0) place.count = left < most ? left : most;
  return place;
}

/// Scales along a row of tiles.
struct ScaleWalk {
  const CarrierJob& job;
  std::int64_t line;   ///< number of the row's first tile
  std::int32_t begin;  ///< column where the tiles start
  std::int32_t end = -1;
  float scale = 1.0f;

  NG_HD ScaleWalk(const CarrierJob& of, const Place& place) : job(of) {
    const OperandGroups& groups = job.groups;
    const std::int32_t row = job.grouped_rows ? place.row - groups.begin[place.g] : place.row;
    const std::int32_t height = job.spec.tile_rows;
    const std::int32_t tile = height == 0 ? 0 : height == 1 ? row : row / height;
    line = (tile + (job.grouped_rows ? groups.first_tile[place.g] : 0)) * job.scale_cols +
           (job.grouped_rows ? 0 : groups.first_tile[place.g]);
    begin = job.grouped_rows ? 0 : groups.begin[place.g];
  }

  NG_HD float at(std::int32_t col) {
    if (col < end) return scale;
    const std::int32_t width = job.spec.tile_cols;
    const std::int32_t tile = width == 0 ? 0 : (col - begin) / width;
    end = width == 0 ? 0x7fffffff : begin + (tile + 1) * width;
    scale = job.spec.scale_format == ScaleFormat::f32
                ? static_cast<const float*>(job.scales)[line + tile]
                : stored_scale_value(job.spec.scale_format, static_cast<const std::uint8_t*>(job.scales)[line + tile]);
    return scale;
  }
};

struct CarryBf16 {
  CarrierJob job;
  DecodeConstants decoding;

  NG_HD bool is_quick(std::uint32_t code) const {
    return (code & ~decoding.sign_mask) <= decoding.largest &&
           !(decoding.one_not_a_number && code == decoding.sign_mask);
  }

  NG_HD void operator()(std::int64_t i) const {
    const std::uint32_t packs = static_cast<std::uint32_t>(job.to_stride) / kPack;
    const std::int32_t to_row = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) / packs);
    const std::int32_t first = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) % packs) * kPack;
    const bool scaled = job.with_scales && job.spec.scale_format != ScaleFormat::none;
    EightBf16 eight{};
    std::uint32_t losses = 0;
    const Place place = place_of(job, to_row, first, kPack);
    if (place.count > 0) {
      std::uint32_t codes[kPack];
      load_codes(job, place.row, place.col, place.count, codes);
      ScaleWalk scales(job, place);
      for (int e = 0; e < kPack; ++e) {
        if (e >= place.count) break;
        float number = is_quick(codes[e]) ? quick_value(decoding, codes[e]) : decode(job.spec.element, codes[e]);
        if (scaled) number = decoded_product(number, scales.at(place.col + e));
        const std::uint32_t bits = output_bits(ProductOutput::bf16, number);
        if (float_of(bits << 16) != number && !is_nan_bits(bits_of(number))) ++losses;
        eight.values[e] = static_cast<std::uint16_t>(bits);
      }
    }
    if (losses != 0 && job.losses != nullptr) atomic_add(job.losses, losses);
    static_cast<EightBf16*>(job.to)[i] = eight;
  }
};

struct CarryFp8 {
  CarrierJob job;
  std::uint64_t e4m3_of_e2m1 = 0;  ///< of the eight magnitudes
  bool narrow = false;             ///< codes are E2M1's

  NG_HD void operator()(std::int64_t i) const {
    const std::uint32_t packs = static_cast<std::uint32_t>(job.to_stride) / kPack;
    const std::int32_t to_row = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) / packs);
    const std::int32_t first = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) % packs) * kPack;
    EightBytes eight{};
    const Place place = place_of(job, to_row, first, kPack);
    if (place.count > 0) {
      std::uint32_t codes[kPack];
      load_codes(job, place.row, place.col, place.count, codes);
      for (int e = 0; e < kPack; ++e) {
        if (e >= place.count) break;
        std::uint32_t code = codes[e];
        if (narrow) code = static_cast<std::uint32_t>(e4m3_of_e2m1 >> (8 * (code & 7u)) & 0xffu) | (code & 8u) << 4;
        eight.values[e] = static_cast<std::uint8_t>(code);
      }
    }
    static_cast<EightBytes*>(job.to)[i] = eight;
  }
};

}  // namespace

bool serves_carry(const CarrierJob& job) {
  if (job.codes == nullptr || job.to_stride % kPack != 0) return false;
  // A group of the depth has to start where a pack does.
  for (std::int32_t g = 0; g < job.groups.count && !job.grouped_rows; ++g)
    if (job.groups.place[g] % kPack != 0) return false;
  if (job.to_rows * (job.to_stride / kPack) > 0x7fffffff || job.row_bytes > 0x3fffffff) return false;
  if (job.type == CarrierType::fp8) return true;
  return job.type == CarrierType::bf16 && decode_constants(job.spec.element).quick;
}

void carry(const CarrierJob& job, Stream stream) {
  const std::int64_t packs = job.to_rows * (job.to_stride / kPack);
  if (job.type == CarrierType::bf16) {
    for_each("carry", packs, stream, CarryBf16{job, decode_constants(job.spec.element)});
    return;
  }
  CarryFp8 work{job};
  work.narrow = job.spec.element_id == FormatId::e2m1;
  for (std::uint32_t code = 0; code < 8; ++code)
    work.e4m3_of_e2m1 |= static_cast<std::uint64_t>(
                             encode(format_of(FormatId::e4m3), CastChoices{}, decode(format_of(FormatId::e2m1), code)))
                         << (8 * code);
  for_each("carry", packs, stream, work);
}

}  // namespace ng::cuda::fast
