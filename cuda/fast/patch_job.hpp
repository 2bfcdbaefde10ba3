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

  NG_HD explicit Divisor(int d = 1)
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

struct PatchForm {
  QuantizeJob job{};
  EncodeConstants constants{};
  bool scales_known = false;  ///< in job.tiles; otherwise tiles lie within patches and have their scales made there
  bool shared_words = false;  ///< codes of two patches may share a byte: all codes are zero at the start
  bool amax_down = false;     ///< largest magnitudes are looked for down the columns, not along the rows
  int amax_run = 16;          ///< how many elements a thread looks at
  int most_row_tiles = 1;     ///< that a patch touches
  int most_col_tiles = 1;
};

struct PatchJob {
  PatchGoal goal = PatchGoal::quantize;
  int form_count = 1;
  PatchForm forms[2]{};
  int lead = 0;        ///< the form whose row tiles the patches follow
  int tiles_down = 0;  ///< of the lead form in a patch; 0: patches are `rows` rows high, wherever tiles begin
  int rows = 0;        ///< at most
  int cols = 0;
  std::int64_t patches_down = 0;
  std::int64_t patches_across = 0;
  bool down_first = false;    ///< order of the patches
  bool whole_chunks = false;  ///< 16 bytes of the source at a time
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
};

/// First row of row tile number `tile` of a form whose tiles have a height.
NG_HD std::int64_t row_of_tile(const QuantizeJob& job, std::int64_t tile) {
  const GroupExtent& group = job.groups[plain::group_of_tile(job.groups, job.group_count, tile)];
  return group.begin + (tile - group.first_tile) * job.tile_height;
}

/// Patch number `number`.
NG_HD Patch patch_place(const PatchJob& job, std::int64_t number) {
  const std::uint32_t count = static_cast<std::uint32_t>(job.down_first ? job.patches_down : job.patches_across);
  const std::uint32_t slow = static_cast<std::uint32_t>(number) / count;
  const std::uint32_t quick = static_cast<std::uint32_t>(number) - slow * count;
  const std::int64_t down = job.down_first ? quick : slow;
  const std::int64_t across = job.down_first ? slow : quick;
  const QuantizeJob& lead = job.forms[job.lead].job;
  Patch patch;
  std::int64_t end;
  if (job.tiles_down != 0) {
    const std::int64_t first = down * job.tiles_down;
    patch.row0 = row_of_tile(lead, first);
    end = first + job.tiles_down < lead.row_tiles ? row_of_tile(lead, first + job.tiles_down) : lead.rows;
  } else {
    patch.row0 = down * job.rows;
    end = patch.row0 + job.rows < lead.rows ? patch.row0 + job.rows : lead.rows;
  }
  patch.rows = static_cast<int>(end - patch.row0);
  patch.col0 = across * job.cols;
  patch.cols = static_cast<int>(lead.cols - patch.col0 < job.cols ? lead.cols - patch.col0 : job.cols);
  return patch;
}

/// Number of the row tile of a form that holds a row.
NG_HD std::int64_t row_tile_of(const QuantizeJob& job, std::int64_t row) {
  const GroupExtent& group = job.groups[plain::group_of_row(job.groups, job.group_count, row)];
  if (job.tile_height == 0) return group.first_tile;
  return group.first_tile + static_cast<std::uint32_t>(row - group.begin) / static_cast<std::uint32_t>(job.tile_height);
}

}  // namespace ng::cuda::fast
