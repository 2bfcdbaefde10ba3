// SPDX-License-Identifier: Apache-2.0
//
// From lines to codes and scales. All lines of a tile take the short way; tiles that are not ordinary are encoded again
// by encode_special.
#include "fast/quantize_tiles.hpp"

#include "fast/quantize_rows.hpp"
#include "fast/scales.cuh"
#include "fast/served_specs.hpp"
#include "fast/special.cuh"
#include "fast/tiles.cuh"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda::fast {

namespace {

/// A form, and what the host can make ready for it.
struct TileForm : QuantizeJob {
  bool wanted = false;
  HadamardFactors hadamard;
  PhiloxKeys keys{};
};

/// One or both forms of a tensor; the groups of both are the same.
struct TileJob : TileSource {
  TileForm row, column;
  const GroupExtent* groups = nullptr;
  std::int64_t group_count = 0;
};

__device__ std::int64_t group_of(const TileJob& job, std::int64_t row) {
  std::int64_t low = 0;
  for (std::int64_t high = job.group_count - 1; low < high;) {
    const std::int64_t middle = (low + high) / 2;
    if (row < job.groups[middle].end)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/// For two-level formats, of each form and slab of a tile: the factor of each E4M3 scale under its group's tensor
/// scale. Warp w makes the table of form w / kSlabs, slab w % kSlabs, when its group is another than `made`.
template <bool kTwoLevel>
struct FactorTables {
  float factors[2 * kSlabs][kE4m3Codes];
  float wanted[2 * kSlabs];

  __device__ void make(const TileJob& job, const TilePlace& place, std::int64_t& made) {
    static_assert(2 * kSlabs == kWarps);
    const int warp = static_cast<int>(threadIdx.x / 32);
    const TileForm& form = warp < kSlabs ? job.row : job.column;
    const int row = warp % kSlabs * kLine;
    if (!form.wanted || (row >= place.rows && job.group_count > 1)) return;
    const std::int64_t group = group_of(job, place.row0 + row);
    if (group == made) return;
    made = group;
    const TensorScale tensor = form.tensor[group];
    for (std::uint32_t code = threadIdx.x % 32; code < kE4m3Codes; code += 32)
      factors[warp][code] = te_factor(code, tensor.decode);
    if (threadIdx.x % 32 == 0) wanted[warp] = wanted_by_te(tensor);
  }
  __device__ ScaleSource<true> of(const TileForm&, int form, int slab) const {
    return {0.0f, wanted[form * kSlabs + slab], 0.0f, factors[form * kSlabs + slab]};
  }
};
template <>
struct FactorTables<false> {
  __device__ ScaleSource<false> of(const TileForm& form, int, int) const { return {form.spec.amax_floor}; }
};

/// The line as the form quantizes it. FP32 lines have no transform (serves_front).
template <class Line>
__device__ void transform(const TileForm& form, Line& line) {
  if constexpr (Line::kPacked) {
    if (form.spec.hadamard.size != 0) line = hadamard_16(line, form.hadamard);
  }
}

/// Where a line is in its form: element `along` of line `across` begins it. `lane_of_tile`: which of the four
/// neighbouring lanes that share a tile of 128 has it. A line outside the tensor holds anything.
struct LinePlace {
  std::int64_t across, along;
  int lane_of_tile;
  bool inside;
};

/// Writes the 8-bit codes of a line. Two neighbouring lanes, `distance` apart, exchange halves: each instruction of a
/// warp fills whole sectors of memory.
__device__ inline void store_bytes(uint4* to, const std::uint32_t (&words)[8], int distance, bool inside) {
  const bool second = (threadIdx.x & static_cast<unsigned>(distance)) != 0;
  const bool other_inside = __shfl_xor_sync(0xffffffffu, inside, distance);
  std::uint32_t got[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) got[i] = __shfl_xor_sync(0xffffffffu, second ? words[i] : words[4 + i], distance);
  // The lines of both are 64 bytes: the first lane writes the first 16 of each line, the second the others.
  if (second ? other_inside : inside)
    to[second ? -1 : 0] =
        second ? uint4{got[0], got[1], got[2], got[3]} : uint4{words[0], words[1], words[2], words[3]};
  if (second ? inside : other_inside)
    to[second ? 1 : 2] = second ? uint4{words[4], words[5], words[6], words[7]} : uint4{got[0], got[1], got[2], got[3]};
}

/// Codes and scales of a line.
template <class Spec, bool kStochastic, bool kIsColumn, class Line, class Bytes, class Scales>
__device__ void quantize_line(const TileJob& job, Line& line, const Bytes& bytes, const Scales& scales,
                              const LinePlace& at) {
  const TileForm& form = kIsColumn ? job.column : job.row;
  constexpr int kNeighbour = kIsColumn ? 1 : 8;  // lanes from one line to the next of the same row or column
  constexpr int kHere = Spec::kTile < kLine ? Spec::kTile : kLine;  // elements of a tile in this line
  constexpr int kTiles = kLine / kHere;
  constexpr int kCodeWords = kHere * Spec::kBits / 32;
  std::uint32_t words[kTiles][kCodeWords];
  std::uint32_t scale_codes[kTiles];
  std::uint32_t amaxes[kTiles];
  std::uint32_t special = 0;  // bit t: tile t of the line takes the long way
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    std::uint32_t amax = line.template amax<kHere>(tile * kHere);
    if constexpr (Spec::kTile > kLine) {
      amax = at.inside ? amax : 0u;
#pragma unroll
      for (int distance = kNeighbour; distance < 4 * kNeighbour; distance *= 2) {
        const std::uint32_t other = __shfl_xor_sync(0xffffffffu, amax, distance);
        amax = other > amax ? other : amax;
      }
    }
    const QuickScale scale = quick_scale<Spec>(amax, scales);
    if (!scale.ordinary) {
      if (scale.clamped)
        line.template clamp<kHere>(tile * kHere, clamp_bound(scale.factor));
      else
        special |= 1u << tile;
    }
    amaxes[tile] = amax;
    scale_codes[tile] = scale.code;
    encode_tile<Spec, kStochastic, kHere>(scale.factor, line, tile * kHere, bytes, words[tile]);
  }
  uint4* to = reinterpret_cast<uint4*>(form.codes + at.across * form.row_bytes + at.along * Spec::kBits / 8);
  if constexpr (Spec::kBits == 8) store_bytes(to, words[0], kNeighbour, at.inside);
  if (!at.inside) return;
  const auto word = [&](int w) { return words[w / kCodeWords][w % kCodeWords]; };
  if constexpr (Spec::kBits == 4) to[0] = uint4{word(0), word(1), word(2), word(3)};
  const std::int64_t number = at.across * form.scale_cols + at.along / Spec::kTile;
  if constexpr (Spec::kScale == ScaleFormat::f32) {
    if (at.lane_of_tile == 0) static_cast<float*>(form.scales)[number] = float_of(scale_codes[0]);
  } else if constexpr (kTiles == 1) {
    static_cast<std::uint8_t*>(form.scales)[number] = static_cast<std::uint8_t>(scale_codes[0]);
  } else {
    reinterpret_cast<std::uint16_t*>(form.scales)[number / 2] =
        static_cast<std::uint16_t>(scale_codes[0] | scale_codes[1] << 8);
  }
  if (special == 0) return;
  TensorScale tensor;
  if constexpr (Spec::kScale == ScaleFormat::e4m3)
    tensor = form.tensor[group_of(job, kIsColumn ? at.along : at.across)];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
    if ((special >> tile & 1u) != 0)
      encode_special<Line::kPacked, Spec::kBits>(&form, kIsColumn, at.across, at.along + tile * kHere, kHere,
                                                 amaxes[tile], tensor.encode, tensor.decode,
                                                 Spec::kTile <= kLine || at.lane_of_tile == 0);
}

// The random bytes of a warp's 16 columns, as 16-bit elements of 8 columns: column c has the bytes of columns c and
// c + 8. Rows of 16 bytes, exchanged by slab as words_at does.
constexpr int kBytesOfWarp = kTileRows * 16;

__device__ inline int byte_row(int row) {
  return row ^ (row / kLine % 2) ^ (row / kLine / 2 * 4);
}

/// Draws them for this warp.
__device__ inline void draw_column_bytes(const TileForm& form, const TilePlace& place, uint4* bytes) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int col = static_cast<int>(threadIdx.x / 32 * 16);
#pragma unroll 2
  for (int slab = 0; slab < kSlabs; ++slab) {
    const int row = slab * kLine + lane;
    if (!place.inside(row, col)) break;
    const uint4 b = sixteen_bytes(form, form.keys, place.row0 + row, place.col0 + col);
    bytes[byte_row(row)] = uint4{__byte_perm(b.x, b.z, 0x5140), __byte_perm(b.x, b.z, 0x7362),
                                 __byte_perm(b.y, b.w, 0x5140), __byte_perm(b.y, b.w, 0x7362)};
  }
}

/// Those of a column line: word i of eight elements has, in its halves, elements pair_first(i) and the next but one.
struct ColumnBytes {
  std::uint32_t word[kLine / 2];
  unsigned selector;  ///< of the column's byte in each half

  __device__ ColumnBytes(const uint4* of_warp, int pass) : selector(pass == 0 ? 0x4240 : 0x4341) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int matrix = lane / 8;
    const int row = lane % 8 / 2 * kLine + (matrix % 2 * 4 + matrix / 2) + lane % 2 * 2;
#pragma unroll
    for (int i = 0; i < kLine / 8; ++i) {
      const uint4 four = load_transposed(of_warp + byte_row(row) + 8 * i);
      word[4 * i] = four.x;
      word[4 * i + 1] = four.y;
      word[4 * i + 2] = four.z;
      word[4 * i + 3] = four.w;
    }
  }
  __device__ void pairs(int first, std::uint32_t (&bytes)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) bytes[i] = __byte_perm(word[first / 2 + i], 0u, selector);
  }
};

constexpr int kBlocksAtOnce = 4;  ///< of a multiprocessor, as many as the registers of most kernels allow

template <bool kBf16, class Spec, bool kStochastic>
__global__ void __launch_bounds__(kThreadsPerBlock, kBlocksAtOnce)
    quantize_tiles_kernel(const __grid_constant__ TileJob job) {
  constexpr bool kTwoLevel = Spec::kScale == ScaleFormat::e4m3;
  extern __shared__ uint4 sm_memory[];
  __shared__ FactorTables<kTwoLevel> sm_tables;
  std::uint32_t* tile = reinterpret_cast<std::uint32_t*>(sm_memory);
  uint4* sm_bytes = sm_memory + kTileBytes / 16 + threadIdx.x / 32 * (kBytesOfWarp / 16);
  std::int64_t group = -1;  // of the table that this warp has made
  const auto begin = [&](const TilePlace& place) {
    if constexpr (kTwoLevel) sm_tables.make(job, place, group);
  };
  const auto work = [&](const TilePlace& place) {
    if (job.row.wanted) {
      for_row_lines<kBf16>(tile, [&](auto& line, int local_row, int in_row) {
        const std::int64_t row = place.row0 + local_row;
        const std::int64_t col = place.col0 + in_row * kLine;
        const LinePlace at{row, col, in_row, place.inside(local_row, in_row * kLine)};
        const auto scales = sm_tables.of(job.row, 0, local_row / kLine);
        transform(job.row, line);
        if constexpr (kStochastic) {
          ElementBytes<kLine> bytes{};
          if (at.inside) {
            const uint4 low = sixteen_bytes(job.row, job.row.keys, row, col);
            const uint4 high = sixteen_bytes(job.row, job.row.keys, row, col + 16);
            bytes = ElementBytes<kLine>{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
          }
          quantize_line<Spec, true, false>(job, line, bytes, scales, at);
        } else {
          quantize_line<Spec, false, false>(job, line, NoBytes{}, scales, at);
        }
      });
    }
    if (!job.column.wanted) return;
    if constexpr (kStochastic) {
      draw_column_bytes(job.column, place, sm_bytes);
      __syncwarp();
    }
    for_column_lines<kBf16>(tile, [&](auto& line, int local_col, int slab, int pass) {
      const std::int64_t row = place.row0 + slab * kLine;
      const std::int64_t col = place.col0 + local_col;
      const LinePlace at{col, row, slab, place.inside(slab * kLine, local_col)};
      const auto scales = sm_tables.of(job.column, 1, slab);
      transform(job.column, line);
      if constexpr (kStochastic)
        quantize_line<Spec, true, true>(job, line, ColumnBytes(sm_bytes, pass), scales, at);
      else
        quantize_line<Spec, false, true>(job, line, NoBytes{}, scales, at);
    });
  };
  for_tiles<kBf16>(job, tile, begin, work);
}

/// Largest magnitudes of the forms' groups. A slab of 32 rows lies in one group.
template <bool kBf16>
__global__ void __launch_bounds__(kThreadsPerBlock, kBlocksAtOnce)
    tiles_amax_kernel(const __grid_constant__ TileJob job) {
  extern __shared__ uint4 sm_memory[];
  std::uint32_t* tile = reinterpret_cast<std::uint32_t*>(sm_memory);
  __shared__ std::uint32_t sm_amax[2][kSlabs];
  if (threadIdx.x < 2 * kSlabs) sm_amax[threadIdx.x / kSlabs][threadIdx.x % kSlabs] = 0;
  const auto amax_of = [&](const TileForm& form, auto& line, bool inside) {
    transform(form, line);
    const std::uint32_t amax = inside ? line.template amax<kLine>(0) : 0u;
    return is_nan_bits(amax) && form.spec.hadamard.size != 0 ? kQuietNanBits : amax;
  };
  const auto work = [&](const TilePlace& place) {
    if (job.row.wanted) {
      for_row_lines<kBf16>(tile, [&](auto& line, int local_row, int in_row) {
        const std::uint32_t here = amax_of(job.row, line, place.inside(local_row, in_row * kLine));
        const std::uint32_t amax = __reduce_max_sync(0xffffffffu, here);
        if (threadIdx.x % 32 == 0) atomicMax(&sm_amax[0][local_row / kLine], amax);  // a warp's rows lie in one slab
      });
    }
    if (job.column.wanted) {
      std::uint32_t largest = 0;
      for_column_lines<kBf16>(tile, [&](auto& line, int local_col, int slab, int) {
        const std::uint32_t amax = amax_of(job.column, line, place.inside(slab * kLine, local_col));
        largest = amax > largest ? amax : largest;
      });
#pragma unroll
      for (int distance = kSlabs; distance < 32; distance *= 2) {
        const std::uint32_t other = __shfl_xor_sync(0xffffffffu, largest, distance);
        largest = other > largest ? other : largest;
      }
      if (threadIdx.x % 32 < kSlabs) atomicMax(&sm_amax[1][threadIdx.x % 32], largest);
    }
    __syncthreads();
    if (threadIdx.x < 2 * kSlabs) {
      const bool is_row = threadIdx.x < kSlabs;
      const TileForm& form = is_row ? job.row : job.column;
      const std::int64_t row = place.row0 + threadIdx.x % kSlabs * kLine;
      std::uint32_t& amax = sm_amax[threadIdx.x / kSlabs][threadIdx.x % kSlabs];
      const bool of_all = form.spec.tensor_scope == TensorScope::whole;
      if ((is_row ? job.row.wanted : job.column.wanted) && row < job.rows && amax != 0)
        atomicMax(form.group_amax + (of_all ? 0 : group_of(job, row)), amax);
      amax = 0;
    }
  };
  for_tiles<kBf16>(
      job, tile, [](const TilePlace&) {}, work);
}

bool is_stochastic(const QuantizerSpec& spec) {
  return spec.cast.rounding == Rounding::stochastic;
}

TileForm tile_form(const QuantizeJob& job) {
  return TileForm{job, true, hadamard_factors(job.signs), stream_keys(job.stream)};
}

TileJob tile_job(const QuantizeJob* row, const QuantizeJob* column, Dtype source) {
  const QuantizeJob& any = row != nullptr ? *row : *column;
  TileJob job;
  job.source = any.source;
  job.rows = any.rows;
  job.cols = any.cols;
  job.row_bytes = any.stride * (source == Dtype::bf16 ? 2 : 4);
  job.groups = any.groups;
  job.group_count = any.group_count;
  if (row != nullptr) job.row = tile_form(*row);
  if (column != nullptr) job.column = tile_form(*column);
  return job;
}

template <bool kBf16, class Kernel>
void launch_tiles(const char* name, Kernel kernel, const TileJob& job, bool stochastic, cudaStream_t stream) {
  const std::int64_t tiles =
      (job.rows + kTileRows - 1) / kTileRows * ((job.cols + kTileCols<kBf16> - 1) / kTileCols<kBf16>);
  const int bytes = kTileBytes + (stochastic ? kWarps * kBytesOfWarp : 0);
  launch_resident(name, kernel, tiles, bytes, stream, job);
}

}  // namespace

bool tiles_serve(const QuantizeJob& job, Dtype source, std::span<const GroupExtent> extents) {
  const QuantizerSpec& spec = job.spec;
  if (!serves_front(spec, source)) return false;
  // FP32 tiles are half as wide as a tile of 128.
  if (source == Dtype::f32 && job.orientation == Orientation::row && spec.tile_cols > kTileCols<false>) return false;
  if (job.rows % kLine != 0 || job.cols % kLine != 0) return false;
  if (job.rows / kTileRows >= 1 << 30 || job.cols / kTileWords >= 1 << 24) return false;
  if (reinterpret_cast<std::uintptr_t>(job.source) % 16 != 0) return false;
  if (job.stride * (source == Dtype::bf16 ? 2 : 4) % 16 != 0) return false;
  if (reinterpret_cast<std::uintptr_t>(job.codes) % 16 != 0) return false;
  if (spec.cast.overflow != Overflow::saturate || spec.cast.nan == NanChoice::error) return false;
  if (spec.application != ScaleApplication::multiply) return false;
  if (is_stochastic(spec) && (job.logical_cols % 16 != 0 || job.logical_col0 % 16 != 0)) return false;
  const std::int64_t unit = job.orientation == Orientation::column && spec.tile_cols > kLine ? spec.tile_cols : kLine;
  if (job.group_count > 1)
    for (const GroupExtent& group : extents)
      if (group.begin % unit != 0 || (group.end % unit != 0 && group.end != job.rows)) return false;
  return visit_spec(spec, [](auto) {});
}

bool tiles_serve_together(const QuantizeJob& row, const QuantizeJob& column) {
  QuantizerSpec same = column.spec;
  same.hadamard = row.spec.hadamard;
  return row.orientation == Orientation::row && column.orientation == Orientation::column &&
         row.source == column.source && row.rows == column.rows && row.cols == column.cols &&
         row.stride == column.stride && same == row.spec;
}

void quantize_tiles(const QuantizeJob* row, const QuantizeJob* column, Dtype source, cudaStream_t stream) {
  const TileJob job = tile_job(row, column, source);
  const QuantizerSpec& spec = row != nullptr ? row->spec : column->spec;
  const bool served = visit_spec(spec, [&]<class Spec>(Spec) {
    if (source == Dtype::f32)
      return launch_tiles<false>("quantize_tiles", quantize_tiles_kernel<false, Spec, false>, job, false, stream);
    if constexpr (Spec::kBits == 4) {
      if (is_stochastic(spec))
        return launch_tiles<true>("quantize_tiles", quantize_tiles_kernel<true, Spec, true>, job, true, stream);
    }
    launch_tiles<true>("quantize_tiles", quantize_tiles_kernel<true, Spec, false>, job, false, stream);
  });
  if (!served) throw MachineError("kernel quantize_tiles does not serve this quantizer");
}

void tiles_amax(const QuantizeJob* row, const QuantizeJob* column, Dtype source, cudaStream_t stream) {
  const TileJob job = tile_job(row, column, source);
  if (source == Dtype::bf16)
    launch_tiles<true>("tiles_amax", tiles_amax_kernel<true>, job, false, stream);
  else
    launch_tiles<false>("tiles_amax", tiles_amax_kernel<false>, job, false, stream);
}

}  // namespace ng::cuda::fast
