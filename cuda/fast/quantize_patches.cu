// SPDX-License-Identifier: Apache-2.0
//
// The cut into patches, and the launch.
#include "fast/quantize_patches.hpp"

#include <algorithm>
#include <numeric>

#include "fast/patch_codes.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda::fast {

namespace {

constexpr int kTallest = 128;            ///< tile, in rows
constexpr int kLargest = 16384;          ///< tile, and patch, in elements
constexpr int kMemory = 96 * 1024;       ///< of a block: two on a multiprocessor
constexpr int kMostMemory = 224 * 1024;  ///< where a tile with its random draws needs it

int round_up(int n, int unit) {
  return (n + unit - 1) / unit * unit;
}

int bits_of_code(CodeStorage storage) {
  return storage == CodeStorage::nibble ? 4 : storage == CodeStorage::byte ? 8 : 16;
}

bool takes(const QuantizeJob& job) {
  const QuantizerSpec& spec = job.spec;
  if (job.rows <= 0 || job.cols <= 0 || job.rows >= 1 << 30 || job.cols >= 1 << 30) return false;
  if (bit_count(spec.element) > 16 || reinterpret_cast<std::uintptr_t>(job.codes) % 16 != 0) return false;
  return job.tile_height <= kTallest && job.tile_width <= kLargest;
}

/// Tiles of a form in elements of the tensor; 0: as long as it, or as the group. Without scales tiles do not matter.
int height_of(const QuantizeJob& job) {
  return job.spec.scale_format == ScaleFormat::none ? 0 : static_cast<int>(job.tile_height);
}
int width_of(const QuantizeJob& job) {
  return job.spec.scale_format == ScaleFormat::none ? 0 : static_cast<int>(job.tile_width);
}
/// A BF16 source whose transform is kept in FP32.
bool has_f32_cells(const PatchJob& job) {
  for (int f = 0; f < job.form_count; ++f) {
    const HadamardSpec& h = job.forms[f].job.spec.hadamard;
    if (h.size != 0 && h.result == HadamardResult::f32) return true;
  }
  return false;
}
bool needs_scales(const QuantizeJob& job) {
  return job.spec.scale_format != ScaleFormat::none;
}

/// Columns of a patch are multiples of this for every form; 0: there is no such number.
int column_unit(const PatchJob& job) {
  int unit = 16;  // elements are 32 bytes or more, codes whole words
  for (int f = 0; f < job.form_count; ++f) {
    const int width = width_of(job.forms[f].job);
    if (width != 0) unit = std::lcm(unit, width);
    if (job.forms[f].job.orientation == Orientation::row)
      unit = std::lcm(unit, std::max<int>(1, job.forms[f].job.spec.hadamard.size));
    if (unit > kLargest) return 0;
  }
  return unit;
}

/// Rows of a patch are multiples of this; 0: there is no such number. `tallest`: the tile that patches follow, or 0.
int row_unit_of(const PatchJob& job, int tallest, bool nibbles_down, std::span<const GroupExtent> extents) {
  int unit = tallest == 0 ? 16 : tallest;
  if (nibbles_down && unit % 2 != 0 && unit < kTallest / 2) unit *= 2;  // else patches share words
  for (int f = 0; f < job.form_count; ++f) {
    const QuantizeJob& form = job.forms[f].job;
    const int size = form.spec.hadamard.size;
    if (size == 0 || form.orientation == Orientation::row) continue;
    if (tallest != 0 && tallest % size != 0 && size % tallest != 0) return 0;
    unit = std::lcm(unit, size);
    if (tallest == 0)  // groups hold whole groups of the transform, but where do they begin?
      for (const GroupExtent& group : extents)
        if (group.begin % size != 0) return 0;
  }
  return unit;
}

/// Consecutive rows of patches: `job.rows` high, but for the last tile of each group where patches follow tiles.
std::vector<PatchBand> bands_of(const PatchJob& job, int tallest, std::span<const GroupExtent> extents) {
  std::vector<PatchBand> bands;
  const std::int64_t rows = job.forms[0].job.rows;
  const auto group_at = [&](std::int64_t row) {
    return std::upper_bound(extents.begin(), extents.end(), row,
                            [](std::int64_t r, const GroupExtent& group) { return r < group.end; });
  };
  // Groups are cut into tiles of this form; extents hold only one form's numbers.
  std::int64_t first_tile[2] = {0, 0};
  for (std::int64_t row0 = 0; row0 < rows;) {
    PatchBand band;
    band.row0 = row0;
    std::int64_t end = row0;
    if (tallest == 0) {
      end = std::min(row0 + job.rows, rows);
    } else {
      for (std::int64_t left = job.rows / tallest; left > 0 && end < rows;) {
        const std::int64_t group_end = group_at(end)->end;
        const std::int64_t tiles = std::min(left, (group_end - end + tallest - 1) / tallest);
        end = std::min(end + tiles * tallest, group_end);
        left -= tiles;
      }
    }
    band.rows = static_cast<std::int32_t>(end - row0);
    for (int f = 0; f < job.form_count; ++f) {
      const int height = height_of(job.forms[f].job);
      band.first_tile[f] = first_tile[f];
      if (!needs_scales(job.forms[f].job)) {
        band.row_tiles[f] = 1;
        continue;
      }
      std::int64_t touched = 0;
      std::int64_t begun_before_end = 0;
      for (std::int64_t row = row0; row < end;) {
        const GroupExtent& group = *group_at(row);
        const std::int64_t stop = std::min(end, group.end);
        const std::int64_t from = height == 0 ? 0 : (row - group.begin) / height;
        const std::int64_t last = height == 0 ? 0 : (stop - 1 - group.begin) / height;
        touched += last - from + 1;
        // Where the next band begins in the same tile, it counts again.
        const bool tile_ends = stop == group.end || (height != 0 && (stop - group.begin) % height == 0);
        begun_before_end += last - from + (tile_ends ? 1 : 0);
        row = stop;
      }
      band.row_tiles[f] = static_cast<std::int32_t>(touched);
      first_tile[f] += begun_before_end;
    }
    bands.push_back(band);
    row0 = end;
  }
  return bands;
}

void lay_out_memory(PatchJob& job, int cell_bytes, std::span<const GroupExtent> extents) {
  const int row_bytes = round_up(job.cols * cell_bytes, 4);
  job.row_words = row_bytes / 4 | 1;  // odd: columns and rows both meet every bank
  int random_bits = 0;
  int most_row_tiles = 1;
  int most_tiles = 1;
  for (int f = 0; f < job.form_count; ++f) {
    PatchForm& form = job.forms[f];
    if (form.job.spec.cast.rounding == Rounding::stochastic)
      random_bits = std::max<int>(random_bits, form.job.spec.cast.random_bits);
    const int height = height_of(form.job);
    const int width = width_of(form.job);
    const int groups = static_cast<int>(std::min<std::int64_t>(job.rows, std::ssize(extents)));
    int row_tiles = 1;
    if (needs_scales(form.job)) row_tiles = height == 0 ? groups : std::min(job.rows, job.rows / height + 1 + groups);
    const int col_tiles = width == 0 ? 1 : (job.cols + width - 1) / width;
    most_row_tiles = std::max(most_row_tiles, row_tiles);
    most_tiles = std::max(most_tiles, row_tiles * col_tiles);
  }
  job.random_bytes = random_bits == 0 ? 0 : 4 * (round_up(job.cols * random_bits / 8, 4) / 4 | 1);
  int at = round_up(job.rows * job.row_words * 4, 16);
  const auto take = [&](int bytes) {
    const int begin = at;
    at += round_up(bytes, 16);
    return begin;
  };
  job.randoms_at = take(job.rows * job.random_bytes);
  job.row_tiles_at = take(job.rows * 2);
  job.tile_begins_at = take((most_row_tiles + 1) * 2);
  job.amax_at = take(most_tiles * 4);
  job.scales_at = take(most_tiles * static_cast<int>(sizeof(LocalScale)));
  job.shared_bytes = at;
}

}  // namespace

std::optional<PatchCut> cut_into_patches(const QuantizeJob* row, const QuantizeJob* column, Dtype source,
                                         std::span<const GroupExtent> extents) {
  PatchCut cut;
  PatchJob& job = cut.job;
  job.form_count = 0;
  // A transform is made in place: what is not transformed comes first.
  const bool column_first = row != nullptr && column != nullptr && row->spec.hadamard.size != 0;
  for (const QuantizeJob* form : {column_first ? column : row, column_first ? row : column})
    if (form != nullptr) job.forms[job.form_count++].job = *form;
  const QuantizeJob& any = job.forms[0].job;
  for (int f = 0; f < job.form_count; ++f) {
    const QuantizeJob& form = job.forms[f].job;
    if (!takes(form)) return std::nullopt;
    if (form.source != any.source || form.rows != any.rows || form.cols != any.cols || form.stride != any.stride)
      return std::nullopt;
    if (f == 0 && job.form_count == 2 && form.spec.hadamard.size != 0) return std::nullopt;
  }
  const int cell_bytes = source == Dtype::f32 || has_f32_cells(job) ? 4 : 2;

  // 1. Columns: some tiles, or the whole of a short row where that makes a token's scale in one read.
  const int unit = column_unit(job);
  if (unit == 0) return std::nullopt;
  const bool nibbles_down = any.storage == CodeStorage::nibble && (column != nullptr);
  const bool whole_rows = job.form_count == 1 && row != nullptr && needs_scales(any) && any.tile_width == 0 &&
                          any.tile_height != 0 && any.cols * any.tile_height <= kLargest;
  if (whole_rows)
    job.cols = static_cast<int>(any.cols);
  else
    job.cols = std::min(std::max(1, 128 / unit) * unit, round_up(static_cast<int>(any.cols), unit));
  // 2. Whose tiles the patches follow: the tallest.
  int tallest = 0;
  for (int f = 0; f < job.form_count; ++f) {
    PatchForm& form = job.forms[f];
    const int height = height_of(form.job);
    form.scales_known = needs_scales(form.job) && (height == 0 || (width_of(form.job) == 0 && !whole_rows));
    if (form.scales_known && form.job.spec.rule == ScaleRule::four_over_six) return std::nullopt;
    if (!needs_scales(form.job) || form.scales_known || height <= tallest) continue;
    tallest = height;
  }
  for (int f = 0; f < job.form_count; ++f) {
    const int height = height_of(job.forms[f].job);
    if (needs_scales(job.forms[f].job) && !job.forms[f].scales_known && height != 1 && height != tallest)
      return std::nullopt;
  }
  // 3. Rows: as many as make a patch of ordinary size.
  const int cells = cell_bytes == 2 ? kLargest : kLargest / 2;
  int rows = std::clamp(cells / job.cols, 1, 1024);
  const int row_unit = row_unit_of(job, tallest, nibbles_down, extents);
  if (row_unit == 0) return std::nullopt;
  for (;; rows /= 2) {
    job.rows = std::max(row_unit, rows / row_unit * row_unit);
    lay_out_memory(job, cell_bytes, extents);
    if (job.shared_bytes <= kMemory) break;
    if (job.rows > row_unit) continue;
    if (job.shared_bytes <= kMostMemory) break;
    return std::nullopt;
  }
  cut.bands = bands_of(job, tallest, extents);
  job.patches_down = std::ssize(cut.bands);
  job.patches_across = (any.cols + job.cols - 1) / job.cols;
  if (job.patches_down * job.patches_across >= 1LL << 31) return std::nullopt;
  job.down_first = column != nullptr;
  const std::int64_t width = static_cast<std::int64_t>(size_of(source));
  job.whole_chunks = reinterpret_cast<std::uintptr_t>(any.source) % 16 == 0 && any.stride * width % 16 == 0 &&
                     (job.patches_across == 1 || job.cols * width % 16 == 0);
  job.chunks = Divisor(std::max(1, job.cols * static_cast<int>(width) / 16));
  for (int f = 0; f < job.form_count; ++f) {
    PatchForm& form = job.forms[f];
    form.constants = encode_constants(form.job.spec);
    const int tile_height = height_of(form.job);
    const int tile_width = width_of(form.job);
    form.amax_down = tile_height == 0 || tile_height >= 16 || (tile_width != 0 && tile_height > tile_width);
    const int along =
        form.amax_down ? (tile_height == 0 ? job.rows : tile_height) : (tile_width == 0 ? job.cols : tile_width);
    form.amax_run = form.amax_down && along >= 64 ? 32 : 16;
    form.tiles_across = tile_width == 0 ? 0 : job.cols / tile_width;
    form.width = Divisor(tile_width == 0 ? job.cols : tile_width);
    const int per_word = 4 / cell_bytes;
    form.runs = Divisor((along + form.amax_run - 1) / form.amax_run);
    form.runs_across = Divisor(form.amax_down ? (job.cols + per_word - 1) / per_word
                                              : std::max(1, form.tiles_across) * static_cast<int>(form.runs.divisor));
    const bool row_form = form.job.orientation == Orientation::row;
    const int tile_along = row_form ? tile_width : tile_height;
    bool one = tile_along % 8 == 0 && form.job.row_bytes % bits_of_code(form.job.storage) == 0;
    for (const PatchBand& band : cut.bands) {
      if (row_form) continue;
      form.shared_words = form.shared_words || (form.job.storage == CodeStorage::nibble && band.row0 % 2 != 0);
      one = one && band.row0 % 8 == 0;
    }
    for (const GroupExtent& group : extents) one = one && (row_form || group.begin % 8 == 0);
    form.unit_tiles = one                                  ? UnitTiles::one_whole
                      : tile_along == 0 || tile_along >= 8 ? UnitTiles::two
                                                           : UnitTiles::many;
    form.constants.packed = packed_format(form.job.spec, form.constants);
  }
  return cut;
}

namespace {

template <class Source, class Cell, class Codes>
void run(const PatchJob& job, Stream stream) {
  for_each_block("quantize_patches", job.patches_down * job.patches_across, job.shared_bytes, stream,
                 PatchWork<Source, Cell, Codes>{job});
}

/// Whether one kernel of quick codes serves all forms.
bool all_are(const PatchJob& job, CodeStorage storage, EncodeWay way) {
  for (int f = 0; f < job.form_count; ++f)
    if (job.forms[f].job.storage != storage || job.forms[f].constants.way != way) return false;
  return true;
}

}  // namespace

void quantize_patches(const PatchJob& job, Dtype source, Stream stream) {
  const bool nearest_4 = all_are(job, CodeStorage::nibble, EncodeWay::nearest);
  const bool nearest_8 = all_are(job, CodeStorage::byte, EncodeWay::nearest);
  const bool stochastic_4 = all_are(job, CodeStorage::nibble, EncodeWay::stochastic);
  if (source == Dtype::f32) {
    if (nearest_4) return run<float, float, QuickCodes<4, EncodeWay::nearest>>(job, stream);
    if (nearest_8) return run<float, float, QuickCodes<8, EncodeWay::nearest>>(job, stream);
    if (stochastic_4) return run<float, float, QuickCodes<4, EncodeWay::stochastic>>(job, stream);
    return run<float, float, AllCodes>(job, stream);
  }
  using Bf16 = std::uint16_t;
  if (has_f32_cells(job)) return run<Bf16, float, AllCodes>(job, stream);
  if (nearest_4) return run<Bf16, Bf16, QuickCodes<4, EncodeWay::nearest>>(job, stream);
  if (nearest_8) return run<Bf16, Bf16, QuickCodes<8, EncodeWay::nearest>>(job, stream);
  if (stochastic_4) return run<Bf16, Bf16, QuickCodes<4, EncodeWay::stochastic>>(job, stream);
  if (all_are(job, CodeStorage::byte, EncodeWay::stochastic))
    return run<Bf16, Bf16, QuickCodes<8, EncodeWay::stochastic>>(job, stream);
  run<Bf16, Bf16, AllCodes>(job, stream);
}

}  // namespace ng::cuda::fast
