// SPDX-License-Identifier: Apache-2.0
//
// Tiles of 128 rows and 64 words (128 BF16 or 64 FP32 elements) on their way through shared memory: blocks of 256
// threads walk over them, the next one is being copied while one is worked on. Chunks of 16 bytes are exchanged by row
// and by slab of 32 rows, so that lines along rows and along columns both come out without meeting a bank twice.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

#include "fast/line.cuh"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

constexpr int kTileRows = 128;
constexpr int kTileWords = 64;  // of a row
constexpr int kSlabs = kTileRows / kLine;
constexpr int kStageWords = kTileRows * kTileWords;
constexpr int kStages = 2;

/// The tensor that is read.
struct TileSource {
  const void* source = nullptr;
  std::int64_t rows = 0, cols = 0, row_bytes = 0;  // bytes from row to row
};

template <bool kBf16>
constexpr int kTileCols = kBf16 ? 2 * kTileWords : kTileWords;
template <bool kBf16>
using LineOf = std::conditional_t<kBf16, Bf16Line, FloatLine>;

/// Place of a word of a tile.
__device__ inline int word_at(int row, int word) {
  return row * kTileWords + (word ^ (row / kLine * 8) ^ (row % 8 * 4));
}

/// Starts the copy of the tile at (row0, col0) into `stage`; what lies outside the tensor becomes zero.
template <bool kBf16>
__device__ void start_copy(const TileSource& tensor, std::int64_t row0, std::int64_t col0, std::uint32_t* stage) {
  constexpr int kWidth = kBf16 ? 2 : 4;
  constexpr int kChunks = kTileWords / 4;
  constexpr int kRowsAtOnce = kThreadsPerBlock / kChunks;
  const int row = static_cast<int>(threadIdx.x) / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const std::int64_t rows_left = col0 + chunk * (16 / kWidth) < tensor.cols ? tensor.rows - row0 - row : 0;
  const std::uint8_t* from =
      static_cast<const std::uint8_t*>(tensor.source) + (row0 + row) * tensor.row_bytes + col0 * kWidth + chunk * 16;
  const std::int64_t step = kRowsAtOnce * tensor.row_bytes;
#pragma unroll
  for (int pass = 0; pass < kTileRows / kRowsAtOnce; ++pass, from += step) {
    const bool inside = pass * kRowsAtOnce < rows_left;
    __pipeline_memcpy_async(stage + word_at(row + pass * kRowsAtOnce, chunk * 4), inside ? from : tensor.source, 16,
                            inside ? 0 : 16);
  }
}

/// Calls row(line, local row, number of the line in it) for the row lines of a tile. Neighbouring lines of a row are 8
/// lanes apart.
template <bool kBf16, class Row>
__device__ void for_row_lines(const std::uint32_t* tile, const Row& row) {
  constexpr int kLineWords = kBf16 ? kLine / 2 : kLine;
  constexpr int kLines = kTileWords / kLineWords;
#pragma unroll 1
  for (int pass = 0; pass < kTileRows * kLines / kThreadsPerBlock; ++pass) {
    const int number = pass * kThreadsPerBlock + static_cast<int>(threadIdx.x);
    const int local_row = number / (8 * kLines) * 8 + number % 8;
    const int in_row = number / 8 % kLines;
    LineOf<kBf16> line;
#pragma unroll
    for (int chunk = 0; chunk < kLineWords / 4; ++chunk) {
      const uint4 four = *reinterpret_cast<const uint4*>(tile + word_at(local_row, in_row * kLineWords + 4 * chunk));
      line.set(4 * chunk, four);
    }
    row(line, local_row, in_row);
  }
}

/// Calls column(line, local column, slab) for the column lines of a tile. Slabs of a column are in neighbouring lanes.
template <bool kBf16, class Column>
__device__ void for_column_lines(const std::uint32_t* tile, const Column& column) {
  static_assert(kTileWords * kSlabs == kThreadsPerBlock);
  const int slab = static_cast<int>(threadIdx.x) % kSlabs;
  const int word = static_cast<int>(threadIdx.x) / kSlabs;
  if constexpr (kBf16) {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {  // read twice: held, 32 words would cost more than they save
      const unsigned halves = half == 0 ? 0x5410u : 0x7632u;
      Bf16Line line;
#pragma unroll
      for (int k = 0; k < kLine / 2; ++k)
        line.word[k] = __byte_perm(tile[word_at(slab * kLine + 2 * k, word)],
                                   tile[word_at(slab * kLine + 2 * k + 1, word)], halves);
      column(line, 2 * word + half, slab);
    }
  } else {
    FloatLine line;
#pragma unroll
    for (int r = 0; r < kLine; ++r) line.value[r] = float_of(tile[word_at(slab * kLine + r, word)]);
    column(line, word, slab);
  }
}

/// Where tile number `tile` begins: eight tiles down, then the next column of tiles, so that the bytes of neighbouring
/// scales are written close in time.
struct TileOrder {
  static constexpr std::int64_t kDown = 8;
  std::int64_t down;    ///< tiles in a column of tiles
  std::int64_t across;  ///< tiles in a row of tiles

  __device__ std::int64_t tiles() const { return down * across; }
  __device__ longlong2 place(std::int64_t tile) const {
    const std::int64_t band = tile / (kDown * across);
    const std::int64_t height = down - band * kDown < kDown ? down - band * kDown : kDown;
    const std::int64_t in_band = tile - band * kDown * across;
    return longlong2{band * kDown + in_band % height, in_band / height};
  }
};

/// Walks over the block's tiles: work(tile in shared memory, row0, col0), all threads at once.
template <bool kBf16, class Work>
__device__ void for_tiles(const TileSource& tensor, std::uint32_t* stages, const Work& work) {
  const TileOrder order{(tensor.rows + kTileRows - 1) / kTileRows,
                        (tensor.cols + kTileCols<kBf16> - 1) / kTileCols<kBf16>};
  const std::int64_t tiles = order.tiles();
  const auto start = [&](std::int64_t tile, int stage) {
    if (tile < tiles) {
      const longlong2 at = order.place(tile);
      start_copy<kBf16>(tensor, at.x * kTileRows, at.y * kTileCols<kBf16>, stages + stage * kStageWords);
    }
    __pipeline_commit();
  };
  int stage = 0;
  start(blockIdx.x, stage);
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    if constexpr (kStages == 2) start(tile + gridDim.x, 1 - stage);
    __pipeline_wait_prior(kStages - 1);
    __syncthreads();
    const longlong2 at = order.place(tile);
    work(stages + stage * kStageWords, at.x * kTileRows, at.y * kTileCols<kBf16>);
    __syncthreads();
    if constexpr (kStages == 2)
      stage = 1 - stage;
    else
      start(tile + gridDim.x, 0);
  }
}

}  // namespace ng::cuda::fast
