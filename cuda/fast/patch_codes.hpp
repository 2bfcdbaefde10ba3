// SPDX-License-Identifier: Apache-2.0
//
// The last step of a patch: codes, eight neighbours of a line of the result at a time, at multiples of eight wherever
// its lines begin. For host and device.
#pragma once

#include "fast/packed_codes.hpp"
#include "fast/patch_steps.hpp"

namespace ng::cuda::fast {

constexpr int kUnit = 8;

/// Codes of a unit as they lie in memory.
template <int kBits>
struct alignas(kBits) UnitCodes {
  std::uint32_t word[kBits / 4];

  NG_HD void clear() {
    for (std::uint32_t& w : word) w = 0;
  }
  NG_HD void add(int i, std::uint32_t code) { word[i * kBits / 32] |= code << (i * kBits % 32); }
  NG_HD std::uint8_t byte(int b) const { return static_cast<std::uint8_t>(word[b / 4] >> (b % 4 * 8)); }
};

/// Which elements of which line of the result a unit is, in the patch: [lo, hi) of the eight from `begin` on.
struct UnitPlace {
  int line, begin, lo, hi;
};

/// Elements of a form in shared memory, in the axes of the result.
template <class Cell>
struct FormCells {
  PatchMemory<Cell> sm;
  LocalTiles tiles;
  bool row_form;
  int line_step, step;  ///< cells from line to line, and along a line

  NG_HD FormCells(const PatchForm& form, const LocalTiles& local, const PatchMemory<Cell>& memory)
      : sm(memory), tiles(local), row_form(form.job.orientation == Orientation::row) {
    const int row = sm.row_words * sm.per_word();
    line_step = row_form ? row : 1;
    step = row_form ? 1 : row;
  }
  NG_HD const Cell* line(int l) const { return sm.row(0) + l * line_step; }
  NG_HD int tile(int l, int at) const {
    return row_form ? tiles.number(sm.row_tile[l], at) : tiles.number(sm.row_tile[at], l);
  }
  /// First element of the tile after that of element `at`.
  NG_HD int next_tile(int at) const {
    if (!row_form) return sm.tile_begin[sm.row_tile[at] + 1];
    return (tiles.width.quotient(at) + 1) * static_cast<int>(tiles.width.divisor);
  }
  NG_HD std::uint32_t draw(int bits, int l, int at) const {
    return row_form ? local_draw(sm, bits, l, at) : local_draw(sm, bits, at, l);
  }
};

/// A unit by encode_scaled itself; counts NaN where the spec forbids it.
template <int kBits, class Cell>
NG_HD_CALLED UnitCodes<kBits> careful_unit(const QuantizeJob& job, const FormCells<Cell>& cells, UnitPlace place) {
  UnitCodes<kBits> codes;
  codes.clear();
  for (int i = 0; i < kUnit; ++i) {
    const int at = place.begin + i;
    if (at < place.lo || at >= place.hi) continue;
    const LocalScale local = cells.sm.scales[cells.tile(place.line, at)];
    TileScale scale;
    scale.encode = local.factor;
    scale.divisor = local.divisor;
    scale.poisoned = local.poisoned != 0;
    const float x = plain::widen(cells.line(place.line)[at * cells.step]);
    const std::uint32_t draw =
        job.spec.cast.rounding == Rounding::stochastic ? cells.draw(job.spec.cast.random_bits, place.line, at) : 0u;
    if (is_nan_bits(bits_of(x)) && plain::counts_nan(job.spec)) atomic_add(job.nan_inputs, 1);
    codes.add(i, encode_scaled(job.spec, scale, x, draw));
  }
  return codes;
}

/// A unit in a quick way; false where it has to be made with care: it holds a NaN, or parts of more tiles than kTiles
/// says. Where it is not whole, what is not wanted is the code of some element.
template <int kBits, EncodeWay kWay, UnitTiles kTiles, class Cell>
NG_HD bool quick_unit(const EncodeConstants& c, const FormCells<Cell>& cells, const UnitPlace& place,
                      UnitCodes<kBits>& codes) {
  const Cell* const from = cells.line(place.line);
  const int first_tile = cells.tile(place.line, place.lo);
  float factor = cells.sm.scales[first_tile].factor;
  float next_factor = factor;
  int next = place.hi;  // element that begins the next tile
  if (kTiles == UnitTiles::two) {
    const int last_tile = cells.tile(place.line, place.hi - 1);
    if (last_tile != first_tile) {
      next = cells.next_tile(place.lo);
      if (cells.next_tile(next) < place.hi) return false;
      next_factor = cells.sm.scales[last_tile].factor;
    }
  }
  std::uint32_t scaled[kUnit];
  std::uint32_t most = 0;
  for (int i = 0; i < kUnit; ++i) {
    int at = place.begin + i;
    if (kTiles != UnitTiles::one_whole) at = at < place.lo ? place.lo : at < place.hi ? at : place.hi - 1;
    if (kTiles == UnitTiles::many) factor = cells.sm.scales[cells.tile(place.line, at)].factor;
    const float x = plain::widen(from[at * cells.step]);
    scaled[i] = bits_of(add_rn(mul_rn(x, kTiles != UnitTiles::two || at < next ? factor : next_factor), c.zero));
    most = larger(most, scaled[i] & kMagnitudeMask);
  }
  if (most > kInfinityBits) return false;
  if constexpr (kWay == EncodeWay::nearest && kBits <= 8) {
    if (c.packed != PackedFormat::none) {
      packed_codes<kBits>(c, scaled, codes.word);
      return true;
    }
  }
  codes.clear();
  for (int i = 0; i < kUnit; ++i) {
    int at = place.begin + i;
    if (kTiles != UnitTiles::one_whole) at = at < place.lo ? place.lo : at < place.hi ? at : place.hi - 1;
    const std::uint32_t draw = kWay == EncodeWay::stochastic ? cells.draw(c.random_bits, place.line, at) : 0u;
    codes.add(i, quick_code<kWay>(c, scaled[i], draw));
  }
  if (c.negative != NegativeCodes::all) {
    for (std::uint32_t& word : codes.word) word = with_negative_codes<kBits>(c, word);
  }
  return true;
}

/// Where the unit is not whole: a byte at a time, or, where other patches write bits of the same word, bits alone.
template <int kBits>
NG_HD void store_part(bool shared, std::uint8_t* to, const UnitCodes<kBits>& codes, int lo, int hi) {
  if constexpr (kBits == 4) {
    const std::uint32_t above = hi == kUnit ? 0xffffffffu : (1u << (4 * hi)) - 1u;
    const std::uint32_t word = codes.word[0] & above & ~((1u << (4 * lo)) - 1u);
    if (shared) return atomic_or(reinterpret_cast<std::uint32_t*>(to), word);
    for (int b = lo / 2; b < (hi + 1) / 2; ++b) to[b] = static_cast<std::uint8_t>(word >> (8 * b));
  } else {
    for (int b = lo * kBits / 8; b < hi * kBits / 8; ++b) to[b] = codes.byte(b);
  }
}

template <int kBits, EncodeWay kWay, class Cell>
NG_HD void codes_step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles, const PatchMemory<Cell>& sm,
                      int thread) {
  const QuantizeJob& job = form.job;
  const FormCells<Cell> cells(form, tiles, sm);
  const EncodeConstants constants = form.constants;
  const bool row_form = cells.row_form;
  const int lines = row_form ? patch.rows : patch.cols;
  const int length = row_form ? patch.cols : patch.rows;
  const std::int64_t codes_per_line = job.row_bytes * 8 / kBits;
  const std::int64_t first =
      (row_form ? patch.row0 : patch.col0) * codes_per_line + (row_form ? patch.col0 : patch.row0);
  const int before = codes_per_line % kUnit == 0 ? static_cast<int>(first & (kUnit - 1)) : kUnit - 1;  // at most
  // Eight units by four lines for 32 neighbouring threads: whole sectors are written, and few banks met twice. Or, of a
  // few long lines, 32 units.
  const int log2_across = lines < 4 ? 5 : 3;
  const int units = (length + before + kUnit - 1) / kUnit;
  const std::uint32_t per_line = static_cast<std::uint32_t>((units + (1 << log2_across) - 1) >> log2_across);
  const std::uint32_t count = static_cast<std::uint32_t>(((lines << log2_across) + 31) / 32) * per_line;
  const int lane = thread & 31;
  for (std::uint32_t block = static_cast<std::uint32_t>(thread) / 32; block < count; block += kBlockThreads / 32) {
    const std::uint32_t slow = per_line == 1 ? block : per_line == 2 ? block / 2 : block / per_line;
    const int number = static_cast<int>((block - slow * per_line) << log2_across) + (lane & ((1 << log2_across) - 1));
    const int line = static_cast<int>(slow << (5 - log2_across)) + (lane >> log2_across);
    if (line >= lines) continue;
    const std::int64_t position = first + line * codes_per_line;
    const int begin = number * kUnit - static_cast<int>(position & (kUnit - 1));
    UnitPlace place{line, begin, begin > 0 ? begin : 0, begin + kUnit < length ? begin + kUnit : length};
    if (place.lo >= place.hi) continue;
    const bool whole = place.hi - place.lo == kUnit;
    UnitCodes<kBits> codes;
    if constexpr (kWay == EncodeWay::any) {
      codes = careful_unit<kBits>(job, cells, place);
    } else {
      bool done;
      if (whole && form.unit_tiles == UnitTiles::one_whole)
        done = quick_unit<kBits, kWay, UnitTiles::one_whole>(constants, cells, place, codes);
      else if (form.unit_tiles == UnitTiles::many)
        done = quick_unit<kBits, kWay, UnitTiles::many>(constants, cells, place, codes);
      else
        done = quick_unit<kBits, kWay, UnitTiles::two>(constants, cells, place, codes);
      if (!done) codes = careful_unit<kBits>(job, cells, place);
    }
    std::uint8_t* const to = job.codes + (position + begin) * kBits / 8;
    if (whole)
      *reinterpret_cast<UnitCodes<kBits>*>(to) = codes;
    else
      store_part<kBits>(form.shared_words, to, codes, place.lo - begin, place.hi - begin);
  }
}

/// The codes of one width, in one way: what most launches need, in a kernel of its own.
template <int kBits, EncodeWay kWay>
struct QuickCodes {
  template <class Cell>
  NG_HD static void step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles,
                         const PatchMemory<Cell>& sm, int thread) {
    codes_step<kBits, kWay>(form, patch, tiles, sm, thread);
  }
};

/// Any codes.
struct AllCodes {
  template <class Cell>
  NG_HD static void step(const PatchForm& form, const Patch& patch, const LocalTiles& tiles,
                         const PatchMemory<Cell>& sm, int thread) {
    switch (form.job.storage) {
      case CodeStorage::nibble:
        return codes_step<4, EncodeWay::any>(form, patch, tiles, sm, thread);
      case CodeStorage::byte:
        return codes_step<8, EncodeWay::any>(form, patch, tiles, sm, thread);
      case CodeStorage::half:
        return form.constants.way == EncodeWay::nearest
                   ? codes_step<16, EncodeWay::nearest>(form, patch, tiles, sm, thread)
                   : codes_step<16, EncodeWay::any>(form, patch, tiles, sm, thread);
    }
  }
};

/// All steps of a patch.
template <class Source, class Cell, class Codes>
struct PatchWork {
  static constexpr int kBlocksAtOnce = 4;
  PatchJob job;

  NG_HD void operator()(std::int64_t number, std::byte* memory, const BlockThreads& threads) const {
    const PatchMemory<Cell> sm(job, memory);
    const Patch patch = patch_place(job, number);
    threads([&](int t) { load_step<Source>(job, patch, sm, t); });
    for (int f = 0; f < job.form_count; ++f) {
      const PatchForm& form = job.forms[f];
      const QuantizerSpec& spec = form.job.spec;
      if (job.goal == PatchGoal::tile_amax && !form.scales_known) continue;  // this form finds its own
      const LocalTiles tiles = local_tiles(job, f, patch, sm.per_word());
      const bool random = spec.cast.rounding == Rounding::stochastic && job.goal == PatchGoal::quantize;
      if (spec.hadamard.size != 0) threads([&](int t) { transform_step(form, patch, sm, t); });
      threads([&](int t) {
        tiles_step(form, patch, tiles, sm, t);
        if (random) random_step(form, patch, sm, t);
      });
      if ((!form.scales_known || job.goal != PatchGoal::quantize) && spec.scale_format != ScaleFormat::none) {
        threads([&](int t) {
          if (form.amax_down)
            amax_columns_step(form, patch, tiles, sm, t);
          else
            amax_rows_step(form, patch, tiles, sm, t);
        });
      }
      if (job.goal != PatchGoal::quantize) {
        threads([&](int t) { merge_step(form, job.goal, tiles, sm, t); });
        continue;
      }
      threads([&](int t) { scales_step(form, patch, tiles, sm, t); });
      threads([&](int t) { Codes::step(form, patch, tiles, sm, t); });
    }
  }
};

}  // namespace ng::cuda::fast
