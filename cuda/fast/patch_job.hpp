// SPDX-License-Identifier: Apache-2.0
//
// A tensor cut into patches: rectangles that a block reads once into shared memory, and from which it makes one or two
// forms. A patch holds whole tiles of every form, or, where tiles are as long as the tensor, parts of tiles whose
// scales are known. Plain data.
#pragma once

#include <cstdint>

#include "fast/quick_encode.hpp"
#include "plain/quantize_threads.hpp"

namespace ng::cuda::fast {

/// n / d for small numbers (n * d < 2^32) without a division.
struct Divisor {
  std::uint32_t divisor = 1;
  std::uint32_t inverse = 0;  ///< ceil(2^32 / divisor)

  Divisor() = default;
  NG_HD explicit Divisor(int d)
      : divisor(static_cast<std::uint32_t>(d)), inverse(0xffffffffu / static_cast<std::uint32_t>(d) + 1u) {}
  NG_HD int quotient(int n) const {
    const std::uint32_t small = static_cast<std::uint32_t>(n);
    return static_cast<int>(divisor == 1 ? small : static_cast<std::uint32_t>((std::uint64_t{small} * inverse) >> 32));
  }
  NG_HD int remainder(int n, int quotient) const { return n - quotient * static_cast<int>(divisor); }
};

/// 16 bytes of memory at a time.
struct alignas(16) Chunk {
  std::uint32_t word[4];
};

/// What a launch is for. `tile_amax`, `group_amax`: largest magnitudes, into job.tile_amax or job.group_amax.
enum class PatchGoal : std::uint8_t { quantize, tile_amax, group_amax };

/// How many tiles the eight elements from a multiple of eight codes on belong to: one, all of them; up to two, but for
/// tiles that end early; or more.
enum class UnitTiles : std::uint8_t { one_whole, two, many };

struct PatchForm {
  QuantizeJob job{};
  EncodeConstants constants{};
  bool scales_known = false;  ///< in job.tiles; otherwise tiles lie within patches and have their scales made there
  bool shared_words = false;  ///< codes of two patches may share a byte: all codes are zero at the start
  bool amax_down = false;     ///< largest magnitudes are looked for down the columns, not along the rows
  int amax_run = 16;          ///< how many elements a thread looks at
  UnitTiles unit_tiles = UnitTiles::two;
  int tiles_across = 0;              ///< column tiles of a patch; 0: none has an end there
  Divisor width, runs, runs_across;  ///< of a patch that is as wide as can be: see LocalTiles
};

/// Rows of patches, and where a form's tiles begin in them.
struct PatchBand {
  std::int64_t row0 = 0;
  std::int64_t first_tile[2] = {0, 0};  ///< of each form
  std::int32_t rows = 0;
  std::int32_t row_tiles[2] = {0, 0};
};

struct PatchJob {
  PatchGoal goal = PatchGoal::quantize;
  int form_count = 1;
  PatchForm forms[2]{};
  const PatchBand* bands = nullptr;  ///< [patches_down]
  int rows = 0;                      ///< at most
  int cols = 0;
  std::int64_t patches_down = 0;
  std::int64_t patches_across = 0;
  bool down_first = false;    ///< order of the patches
  bool whole_chunks = false;  ///< 16 bytes of the source at a time
  Divisor chunks;             ///< of a row of a patch that is as wide as can be
  int row_words = 0;          ///< shared memory, 32-bit words from row to row
  int random_bytes = 0;       ///< bytes from row to row of random draws
  // Offsets in shared memory, bytes.
  int randoms_at = 0, row_tiles_at = 0, tile_begins_at = 0, amax_at = 0, scales_at = 0;
  int shared_bytes = 0;
};

/// A patch, in elements of the tensor; it has less than 2^31 rows, columns and patches.
struct Patch {
  std::int64_t row0, col0;
  int rows, cols;
  std::uint32_t down, across;
  bool full;  ///< as wide as can be
};

/// Patch number `number`.
NG_HD Patch patch_place(const PatchJob& job, std::int64_t number) {
  const std::uint32_t count = static_cast<std::uint32_t>(job.down_first ? job.patches_down : job.patches_across);
  const std::uint32_t slow = static_cast<std::uint32_t>(number) / count;
  const std::uint32_t quick = static_cast<std::uint32_t>(number) - slow * count;
  Patch patch;
  patch.down = job.down_first ? quick : slow;
  patch.across = job.down_first ? slow : quick;
  patch.row0 = job.bands[patch.down].row0;
  patch.rows = job.bands[patch.down].rows;
  patch.col0 = static_cast<std::int64_t>(patch.across) * job.cols;
  const std::int64_t left = job.forms[0].job.cols - patch.col0;
  patch.full = left >= job.cols;
  patch.cols = patch.full ? job.cols : static_cast<int>(left);
  return patch;
}

}  // namespace ng::cuda::fast
