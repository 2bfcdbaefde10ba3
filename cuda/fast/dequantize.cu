// SPDX-License-Identifier: Apache-2.0
//
// A thread decodes 16 bytes of the result at a time where rows are aligned to that, otherwise one element. Codes that
// are no finite numbers, and scales that make none, take the plain kernel's function.
#include "fast/dequantize.hpp"

#include "fast/patch_job.hpp"
#include "fast/quick_decode.hpp"
#include "runtime/for_each_block.hpp"

namespace ng::cuda::fast {

namespace {

constexpr int kRowsPerThread = 8;

struct DecodeJob {
  DequantizeJob job;
  DecodeConstants constants;
  bool whole_units = false;  ///< the elements of a unit are of one tile
  int units = 0;             ///< of a row of a piece, a power of two, one for each of as many threads
  int units_log2 = 0;
  std::int64_t pieces_across = 0;
};

/// Factors of the elements of a tile: the stored scale, and the tensor's or 1.
struct DecodeFactors {
  float scale, tensor;
};

/// Place of the scale of (row, col) of the form, and its group.
struct ScalePlace {
  std::int64_t at;
  std::int64_t group;
};

/// Number of the tile along an axis, `tile` elements a tile; 0 and 1 need no division.
NG_HD std::int64_t tile_along(std::int64_t element, std::int32_t tile) {
  if (tile == 0) return 0;
  if (tile == 1) return element;
  return static_cast<std::uint32_t>(element) / static_cast<std::uint32_t>(tile);
}

/// What a place has of its row alone, and of its column alone: a number of a tile, and the group on the grouped axis.
NG_HD ScalePlace along_groups(const DequantizeJob& job, std::int64_t element, std::int32_t tile) {
  const std::int64_t g = plain::group_of_row(job.groups, job.group_count, element);
  return {job.groups[g].first_tile + tile_along(element - job.groups[g].begin, tile), g};
}
NG_HD ScalePlace of_row(const DequantizeJob& job, std::int64_t row) {
  if (job.orientation == Orientation::row) return along_groups(job, row, job.spec.tile_rows);
  return {tile_along(row, job.spec.tile_rows), 0};
}
NG_HD ScalePlace of_col(const DequantizeJob& job, std::int64_t col) {
  if (job.orientation == Orientation::column) return along_groups(job, col, job.spec.tile_cols);
  return {tile_along(col, job.spec.tile_cols), 0};
}

NG_HD DecodeFactors factors_at(const DequantizeJob& job, const ScalePlace& place) {
  if (job.spec.scale_format == ScaleFormat::none) return {1.0f, 1.0f};
  const float scale =
      job.spec.scale_format == ScaleFormat::f32
          ? static_cast<const float*>(job.scales)[place.at]
          : stored_scale_value(job.spec.scale_format, static_cast<const std::uint8_t*>(job.scales)[place.at]);
  if (job.spec.decode == DecodeOrder::te) return {te_decode_factor(scale, job.tensor_amaxes[place.group]), 1.0f};
  const bool two = job.tensor_scales != nullptr && needs_tensor_amax(job.spec.rule);
  return {scale, two ? job.tensor_scales[place.group] : 1.0f};
}

/// The codes of kCount elements, whose first is at a byte that they all are aligned to.
template <int kBits, int kCount>
NG_HD void load_codes(const std::uint8_t* from, std::uint32_t* words) {
  if (kBits * kCount == 16) words[0] = *reinterpret_cast<const std::uint16_t*>(from);
  for (int i = 0; i < kBits * kCount / 32; ++i) words[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
}

NG_HD_CALLED float careful_value(const DequantizeJob& job, std::int64_t row, std::int64_t col) {
  return plain::decoded_element(job, row, col);
}

NG_HD std::uint32_t stored_bits(float value, const float*) {
  return bits_of(value);
}
NG_HD std::uint32_t stored_bits(float value, const std::uint16_t*) {
  return bits_of(round_to_bf16(value)) >> 16;
}

/// kUnit: 16 bytes of the target, or 1. A thread stays in its columns.
template <class Target, int kUnit>
struct DecodeWork {
  static constexpr int kBlocksAtOnce = 4;
  DecodeJob work;

  NG_HD void operator()(std::int64_t piece, std::byte* /*memory*/, const BlockThreads& threads) const {
    threads([&](int thread) { decode(piece, thread); });
  }

  NG_HD void decode(std::int64_t piece, int thread) const {
    const DequantizeJob& job = work.job;
    const std::uint32_t down = static_cast<std::uint32_t>(piece) / static_cast<std::uint32_t>(work.pieces_across);
    const std::uint32_t across =
        static_cast<std::uint32_t>(piece) - down * static_cast<std::uint32_t>(work.pieces_across);
    const std::int64_t col = (static_cast<std::int64_t>(across) * work.units + (thread & (work.units - 1))) * kUnit;
    if (col >= job.cols) return;
    const int count = job.cols - col < kUnit ? static_cast<int>(job.cols - col) : kUnit;
    const bool scaled = job.spec.scale_format != ScaleFormat::none;
    const DecodeConstants c = work.constants;
    ScalePlace from_col{0, 0};
    bool quick = c.quick && count == kUnit;
    if (scaled) {
      from_col = of_col(job, col);
      if (!work.whole_units && quick) quick = of_col(job, col + kUnit - 1).at == from_col.at;
    }
    const int step = kBlockThreads >> work.units_log2;
    std::int64_t row = static_cast<std::int64_t>(down) * step * kRowsPerThread + (thread >> work.units_log2);
    for (int i = 0; i < kRowsPerThread && row < job.rows; ++i, row += step) {
      Target* const to = static_cast<Target*>(job.out) + row * job.out_stride + col;
      bool done = quick;
      if (quick && job.storage == CodeStorage::nibble) done = unit<4>(c, row, col, scaled, from_col, to);
      if (quick && job.storage == CodeStorage::byte) done = unit<8>(c, row, col, scaled, from_col, to);
      if (quick && job.storage == CodeStorage::half) done = unit<16>(c, row, col, scaled, from_col, to);
      if (!done)
        for (int k = 0; k < count; ++k) to[k] = stored(careful_value(job, row, col + k));
    }
  }

 private:
  /// False where a number is none.
  template <int kBits>
  NG_HD bool unit(const DecodeConstants& c, std::int64_t row, std::int64_t col, bool scaled, const ScalePlace& from_col,
                  Target* to) const {
    const DequantizeJob& job = work.job;
    const std::uint8_t* const line = job.codes + row * job.row_bytes;
    std::uint32_t words[kUnit == 1 ? 1 : kUnit / 2];
    if (kUnit == 1)
      words[0] = load_code(line, job.storage, static_cast<std::size_t>(col));
    else
      load_codes<kBits, kUnit>(line + col * kBits / 8, words);
    DecodeFactors factors{1.0f, 1.0f};
    if (scaled) {
      const ScalePlace from_row = of_row(job, row);
      factors = factors_at(job, {from_row.at * job.scale_cols + from_col.at, from_row.group + from_col.group});
    }
    float value[kUnit];
    std::uint32_t most = 0;
    std::uint32_t most_code = 0;
    bool numbers = true;
    for (int k = 0; k < kUnit; ++k) {
      const std::uint32_t code =
          kUnit == 1 ? words[0] : words[k * kBits / 32] >> (k * kBits % 32) & ((1u << kBits) - 1u);
      value[k] = mul_rn(mul_rn(quick_value(c, code), factors.scale), factors.tensor);
      if (c.one_not_a_number) numbers = numbers && code != c.sign_mask;
      const std::uint32_t code_magnitude = code & ~c.sign_mask;
      most_code = code_magnitude > most_code ? code_magnitude : most_code;
      const std::uint32_t magnitude = magnitude_bits(value[k]);
      most = magnitude > most ? magnitude : most;
    }
    if (!numbers || most_code > c.largest || most > kInfinityBits) return false;
    if constexpr (kUnit == 1) {
      to[0] = stored(value[0]);
    } else {
      Chunk chunk;
      constexpr int kPerWord = 4 / static_cast<int>(sizeof(Target));
      for (int w = 0; w < 4; ++w)
        chunk.word[w] = kPerWord == 1 ? stored_bits(value[w % kUnit], to)
                                      : stored_bits(value[w * kPerWord % kUnit], to) |
                                            stored_bits(value[(w * kPerWord + 1) % kUnit], to) << 16;
      *reinterpret_cast<Chunk*>(to) = chunk;
    }
    return true;
  }

  NG_HD static Target stored(float value) {
    if constexpr (sizeof(Target) == 4)
      return value;
    else
      return static_cast<Target>(stored_bits(value, static_cast<const Target*>(nullptr)));
  }
};

template <class Target>
void run(const DequantizeJob& job, Stream stream) {
  constexpr int kUnit = 16 / static_cast<int>(sizeof(Target));
  const int bits = job.storage == CodeStorage::nibble ? 4 : job.storage == CodeStorage::byte ? 8 : 16;
  const auto aligned = [](const void* p, std::int64_t step, std::int64_t to) {
    return reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(to) == 0 && step % to == 0;
  };
  const std::int64_t loads = kUnit * bits / 8 < 4 ? kUnit * bits / 8 : 4;
  const bool whole = aligned(job.out, job.out_stride * static_cast<std::int64_t>(sizeof(Target)), 16) &&
                     aligned(job.codes, job.row_bytes, loads);
  const int unit = whole ? kUnit : 1;
  DecodeJob work{job, decode_constants(job.spec.element)};
  const bool grouped_cols = job.orientation == Orientation::column && job.group_count > 1;
  work.whole_units = unit == 1 || (job.spec.tile_cols % unit == 0 && !grouped_cols);
  while (work.units_log2 < 7 && (std::int64_t{unit} << work.units_log2) < job.cols) ++work.units_log2;
  work.units = 1 << work.units_log2;
  work.pieces_across = (job.cols + work.units * unit - 1) / (work.units * unit);
  const std::int64_t rows = (kBlockThreads >> work.units_log2) * kRowsPerThread;
  const std::int64_t pieces = (job.rows + rows - 1) / rows * work.pieces_across;
  if (whole)
    for_each_block("dequantize", pieces, 16, stream, DecodeWork<Target, kUnit>{work});
  else
    for_each_block("dequantize", pieces, 16, stream, DecodeWork<Target, 1>{work});
}

}  // namespace

bool serves_dequantize(const DequantizeJob& job) {
  return job.rows < 1 << 30 && job.cols < 1 << 30 && (job.rows / kRowsPerThread + 1) * (job.cols / 128 + 1) < 1LL << 31;
}

void dequantize(const DequantizeJob& job, Dtype target, Stream stream) {
  if (target == Dtype::f32)
    run<float>(job, stream);
  else
    run<std::uint16_t>(job, stream);
}

}  // namespace ng::cuda::fast
