// SPDX-License-Identifier: Apache-2.0
//
// Tiles of 128 rows and 64 words (128 BF16 or 64 FP32 elements) on their way through shared memory: blocks of 256
// threads walk over them; while one block waits for a tile others of the multiprocessor work. Chunks of 16 bytes are
// exchanged by row and by slab of 32 rows, so that lines along rows and along columns both come out without meeting a
// bank twice.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

#include "fast/line.cuh"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

constexpr int kTileRows = 128;
constexpr int kTileWords = 64;  // of a row
constexpr int kSlabs = kTileRows / kLine;
constexpr int kTileBytes = kTileRows * kTileWords * 4;
constexpr int kWarps = kThreadsPerBlock / 32;

/// The tensor that is read.
struct TileSource {
  const void* source = nullptr;
  std::int64_t rows = 0, cols = 0, row_bytes = 0;  // bytes from row to row
};

template <bool kBf16>
constexpr int kTileCols = kBf16 ? 2 * kTileWords : kTileWords;
template <bool kBf16>
using LineOf = ElementsOf<kBf16, kLine>;

/// Place of a word of a tile.
__device__ inline unsigned word_at(unsigned row, unsigned word) {
  return row * kTileWords + (word ^ (row / kLine * 8) ^ (row % 8 * 4));
}

/// Where a tile begins, and how much of it is inside the tensor.
struct TilePlace {
  std::int64_t row0, col0;
  int rows, cols;
  __device__ bool inside(int row, int col) const { return row < rows && col < cols; }
};

/// Starts the copy of a tile to shared memory; what lies outside the tensor is left as it is.
template <bool kBf16>
__device__ void start_copy(const TileSource& tensor, const TilePlace& place, std::uint32_t* tile) {
  constexpr int kWidth = kBf16 ? 2 : 4;
  constexpr unsigned kChunks = kTileWords / 4;
  constexpr int kRowsAtOnce = kThreadsPerBlock / kChunks;
  const int row = static_cast<int>(threadIdx.x / kChunks);
  const int chunk = static_cast<int>(threadIdx.x % kChunks);
  if (chunk * (16 / kWidth) >= place.cols) return;
  const std::uint8_t* from = static_cast<const std::uint8_t*>(tensor.source) + (place.row0 + row) * tensor.row_bytes +
                             place.col0 * kWidth + chunk * 16;
  const std::int64_t step = kRowsAtOnce * tensor.row_bytes;
  // word_at(row + 16 pass, 4 chunk), in bytes
  static_assert(2 * kRowsAtOnce == kLine);
  const std::uint32_t to = static_cast<std::uint32_t>(__cvta_generic_to_shared(tile)) + row * kTileWords * 4;
  const std::uint32_t exchanged = static_cast<std::uint32_t>(chunk ^ row % 8) * 16;
#pragma unroll
  for (int pass = 0; pass < kTileRows / kRowsAtOnce; ++pass, from += step) {
    if (row + pass * kRowsAtOnce < place.rows)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                   :
                   : "r"(to + (exchanged ^ pass / 2 * 32) + pass * kRowsAtOnce * kTileWords * 4), "l"(from)
                   : "memory");
  }
}

/// Calls row(line, local row, number of the line in it) for the row lines of a tile. Neighbouring lines of a row are 8
/// lanes apart.
template <bool kBf16, class Row>
__device__ void for_row_lines(const std::uint32_t* tile, const Row& row) {
  constexpr int kLineWords = LineOf<kBf16>::kWords;
  constexpr unsigned kLines = kTileWords / kLineWords;
  constexpr int kRowsAtOnce = kThreadsPerBlock / kLines;
  const int in_row = static_cast<int>(threadIdx.x / 8 % kLines);
  const int first_row = static_cast<int>(threadIdx.x / (8 * kLines) * 8 + threadIdx.x % 8);
#pragma unroll 1
  for (int local_row = first_row; local_row < kTileRows; local_row += kRowsAtOnce) {
    LineOf<kBf16> line;
#pragma unroll
    for (int chunk = 0; chunk < kLineWords / 4; ++chunk) {
      const uint4 four = *reinterpret_cast<const uint4*>(tile + word_at(local_row, in_row * kLineWords + 4 * chunk));
      line.set(4 * chunk, four);
    }
    row(line, local_row, in_row);
  }
}

/// Four 8 x 8 matrices of 16-bit elements, transposed: lane l gives the address of row l % 8 of matrix l / 8 and gets
/// elements 2 (l % 4) and the next of column l / 4 of each.
__device__ inline uint4 load_transposed(const void* shared) {
  uint4 words;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)))
               : "memory");
  return words;
}

/// Calls column(line, local column, slab, pass) for the column lines of a tile. Slabs of a column are in neighbouring
/// lanes; a warp has 16 columns, the first 8 in pass 0.
template <bool kBf16, class Column>
__device__ void for_column_lines(const std::uint32_t* tile, const Column& column) {
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  const int slab = static_cast<int>(lane % kSlabs);
  if constexpr (kBf16) {
    const unsigned address_row = lane % 8 / 2 * kLine + lane / 8 * 2 + lane % 2;
#pragma unroll 1
    for (unsigned pass = 0; pass < 2; ++pass) {
      const std::uint32_t* from = tile + word_at(address_row, (2 * warp + pass) * 4);
      LineOf<true> line;
#pragma unroll
      for (int i = 0; i < kLine / 8; ++i) line.set(4 * i, load_transposed(from + 8 * i * kTileWords));
      column(line, static_cast<int>((2 * warp + pass) * 8 + lane / 4), slab, static_cast<int>(pass));
    }
  } else {
    const int word = static_cast<int>(threadIdx.x / kSlabs);
    LineOf<false> line;
#pragma unroll
    for (int r = 0; r < kLine; ++r) line.value[r] = float_of(tile[word_at(slab * kLine + r, word)]);
    column(line, word, slab, 0);
  }
}

/// A block's walk over the tiles of a tensor: eight down, then the next column of tiles, so that the bytes of
/// neighbouring scales are written close in time; band after band.
class TileWalk {
 public:
  __device__ TileWalk(int tiles_down, int tiles_across)
      : down_(tiles_down),
        band_tiles_(kDown * tiles_across),
        across_(tiles_across),
        band_(static_cast<int>(blockIdx.x) / band_tiles_),
        in_band_(static_cast<int>(blockIdx.x) % band_tiles_),
        band_step_(static_cast<int>(gridDim.x) / band_tiles_),
        in_band_step_(static_cast<int>(gridDim.x) % band_tiles_) {}

  /// The tile's place among the tiles, x down and y across; x is negative after the last.
  __device__ int2 place() const {
    const int left = down_ - band_ * kDown;
    if (left >= kDown) return int2{band_ * kDown + in_band_ % kDown, in_band_ / kDown};
    if (left <= 0 || in_band_ >= left * across_) return int2{-1, 0};
    return int2{band_ * kDown + in_band_ % left, in_band_ / left};
  }
  __device__ void next() {
    band_ += band_step_;
    in_band_ += in_band_step_;
    if (in_band_ < band_tiles_) return;
    in_band_ -= band_tiles_;
    ++band_;
  }

 private:
  static constexpr int kDown = 8;
  int down_, band_tiles_, across_;
  int band_, in_band_, band_step_, in_band_step_;
};

/// Walks over the block's tiles: begin(place) before and work(place) after the copy to `tile` is complete, all threads
/// at once.
template <bool kBf16, class Begin, class Work>
__device__ void for_tiles(const TileSource& tensor, std::uint32_t* tile, const Begin& begin, const Work& work) {
  constexpr int kCols = kTileCols<kBf16>;
  TileWalk walk(static_cast<int>((tensor.rows + kTileRows - 1) / kTileRows),
                static_cast<int>((tensor.cols + kCols - 1) / kCols));
  for (int2 at = walk.place(); at.x >= 0; walk.next(), at = walk.place()) {
    TilePlace place{static_cast<std::int64_t>(at.x) * kTileRows, static_cast<std::int64_t>(at.y) * kCols, kTileRows,
                    kCols};
    if (tensor.rows - place.row0 < kTileRows) place.rows = static_cast<int>(tensor.rows - place.row0);
    if (tensor.cols - place.col0 < kCols) place.cols = static_cast<int>(tensor.cols - place.col0);
    start_copy<kBf16>(tensor, place, tile);
    __pipeline_commit();
    begin(place);
    __pipeline_wait_prior(0);
    __syncthreads();
    work(place);
    __syncthreads();
  }
}

}  // namespace ng::cuda::fast
