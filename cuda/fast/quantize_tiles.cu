// SPDX-License-Identifier: Apache-2.0
//
// From lines to codes and scales. All lines of a tile take the short way; what is not finite is encoded again, element
// by element, by a function of its own, so that the registers of the short way hold nothing for it.
#include "fast/quantize_tiles.hpp"

#include "fast/scales.cuh"
#include "fast/served_specs.hpp"
#include "fast/tiles.cuh"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda::fast {

namespace {

/// What a kernel needs to know of a form.
struct TileForm {
  QuantizerSpec spec;
  bool wanted = false;
  bool transform = false;
  std::uint32_t signs = 0;
  RandomStream stream;
  std::int64_t logical_cols = 0, logical_row0 = 0, logical_col0 = 0;
  const std::int64_t* row_ids = nullptr;
  const TensorScale* tensor = nullptr;  // of each group
  std::uint32_t* group_amax = nullptr;
  bool one_amax = false;  // of all groups
  std::uint8_t* codes = nullptr;
  std::int64_t row_bytes = 0;
  void* scales = nullptr;
  std::int64_t scale_cols = 0;
};

struct TileJob : TileSource {
  const GroupExtent* groups = nullptr;
  std::int64_t group_count = 0;
  TileForm row, column;
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

/// The random bytes of 16 neighbours of a row: zero for padding.
__device__ inline uint4 sixteen_bytes(const TileForm& form, std::int64_t row, std::int64_t col) {
  const std::int64_t logical = form.row_ids != nullptr ? form.row_ids[row] : form.logical_row0 + row;
  if (logical < 0) return uint4{0, 0, 0, 0};
  const std::uint64_t element = static_cast<std::uint64_t>(logical * form.logical_cols + form.logical_col0 + col);
  const PhiloxBlock block = random_block(form.stream, element / 16);
  return uint4{block.word[0], block.word[1], block.word[2], block.word[3]};
}

/// The line as the form quantizes it. FP32 lines have no transform (tiles_serve).
template <class Line>
__device__ Line transformed(const TileForm& form, const Line& raw) {
  if constexpr (Line::kPacked) {
    if (form.transform) return hadamard_16(raw, form.signs);
  }
  return raw;
}

/// What tile_scale reads of a served spec.
template <class Spec>
__device__ QuantizerSpec scale_spec(const QuantizerSpec& given) {
  QuantizerSpec spec;
  spec.element = kFormatOf<Spec::kId>;
  spec.scale_format = Spec::kScale;
  spec.rule = Spec::kRule;
  spec.infinite_scale_code = given.infinite_scale_code;
  spec.amax_floor = given.amax_floor;
  return spec;
}

/// Codes of `count` elements of a form from element `along` of line `across` on, element by element from global memory:
/// for tiles with a value or a factor that is not finite.
template <bool kBf16, int kBits>
__device__ __noinline__ void encode_special(const TileJob* job, const TileForm* form, bool is_column,
                                            std::int64_t across, std::int64_t along, int count, float factor,
                                            bool poisoned) {
  const QuantizerSpec& spec = form->spec;
  TileScale scale;
  scale.encode = factor;
  scale.poisoned = poisoned;
#pragma unroll 1
  for (int first = 0; first < count; first += 16) {
    float x[16];
    std::uint32_t random[16];
#pragma unroll 1
    for (int i = 0; i < 16; ++i) {
      const std::int64_t row = is_column ? along + first + i : across;
      const std::int64_t col = is_column ? across : along + first + i;
      const std::uint8_t* from =
          static_cast<const std::uint8_t*>(job->source) + row * job->row_bytes + col * (kBf16 ? 2 : 4);
      x[i] = kBf16 ? float_of(static_cast<std::uint32_t>(*reinterpret_cast<const std::uint16_t*>(from)) << 16)
                   : *reinterpret_cast<const float*>(from);
      random[i] = 0;
      const std::int64_t logical = form->row_ids != nullptr ? form->row_ids[row] : form->logical_row0 + row;
      if (spec.cast.rounding == Rounding::stochastic && logical >= 0)
        random[i] = random_draw(form->stream,
                                static_cast<std::uint64_t>(logical * form->logical_cols + form->logical_col0 + col), 8);
    }
    if (form->transform) {
      HadamardSignMask mask;
      mask.word[0] = form->signs;
      hadamard_transform(spec.hadamard, mask, x);
    }
    std::uint8_t* to = form->codes + across * form->row_bytes + (along + first) * kBits / 8;
#pragma unroll 1
    for (int i = 0; i < 16; i += 8 / kBits) {
      std::uint32_t byte = encode_scaled(spec, scale, x[i], random[i]);
      if (kBits == 4) byte |= encode_scaled(spec, scale, x[i + 1], random[i + 1]) << 4;
      to[i * kBits / 8] = static_cast<std::uint8_t>(byte);
    }
  }
}

/// Codes and scales of a line: element `along` of line `across` of the form begins it. `lane_of_tile`: which of the
/// four neighbouring lanes that share a tile of 128 this is.
template <class Spec, bool kStochastic, bool kIsColumn, class Line, class Bytes>
__device__ void write_line(const TileJob& job, const TileForm& form, const Line& line, const Bytes& bytes,
                           const TensorScale& tensor, std::int64_t across, std::int64_t along, int lane_of_tile,
                           bool inside) {
  constexpr int kHere = Spec::kTile < kLine ? Spec::kTile : kLine;  // elements of a tile in this line
  constexpr int kTiles = kLine / kHere;
  constexpr int kCodeWords = kHere * Spec::kBits / 32;
  const QuantizerSpec spec = scale_spec<Spec>(form.spec);
  std::uint32_t words[kTiles][kCodeWords];
  std::uint32_t scale_codes[kTiles];
  float factors[kTiles];
  std::uint32_t special = 0;  // bit t: tile t of the line has what encode_tile does not take; bit 8 + t: it is poisoned
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    std::uint32_t amax = line.template amax<kHere>(tile * kHere);
    if constexpr (Spec::kTile > kLine) {
#pragma unroll
      for (int distance = kIsColumn ? 1 : 8; distance < (kIsColumn ? 4 : 32); distance *= 2) {
        const std::uint32_t other = __shfl_xor_sync(0xffffffffu, amax, distance);
        amax = other > amax ? other : amax;
      }
    }
    const TileScale scale = scale_of<Spec>(spec, amax, tensor);
    scale_codes[tile] = scale.code;
    factors[tile] = scale.encode;
    if (amax >= kInfinityBits || !is_finite_bits(bits_of(scale.encode)))
      special |= (scale.poisoned ? 0x101u : 1u) << tile;
    encode_tile<Spec, kStochastic, kHere>(scale.encode, line, tile * kHere, bytes, words[tile]);
  }
  if (!inside) return;
  const auto word = [&](int w) { return words[w / kCodeWords][w % kCodeWords]; };
  uint4* to = reinterpret_cast<uint4*>(form.codes + across * form.row_bytes + along * Spec::kBits / 8);
  to[0] = uint4{word(0), word(1), word(2), word(3)};
  if constexpr (Spec::kBits == 8) to[1] = uint4{word(4), word(5), word(6), word(7)};
  if (special != 0) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      if ((special >> tile & 1u) != 0)
        encode_special<Line::kPacked, Spec::kBits>(&job, &form, kIsColumn, across, along + tile * kHere, kHere,
                                                   factors[tile], (special >> tile & 0x100u) != 0);
  }
  const std::int64_t number = across * form.scale_cols + along / Spec::kTile;
  if constexpr (Spec::kScale == ScaleFormat::f32) {
    if (lane_of_tile == 0) static_cast<float*>(form.scales)[number] = float_of(scale_codes[0]);
  } else if constexpr (kTiles == 1) {
    static_cast<std::uint8_t*>(form.scales)[number] = static_cast<std::uint8_t>(scale_codes[0]);
  } else {
    reinterpret_cast<std::uint16_t*>(form.scales)[number / 2] =
        static_cast<std::uint16_t>(scale_codes[0] | scale_codes[1] << 8);
  }
}

/// The random byte of each element of a tile, [row][column]; 16-byte pieces exchanged by slab.
__device__ inline int byte_at(int row, int col) {
  return row * kTileCols<true> + (col ^ (row / kLine) * 16);
}

/// The bytes of a column line.
struct ColumnBytes {
  const std::uint8_t* bytes;
  int row, col;
  __device__ std::uint32_t biased(int i) const { return 0xf9000000u | bytes[byte_at(row + i, col)]; }
};

template <bool kBf16, class Spec, bool kStochastic>
__global__ void __launch_bounds__(kThreadsPerBlock, kStochastic ? 2 : 3)
    quantize_tiles_kernel(const __grid_constant__ TileJob job) {
  extern __shared__ uint4 sm_memory[];
  std::uint32_t* sm_stages = reinterpret_cast<std::uint32_t*>(sm_memory);
  std::uint8_t* sm_bytes = reinterpret_cast<std::uint8_t*>(sm_stages + kStages * kStageWords);
  const auto tensor_of = [&](const TileForm& form, std::int64_t row) {
    return Spec::kScale == ScaleFormat::e4m3 && row < job.rows ? form.tensor[group_of(job, row)] : TensorScale{};
  };
  for_tiles<kBf16>(job, sm_stages, [&](const std::uint32_t* tile, std::int64_t row0, std::int64_t col0) {
    if constexpr (kStochastic) {
      if (job.column.wanted) {
        constexpr int kPerRow = kTileCols<kBf16> / 16;
        for (int i = threadIdx.x; i < kTileRows * kPerRow; i += kThreadsPerBlock) {
          const int row = i / kPerRow;
          const int col = i % kPerRow * 16;
          if (row0 + row < job.rows && col0 + col < job.cols)
            *reinterpret_cast<uint4*>(sm_bytes + byte_at(row, col)) = sixteen_bytes(job.column, row0 + row, col0 + col);
        }
      }
    }
    if (job.row.wanted) {
      for_row_lines<kBf16>(tile, [&](const auto& raw, int local_row, int in_row) {
        const std::int64_t row = row0 + local_row;
        const std::int64_t col = col0 + in_row * kLine;
        const bool inside = row < job.rows && col < job.cols;
        const auto line = transformed(job.row, raw);
        const TensorScale tensor = tensor_of(job.row, row);
        if constexpr (kStochastic) {
          LineBytes bytes{};
          if (inside) {
            const uint4 low = sixteen_bytes(job.row, row, col);
            const uint4 high = sixteen_bytes(job.row, row, col + 16);
            bytes = LineBytes{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
          }
          write_line<Spec, true, false>(job, job.row, line, bytes, tensor, row, col, in_row, inside);
        } else {
          write_line<Spec, false, false>(job, job.row, line, NoBytes{}, tensor, row, col, in_row, inside);
        }
      });
    }
    if (!job.column.wanted) return;
    if constexpr (kStochastic) __syncthreads();
    for_column_lines<kBf16>(tile, [&](const auto& raw, int local_col, int slab) {
      const std::int64_t row = row0 + slab * kLine;
      const std::int64_t col = col0 + local_col;
      const bool inside = row < job.rows && col < job.cols;
      const auto line = transformed(job.column, raw);
      const TensorScale tensor = tensor_of(job.column, row);
      if constexpr (kStochastic)
        write_line<Spec, true, true>(job, job.column, line, ColumnBytes{sm_bytes, slab * kLine, local_col}, tensor, col,
                                     row, slab, inside);
      else
        write_line<Spec, false, true>(job, job.column, line, NoBytes{}, tensor, col, row, slab, inside);
    });
  });
}

template <class Line>
__device__ std::uint32_t line_amax(const TileForm& form, const Line& raw) {
  return transformed(form, raw).template amax<kLine>(0);
}

/// Largest magnitudes of the forms' groups. A slab of 32 rows lies in one group.
template <bool kBf16>
__global__ void __launch_bounds__(kThreadsPerBlock, 3) tiles_amax_kernel(const __grid_constant__ TileJob job) {
  extern __shared__ uint4 sm_memory[];
  __shared__ std::uint32_t sm_amax[2][kSlabs];
  if (threadIdx.x < 2 * kSlabs) sm_amax[threadIdx.x / kSlabs][threadIdx.x % kSlabs] = 0;
  std::uint32_t* sm_stages = reinterpret_cast<std::uint32_t*>(sm_memory);
  for_tiles<kBf16>(job, sm_stages, [&](const std::uint32_t* tile, std::int64_t row0, std::int64_t) {
    if (job.row.wanted) {
      for_row_lines<kBf16>(tile, [&](const auto& raw, int local_row, int) {
        const std::uint32_t amax = __reduce_max_sync(0xffffffffu, line_amax(job.row, raw));
        if (threadIdx.x % 32 == 0) atomicMax(&sm_amax[0][local_row / kLine], amax);  // a warp's rows lie in one slab
      });
    }
    if (job.column.wanted) {
      std::uint32_t largest = 0;
      for_column_lines<kBf16>(tile, [&](const auto& raw, int, int) {
        const std::uint32_t amax = line_amax(job.column, raw);
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
      const TileForm& form = threadIdx.x < kSlabs ? job.row : job.column;
      const std::int64_t row = row0 + threadIdx.x % kSlabs * kLine;
      std::uint32_t& amax = sm_amax[threadIdx.x / kSlabs][threadIdx.x % kSlabs];
      if (form.wanted && row < job.rows && amax != 0)
        atomicMax(form.group_amax + (form.one_amax ? 0 : group_of(job, row)), amax);
      amax = 0;
    }
  });
}

bool is_stochastic(const QuantizerSpec& spec) {
  return spec.cast.rounding == Rounding::stochastic;
}

TileForm form_of(const QuantizeJob* job) {
  TileForm form;
  if (job == nullptr) return form;
  form.spec = job->spec;
  form.wanted = true;
  form.transform = job->spec.hadamard.size != 0;
  form.signs = job->signs.word[0];
  form.stream = job->stream;
  form.logical_cols = job->logical_cols;
  form.logical_row0 = job->logical_row0;
  form.logical_col0 = job->logical_col0;
  form.row_ids = job->row_ids;
  form.tensor = job->tensor;
  form.group_amax = job->group_amax;
  form.one_amax = job->spec.tensor_scope == TensorScope::whole;
  form.codes = job->codes;
  form.row_bytes = job->row_bytes;
  form.scales = job->scales;
  form.scale_cols = job->scale_cols;
  return form;
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
  job.row = form_of(row);
  job.column = form_of(column);
  return job;
}

template <bool kBf16, class Kernel>
void launch_tiles(const char* name, Kernel kernel, const TileJob& job, bool random_bytes, cudaStream_t stream) {
  const std::int64_t tiles =
      (job.rows + kTileRows - 1) / kTileRows * ((job.cols + kTileCols<kBf16> - 1) / kTileCols<kBf16>);
  const int bytes = kStages * kStageWords * 4 + (random_bytes ? kTileRows * kTileCols<kBf16> : 0);
  launch_resident(name, kernel, tiles, bytes, stream, job);
}

}  // namespace

bool tiles_serve(const QuantizeJob& job, Dtype source, std::span<const GroupExtent> extents) {
  const QuantizerSpec& spec = job.spec;
  if (source != Dtype::f32 && source != Dtype::bf16) return false;
  // FP32 tiles are half as wide as a tile of 128.
  if (source == Dtype::f32 && job.orientation == Orientation::row && spec.tile_cols > kTileCols<false>) return false;
  if (job.rows % kLine != 0 || job.cols % kLine != 0) return false;
  if (reinterpret_cast<std::uintptr_t>(job.source) % 16 != 0) return false;
  if (job.stride * (source == Dtype::bf16 ? 2 : 4) % 16 != 0) return false;
  if (reinterpret_cast<std::uintptr_t>(job.codes) % 16 != 0) return false;
  const HadamardSpec& h = spec.hadamard;
  if (source == Dtype::f32 && (h.size != 0 || is_stochastic(spec))) return false;
  if (h.size != 0 && (h.size != 16 || h.order != HadamardOrder::butterfly || h.result != HadamardResult::bf16))
    return false;
  if (spec.cast.overflow != Overflow::saturate || spec.cast.nan == NanChoice::error) return false;
  if (spec.application != ScaleApplication::multiply) return false;
  if (is_stochastic(spec)) {
    if (spec.cast.random_bits != 8 || spec.element_id != FormatId::e2m1) return false;
    if (job.logical_cols % 16 != 0 || job.logical_col0 % 16 != 0) return false;
  } else if (spec.cast.rounding != Rounding::nearest_even) {
    return false;
  }
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
