// SPDX-License-Identifier: Apache-2.0
//
// What the threads of a block do with a patch, step by step: load, random draws, transform, where tiles lie, largest
// magnitudes, scales, codes. For host and device; arithmetic is called. Elements in shared memory are Cells: BF16 bits,
// or FP32.
#pragma once

#include "fast/patch_job.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "runtime/for_each_block.hpp"

namespace ng::cuda::fast {

/// Scale of a tile as codes need it.
struct LocalScale {
  float factor = 1.0f;
  float divisor = 1.0f;
  std::uint32_t poisoned = 0;
};

/// Shared memory of a block.
template <class Cell>
struct PatchMemory {
  std::uint32_t* words;  ///< the elements, row_words from row to row
  std::uint8_t* randoms;
  std::uint16_t* row_tile;    ///< local number of the row tile of each row
  std::uint16_t* tile_begin;  ///< first row of each local row tile, and the end of the last
  std::uint32_t* amax;        ///< of each local tile
  LocalScale* scales;
  int row_words;
  int random_bytes;

  NG_HD PatchMemory(const PatchJob& job, std::byte* memory)
      : words(reinterpret_cast<std::uint32_t*>(memory)),
        randoms(reinterpret_cast<std::uint8_t*>(memory + job.randoms_at)),
        row_tile(reinterpret_cast<std::uint16_t*>(memory + job.row_tiles_at)),
        tile_begin(reinterpret_cast<std::uint16_t*>(memory + job.tile_begins_at)),
        amax(reinterpret_cast<std::uint32_t*>(memory + job.amax_at)),
        scales(reinterpret_cast<LocalScale*>(memory + job.scales_at)),
        row_words(job.row_words),
        random_bytes(job.random_bytes) {}

  NG_HD static constexpr int per_word() { return 4 / static_cast<int>(sizeof(Cell)); }
  NG_HD Cell* row(int r) const { return reinterpret_cast<Cell*>(words + r * row_words); }
  NG_HD float value(int r, int c) const { return plain::widen(row(r)[c]); }
};

/// Random draw of an element, as many bytes as it has.
template <class Cell>
NG_HD std::uint32_t local_draw(const PatchMemory<Cell>& sm, int bits, int r, int c) {
  const std::uint8_t* at = sm.randoms + r * sm.random_bytes + c * (bits / 8);
  if (bits == 8) return *at;
  return bits == 16 ? *reinterpret_cast<const std::uint16_t*>(at) : *reinterpret_cast<const std::uint32_t*>(at);
}

/// Tiles of a form in a patch, and what divides the work of finding their largest magnitudes.
struct LocalTiles {
  std::int64_t first_row_tile, first_col_tile;
  int row_tiles, col_tiles;
  Divisor width;
  Divisor runs;         ///< of a row of a tile, or of its height
  Divisor runs_across;  ///< of a row of the patch, or words

  NG_HD int number(int row_tile, int col) const { return row_tile * col_tiles + width.quotient(col); }
};

/// A form without scales has one tile, whose factor is 1.
NG_HD LocalTiles local_tiles(const PatchJob& job, int f, const Patch& patch, int cells_per_word) {
  const PatchForm& form = job.forms[f];
  const PatchBand& band = job.bands[patch.down];
  LocalTiles tiles;
  tiles.first_row_tile = band.first_tile[f];
  tiles.row_tiles = band.row_tiles[f];
  tiles.first_col_tile = static_cast<std::int64_t>(patch.across) * form.tiles_across;
  tiles.width = form.width;
  tiles.runs = form.runs;
  tiles.runs_across = form.runs_across;
  tiles.col_tiles = form.tiles_across == 0 ? 1 : form.tiles_across;
  if (patch.full) return tiles;
  if (form.tiles_across == 0)
    tiles.width = Divisor(patch.cols);
  else
    tiles.col_tiles = tiles.width.quotient(patch.cols - 1) + 1;
  if (form.amax_down) {
    tiles.runs_across = Divisor((patch.cols + cells_per_word - 1) / cells_per_word);
  } else {
    const int width = static_cast<int>(tiles.width.divisor);
    tiles.runs = Divisor((width + form.amax_run - 1) / form.amax_run);
    tiles.runs_across = Divisor(tiles.col_tiles * static_cast<int>(tiles.runs.divisor));
  }
  return tiles;
}

// ---- load

NG_HD void keep(std::uint32_t* to, const Chunk& chunk, std::uint16_t /*source*/, std::uint16_t /*cell*/) {
  for (int i = 0; i < 4; ++i) to[i] = chunk.word[i];
}
NG_HD void keep(std::uint32_t* to, const Chunk& chunk, float /*source*/, float /*cell*/) {
  for (int i = 0; i < 4; ++i) to[i] = chunk.word[i];
}
NG_HD void keep(std::uint32_t* to, const Chunk& chunk, std::uint16_t /*source*/, float /*cell*/) {
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = chunk.word[i] << 16;
    to[2 * i + 1] = chunk.word[i] & 0xffff0000u;
  }
}

template <class Source, class Cell>
NG_HD void load_step(const PatchJob& job, const Patch& patch, const PatchMemory<Cell>& sm, int thread) {
  const QuantizeJob& any = job.forms[0].job;
  const Source* from = static_cast<const Source*>(any.source) + patch.row0 * any.stride + patch.col0;
  constexpr int kPerChunk = 16 / static_cast<int>(sizeof(Source));
  constexpr int kChunkWords = kPerChunk * static_cast<int>(sizeof(Cell)) / 4;
  const int chunks_per_row = job.whole_chunks ? patch.cols / kPerChunk : 0;
  if (chunks_per_row > 0) {
    constexpr int kAtOnce = 4;
    const Divisor by_row = patch.full ? job.chunks : Divisor(chunks_per_row);
    const int count = patch.rows * chunks_per_row;
    for (int first = thread; first < count; first += kAtOnce * kBlockThreads) {
      Chunk chunk[kAtOnce];
      int at[kAtOnce];
      for (int i = 0; i < kAtOnce; ++i) {
        const int number = first + i * kBlockThreads;
        const int bounded = number < count ? number : count - 1;  // loads without conditions are on their way at once
        const int r = by_row.quotient(bounded);
        const int c = by_row.remainder(bounded, r);
        at[i] = number < count ? r * sm.row_words + c * kChunkWords : -1;
        chunk[i] = *reinterpret_cast<const Chunk*>(from + r * any.stride + c * kPerChunk);
      }
      for (int i = 0; i < kAtOnce; ++i)
        if (at[i] >= 0) keep(sm.words + at[i], chunk[i], Source{}, Cell{});
    }
  }
  const int done = chunks_per_row * kPerChunk;
  const int left = patch.cols - done;
  if (left == 0) return;
  constexpr int kAtOnce = 8;
  const Divisor by_row(left);
  const int count = patch.rows * left;
  for (int first = thread; first < count; first += kAtOnce * kBlockThreads) {
    Source element[kAtOnce];
    int at[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      const int number = first + i * kBlockThreads;
      const int bounded = number < count ? number : count - 1;
      const int r = by_row.quotient(bounded);
      const int c = done + by_row.remainder(bounded, r);
      at[i] = number < count ? r * sm.row_words * sm.per_word() + c : -1;
      element[i] = from[r * any.stride + c];
    }
    Cell* const to = sm.row(0);
    for (int i = 0; i < kAtOnce; ++i) {
      if (at[i] < 0) continue;
      if constexpr (sizeof(Source) == sizeof(Cell))
        to[at[i]] = element[i];
      else
        to[at[i]] = plain::widen(element[i]);
    }
  }
}

// ---- random draws: a thread makes one block of Philox, whose draws belong to neighbours of a row.

template <class Cell>
NG_HD void random_step(const PatchForm& form, const Patch& patch, const PatchMemory<Cell>& sm, int thread) {
  const QuantizeJob& job = form.job;
  const int bits = job.spec.cast.random_bits;
  const int log2 = bits == 8 ? 4 : bits == 16 ? 3 : 2;
  const int per_block = 1 << log2;
  const int blocks = (patch.cols + 2 * per_block - 2) / per_block;  // at most, wherever the first one begins
  const Divisor by_row(blocks);
  for (int i = thread; i < patch.rows * blocks; i += kBlockThreads) {
    const int r = by_row.quotient(i);
    const std::int64_t row = patch.row0 + r;
    const std::int64_t logical = job.row_ids != nullptr ? job.row_ids[row] : job.logical_row0 + row;
    const std::uint64_t first = static_cast<std::uint64_t>(logical) * static_cast<std::uint64_t>(job.logical_cols) +
                                static_cast<std::uint64_t>(job.logical_col0 + patch.col0);
    const int skipped = static_cast<int>(first & static_cast<unsigned>(per_block - 1));
    const int begin = by_row.remainder(i, r) * per_block - skipped;
    if (begin >= patch.cols) continue;
    PhiloxBlock block{{0, 0, 0, 0}};  // padding draws zeros
    if (logical >= 0)
      block = random_block(job.stream, (first + static_cast<std::uint64_t>(static_cast<std::int64_t>(begin))) >> log2);
    std::uint8_t* to = sm.randoms + r * sm.random_bytes + begin * (bits / 8);
    const int per_word = 32 / bits;
    for (int w = 0; w < 4; ++w) {
      const int c = begin + w * per_word;
      if (c >= 0 && c + per_word <= patch.cols && begin * bits % 32 == 0) {
        *reinterpret_cast<std::uint32_t*>(to + 4 * w) = block.word[w];
        continue;
      }
      for (int b = 0; b < 4; ++b) {
        const int element = c + b * 8 / bits;
        if (element >= 0 && element < patch.cols) to[4 * w + b] = static_cast<std::uint8_t>(block.word[w] >> (8 * b));
      }
    }
  }
}

// ---- transform: groups along the contraction axis, in place.

NG_HD void set_cell(std::uint16_t* cell, float value) {
  *cell = static_cast<std::uint16_t>(bits_of(value) >> 16);
}
NG_HD void set_cell(float* cell, float value) {
  *cell = value;
}

/// `size` elements, `step` cells from one to the next.
template <int kMost, class Cell>
NG_HD void transform_group(const HadamardSpec& spec, const HadamardSignMask& signs, Cell* at, int step) {
  float x[kMost];
  for (int k = 0; k < spec.size; ++k) x[k] = plain::widen(at[k * step]);
  hadamard_transform(spec, signs, x);
  for (int k = 0; k < spec.size; ++k) set_cell(at + k * step, x[k]);
}
template <class Cell>
NG_HD_CALLED void transform_any_group(const QuantizeJob& job, Cell* at, int step) {
  transform_group<kLargestHadamard>(job.spec.hadamard, job.signs, at, step);
}

template <class Cell>
NG_HD void transform_step(const PatchForm& form, const Patch& patch, const PatchMemory<Cell>& sm, int thread) {
  const HadamardSpec& wanted = form.job.spec.hadamard;
  HadamardSpec sixteen;
  sixteen.size = 16;
  sixteen.order = HadamardOrder::butterfly;
  sixteen.result = wanted.result;
  const bool usual = wanted.size == sixteen.size && wanted.order == sixteen.order;
  const bool down = form.job.orientation == Orientation::column;
  const int size = wanted.size;
  const int lines = down ? patch.cols : patch.rows;
  const int groups = (down ? patch.rows : patch.cols) / size;
  const int step = down ? sm.row_words * sm.per_word() : 1;
  const Divisor by_line(lines);
  for (int i = thread; i < lines * groups; i += kBlockThreads) {
    const int group = by_line.quotient(i);
    const int line = by_line.remainder(i, group);
    Cell* const at = down ? sm.row(group * size) + line : sm.row(line) + group * size;
    if (usual)
      transform_group<16>(sixteen, form.job.signs, at, step);
    else
      transform_any_group(form.job, at, step);
  }
}

// ---- where tiles lie

template <class Cell>
NG_HD void tiles_step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles, const PatchMemory<Cell>& sm,
                      int thread) {
  const QuantizeJob& job = form.job;
  for (int i = thread; i < tiles.row_tiles * tiles.col_tiles; i += kBlockThreads) sm.amax[i] = 0;
  for (int r = thread; r <= patch.rows; r += kBlockThreads) {
    if (job.spec.scale_format == ScaleFormat::none) {
      if (r < patch.rows) sm.row_tile[r] = 0;
      continue;
    }
    if (r == patch.rows) {
      sm.tile_begin[tiles.row_tiles] = static_cast<std::uint16_t>(r);
      continue;
    }
    const std::int64_t row = patch.row0 + r;
    const GroupExtent& group = job.groups[plain::group_of_row(job.groups, job.group_count, row)];
    const std::uint32_t in_group = static_cast<std::uint32_t>(row - group.begin);
    const std::uint32_t height = static_cast<std::uint32_t>(job.tile_height);
    const std::uint32_t in_tiles = height == 0 ? 0 : in_group / height;
    const int tile = static_cast<int>(group.first_tile + in_tiles - tiles.first_row_tile);
    sm.row_tile[r] = static_cast<std::uint16_t>(tile);
    if (r == 0 || in_group == in_tiles * height) sm.tile_begin[tile] = static_cast<std::uint16_t>(r);
  }
}

// ---- largest magnitudes: a thread looks at a run of elements of one tile along a row, or of two neighbouring columns.

NG_HD std::uint32_t larger(std::uint32_t a, std::uint32_t b) {
  return a > b ? a : b;
}

template <class Cell>
NG_HD void amax_rows_step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles,
                          const PatchMemory<Cell>& sm, int thread) {
  const int width = static_cast<int>(tiles.width.divisor);
  const Divisor by_run = tiles.runs;
  const Divisor by_row = tiles.runs_across;
  const int per_row = static_cast<int>(by_row.divisor);
  const bool words = sm.per_word() == 2 && width % 2 == 0;
  for (int i = thread; i < patch.rows * per_row; i += kBlockThreads) {
    const int r = by_row.quotient(i);
    const int in_row = by_row.remainder(i, r);
    const int tile = by_run.quotient(in_row);
    const int begin = tile * width + by_run.remainder(in_row, tile) * form.amax_run;
    int end = (tile + 1) * width < patch.cols ? (tile + 1) * width : patch.cols;
    if (begin + form.amax_run < end) end = begin + form.amax_run;
    if (begin >= end) continue;
    const int count = end - begin;
    std::uint32_t amax = 0;
    if (words) {  // begin is even; neighbouring threads start at different words, which lie in different banks
      const std::uint32_t* at = sm.words + r * sm.row_words + begin / 2;
      const int whole = count / 2;
      std::uint32_t pair = count % 2 != 0 ? at[whole] & 0x7fffu : 0u;
      if (whole == 8) {
        for (int n = 0; n < 8; ++n) pair = larger_halves(pair, at[(n + thread / 4) & 7] & 0x7fff7fffu);
      } else {
        for (int n = 0; n < whole; ++n) pair = larger_halves(pair, at[n] & 0x7fff7fffu);
      }
      amax = larger(pair & 0xffff0000u, pair << 16);
    } else {
      if (count == 16) {
        for (int n = 0; n < 16; ++n) amax = larger(amax, magnitude_bits(sm.value(r, begin + ((n + thread / 2) & 15))));
      } else {
        for (int n = 0; n < count; ++n) amax = larger(amax, magnitude_bits(sm.value(r, begin + n)));
      }
    }
    atomic_max(&sm.amax[sm.row_tile[r] * tiles.col_tiles + tile], amax);
  }
}

template <class Cell>
NG_HD void amax_columns_step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles,
                             const PatchMemory<Cell>& sm, int thread) {
  constexpr int kPerWord = PatchMemory<Cell>::per_word();
  const Divisor by_across = tiles.runs_across;
  const Divisor by_run = tiles.runs;
  const int count = static_cast<int>(by_across.divisor * by_run.divisor) * tiles.row_tiles;
  for (int i = thread; i < count; i += kBlockThreads) {
    const int number = by_across.quotient(i);
    const int word = by_across.remainder(i, number);
    const int tile = by_run.quotient(number);
    const int begin = sm.tile_begin[tile] + by_run.remainder(number, tile) * form.amax_run;
    int end = sm.tile_begin[tile + 1];
    if (begin + form.amax_run < end) end = begin + form.amax_run;
    if (begin >= end) continue;
    const std::uint32_t* at = sm.words + begin * sm.row_words + word;
    std::uint32_t* const to = sm.amax + tile * tiles.col_tiles;
    if constexpr (kPerWord == 1) {
      std::uint32_t amax = 0;
      for (int r = begin; r < end; ++r, at += sm.row_words) amax = larger(amax, *at & kMagnitudeMask);
      atomic_max(to + tiles.width.quotient(word), amax);
    } else {
      std::uint32_t pair = 0;
      for (int r = begin; r < end; ++r, at += sm.row_words) pair = larger_halves(pair, *at & 0x7fff7fffu);
      const int left = tiles.width.quotient(2 * word);
      const bool two = 2 * word + 1 < patch.cols;  // beyond the edge lies nothing
      const int right = two ? tiles.width.quotient(2 * word + 1) : left;
      if (two && left == right) {
        atomic_max(to + left, larger(pair & 0xffff0000u, pair << 16));
      } else {
        atomic_max(to + left, pair << 16);
        if (two) atomic_max(to + right, pair & 0xffff0000u);
      }
    }
  }
}

/// From the tiles of a patch to those of the tensor, or to its groups.
template <class Cell>
NG_HD void merge_step(const PatchForm& form, PatchGoal goal, const LocalTiles& tiles, const PatchMemory<Cell>& sm,
                      int thread) {
  const QuantizeJob& job = form.job;
  if (goal == PatchGoal::tile_amax) {
    for (int i = thread; i < tiles.row_tiles * tiles.col_tiles; i += kBlockThreads) {
      const std::int64_t row_tile = tiles.first_row_tile + i / tiles.col_tiles;
      const std::int64_t col_tile = tiles.first_col_tile + i % tiles.col_tiles;
      raise_to(&job.tile_amax[row_tile * job.col_tiles + col_tile], sm.amax[i]);
    }
    return;
  }
  for (int i = thread; i < tiles.row_tiles; i += kBlockThreads) {
    std::uint32_t amax = 0;
    for (int k = 0; k < tiles.col_tiles; ++k) amax = larger(amax, sm.amax[i * tiles.col_tiles + k]);
    raise_to(&job.group_amax[plain::amax_group(job, (tiles.first_row_tile + i) * job.col_tiles)], amax);
  }
}

// ---- scales

/// What has no place in registers: tile_scale itself.
NG_HD_CALLED TileScale usual_scale(const QuantizerSpec& spec, std::uint32_t amax, TensorScale tensor) {
  return tile_scale(spec, amax, tensor);
}

/// The choice of four_over_six for a tile of rows [row0, row1) and columns [col0, col1) of the patch.
template <class Cell>
NG_HD_CALLED TileScale chosen_scale(const QuantizeJob& job, PatchMemory<Cell> sm, std::uint32_t amax,
                                    TensorScale tensor, int row0, int row1, int col0, int col1) {
  const bool row_form = job.orientation == Orientation::row;
  return four_over_six_scale(job.spec, amax, tensor, row_form ? row1 - row0 : col1 - col0,
                             row_form ? col1 - col0 : row1 - row0, [&](std::int64_t line, std::int64_t k) {
                               return row_form ? sm.value(row0 + static_cast<int>(line), col0 + static_cast<int>(k))
                                               : sm.value(row0 + static_cast<int>(k), col0 + static_cast<int>(line));
                             });
}

/// Row and column tile are local numbers.
template <class Cell>
NG_HD TileScale made_scale(const QuantizeJob& job, const Patch& patch, const LocalTiles& tiles,
                           const PatchMemory<Cell>& sm, int row_tile, int col_tile) {
  TensorScale tensor;
  if (needs_tensor_amax(job.spec.rule))
    tensor = job.tensor[plain::group_of_tile(job.groups, job.group_count, tiles.first_row_tile + row_tile)];
  const std::uint32_t amax = sm.amax[row_tile * tiles.col_tiles + col_tile];
  if (job.spec.rule != ScaleRule::four_over_six) return usual_scale(job.spec, amax, tensor);
  const int width = static_cast<int>(tiles.width.divisor);
  const int col0 = col_tile * width;
  const int col1 = col0 + width < patch.cols ? col0 + width : patch.cols;
  return chosen_scale(job, sm, amax, tensor, sm.tile_begin[row_tile], sm.tile_begin[row_tile + 1], col0, col1);
}

template <class Cell>
NG_HD void scales_step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles, const PatchMemory<Cell>& sm,
                       int thread) {
  const QuantizeJob& job = form.job;
  if (job.spec.scale_format == ScaleFormat::none) {
    if (thread == 0) sm.scales[0] = LocalScale{};
    return;
  }
  const bool row_form = job.orientation == Orientation::row;
  const std::uint32_t line = static_cast<std::uint32_t>(row_form ? tiles.col_tiles : tiles.row_tiles);
  for (int n = thread; n < tiles.row_tiles * tiles.col_tiles; n += kBlockThreads) {
    const int slow = static_cast<int>(static_cast<std::uint32_t>(n) / line);
    const int quick = n - slow * static_cast<int>(line);  // neighbours in memory by neighbours
    const int row_tile = row_form ? slow : quick;
    const int col_tile = row_form ? quick : slow;
    const std::int64_t i = tiles.first_row_tile + row_tile;
    const std::int64_t j = tiles.first_col_tile + col_tile;
    TileScale scale;
    if (form.scales_known) {
      scale = job.tiles[i * job.col_tiles + j];
    } else {
      scale = made_scale(job, patch, tiles, sm, row_tile, col_tile);
      const std::int64_t at = row_form ? i * job.scale_cols + j : j * job.scale_cols + i;
      if (job.spec.scale_format == ScaleFormat::f32)
        static_cast<float*>(job.scales)[at] = float_of(scale.code);
      else
        static_cast<std::uint8_t*>(job.scales)[at] = static_cast<std::uint8_t>(scale.code);
    }
    // What is poisoned is no number times its factor, so that its elements leave the quick way.
    sm.scales[row_tile * tiles.col_tiles + col_tile] =
        LocalScale{scale.poisoned ? float_of(kQuietNanBits) : scale.encode, scale.divisor, scale.poisoned ? 1u : 0u};
  }
}

}  // namespace ng::cuda::fast
