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

constexpr int kPieceCols = 1024;

struct DecodeJob {
  DequantizeJob job;
  DecodeConstants constants;
  int piece_rows = 0;
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

/// `across`: tile number of the column where it is not grouped.
NG_HD ScalePlace scale_place(const DequantizeJob& job, std::int64_t row, std::int64_t col, std::int64_t across) {
  const bool row_form = job.orientation == Orientation::row;
  const std::int64_t grouped = row_form ? row : col;
  const std::int64_t g = plain::group_of_row(job.groups, job.group_count, grouped);
  const GroupExtent group = job.groups[g];
  const std::uint32_t tile = static_cast<std::uint32_t>(row_form ? job.spec.tile_rows : job.spec.tile_cols);
  const std::uint32_t in_group = static_cast<std::uint32_t>(grouped - group.begin);
  const std::int64_t number = group.first_tile + (tile == 0 ? 0 : tile == 1 ? in_group : in_group / tile);
  if (row_form) return {number * job.scale_cols + across, g};
  const std::uint32_t height = static_cast<std::uint32_t>(job.spec.tile_rows);
  const std::int64_t down = height == 0 ? 0 : height == 1 ? row : static_cast<std::uint32_t>(row) / height;
  return {down * job.scale_cols + number, g};
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

NG_HD std::uint32_t code_at(const DequantizeJob& job, const std::uint32_t* words, int i) {
  if (job.storage == CodeStorage::nibble) return words[i / 8] >> (i % 8 * 4) & 0xfu;
  if (job.storage == CodeStorage::byte) return words[i / 4] >> (i % 4 * 8) & 0xffu;
  return words[i / 2] >> (i % 2 * 16) & 0xffffu;
}

/// The codes of kCount elements, whose first is at a byte that they all are aligned to.
template <int kCount>
NG_HD void load_codes(const DequantizeJob& job, const std::uint8_t* from, std::uint32_t* words) {
  const auto many = [&](int count) {
    for (int i = 0; i < count; ++i) words[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
  };
  if (job.storage == CodeStorage::nibble && kCount == 4)
    words[0] = *reinterpret_cast<const std::uint16_t*>(from);
  else if (job.storage == CodeStorage::nibble)
    many(kCount / 8);
  else if (job.storage == CodeStorage::byte)
    many(kCount / 4);
  else
    many(kCount / 2);
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

/// kUnit: 16 bytes of the target, or 1.
template <class Target, int kUnit>
struct DecodeWork {
  static constexpr int kBlocksAtOnce = 6;
  DecodeJob work;

  NG_HD void operator()(std::int64_t piece, std::byte* /*memory*/, const BlockThreads& threads) const {
    threads([&](int thread) { decode(piece, thread); });
  }

  NG_HD void decode(std::int64_t piece, int thread) const {
    const DequantizeJob& job = work.job;
    const std::uint32_t down = static_cast<std::uint32_t>(piece) / static_cast<std::uint32_t>(work.pieces_across);
    const std::int64_t row0 = static_cast<std::int64_t>(down) * work.piece_rows;
    const std::int64_t col0 = (piece - static_cast<std::int64_t>(down) * work.pieces_across) * kPieceCols;
    const int rows = static_cast<int>(job.rows - row0 < work.piece_rows ? job.rows - row0 : work.piece_rows);
    const int cols = static_cast<int>(job.cols - col0 < kPieceCols ? job.cols - col0 : kPieceCols);
    const std::uint32_t width = static_cast<std::uint32_t>(job.spec.tile_cols == 0 ? 1 : job.spec.tile_cols);
    const std::uint32_t first_tile = static_cast<std::uint32_t>(col0) / width;
    const int in_tile = static_cast<int>(static_cast<std::uint32_t>(col0) - first_tile * width);
    const Divisor by_width(static_cast<int>(width));
    const Divisor by_row((cols + kUnit - 1) / kUnit);
    for (int i = thread; i < rows * static_cast<int>(by_row.divisor); i += kBlockThreads) {
      const int r = by_row.quotient(i);
      const int c = by_row.remainder(i, r) * kUnit;
      const int count = cols - c < kUnit ? cols - c : kUnit;
      unit(row0 + r, col0 + c, count, [&](int k) {
        return job.spec.tile_cols == 0 ? 0 : static_cast<std::int64_t>(first_tile) + by_width.quotient(in_tile + c + k);
      });
    }
  }

 private:
  template <class TileOf>
  NG_HD void unit(std::int64_t row, std::int64_t col, int count, const TileOf& tile_of) const {
    const DequantizeJob& job = work.job;
    const DecodeConstants& c = work.constants;
    const bool scaled = job.spec.scale_format != ScaleFormat::none;
    Target* const to = static_cast<Target*>(job.out) + row * job.out_stride + col;
    const std::uint8_t* const line = job.codes + row * job.row_bytes;
    std::uint32_t words[kUnit == 1 ? 1 : kUnit / 2];
    ScalePlace first{0, 0};
    if (scaled) first = scale_place(job, row, col, tile_of(0));
    bool quick = c.quick && count == kUnit;
    if (quick && scaled && kUnit > 1) quick = scale_place(job, row, col + kUnit - 1, tile_of(kUnit - 1)).at == first.at;
    float value[kUnit];
    if (quick) {
      const DecodeFactors factors = factors_at(job, first);
      if (kUnit == 1)
        words[0] = load_code(line, job.storage, static_cast<std::size_t>(col));
      else if (job.storage == CodeStorage::nibble)
        load_codes<kUnit>(job, line + col / 2, words);
      else
        load_codes<kUnit>(job, line + (job.storage == CodeStorage::byte ? col : 2 * col), words);
      for (int k = 0; k < kUnit; ++k) {
        const std::uint32_t code = kUnit == 1 ? words[0] : code_at(job, words, k);
        value[k] = mul_rn(mul_rn(quick_value(c, code), factors.scale), factors.tensor);
        quick = quick && is_quick_code(c, code) && !is_nan_bits(bits_of(value[k]));
      }
    }
    if (!quick) {
      for (int k = 0; k < count; ++k) to[k] = stored(careful_value(job, row, col + k));
      return;
    }
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
  DecodeJob work{job, decode_constants(job.spec.element), 0, (job.cols + kPieceCols - 1) / kPieceCols};
  const std::int64_t unit = whole ? kUnit : 1;
  const std::int64_t cols = job.cols < kPieceCols ? job.cols : kPieceCols;
  const std::int64_t rows = 4 * kBlockThreads * unit / (cols < 1 ? 1 : cols);
  work.piece_rows = static_cast<int>(rows < 1 ? 1 : rows > 1024 ? 1024 : rows);
  const std::int64_t pieces = (job.rows + work.piece_rows - 1) / work.piece_rows * work.pieces_across;
  if (whole)
    for_each_block("dequantize", pieces, 16, stream, DecodeWork<Target, kUnit>{work});
  else
    for_each_block("dequantize", pieces, 16, stream, DecodeWork<Target, 1>{work});
}

}  // namespace

bool serves_dequantize(const DequantizeJob& job) {
  return job.rows < 1 << 30 && job.cols < 1 << 30 && job.spec.tile_cols <= 32768 &&
         (job.rows + 1) * (job.cols / kPieceCols + 1) < 1LL << 31;
}

void dequantize(const DequantizeJob& job, Dtype target, Stream stream) {
  if (target == Dtype::f32)
    run<float>(job, stream);
  else
    run<std::uint16_t>(job, stream);
}

}  // namespace ng::cuda::fast
