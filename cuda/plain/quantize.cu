// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of quantization: each thread calls its function of quantize_threads.hpp. Maxima of magnitudes are
// taken as integers, whose order in time does not matter.
#include "plain/quantize.hpp"

#include <string>

#include "narrowgauge/base/error.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

template <class Source>
struct Hadamard {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const { hadamard_thread<Source>(job, i); }
};

template <class Source>
struct TileAmax {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const {
    const AmaxOfPiece piece = amax_thread<Source>(job, i);
    atomic_max(&job.tile_amax[piece.tile], piece.amax);
    if (piece.nan_count != 0 && counts_nan(job.spec)) atomic_add(job.nan_inputs, piece.nan_count);
  }
};

struct GroupAmax {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const { atomic_max(&job.group_amax[amax_group(job, i)], job.tile_amax[i]); }
};

struct KnownAmax {
  QuantizeJob job;
  const std::uint32_t* known;
  NG_HD void operator()(std::int64_t i) const { known_amax_thread(job, known, i); }
};

struct TensorScales {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const { tensor_scale_thread(job, i); }
};

template <class Source>
struct TileScales {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const { tile_scale_thread<Source>(job, i); }
};

template <class Source>
struct Encode {
  QuantizeJob job;
  NG_HD void operator()(std::int64_t i) const { encode_thread<Source>(job, i); }
};

template <class Target>
struct Dequantize {
  DequantizeJob job;
  NG_HD void operator()(std::int64_t i) const { decode_thread<Target>(job, i); }
};

/// One kernel for f32 sources and one for bf16.
template <template <class> class Work, class Job>
void for_each_of(const char* name, Dtype dtype, std::int64_t count, Stream stream, const Job& job) {
  if (dtype == Dtype::f32)
    for_each(name, count, stream, Work<float>{job});
  else if (dtype == Dtype::bf16)
    for_each(name, count, stream, Work<std::uint16_t>{job});
  else
    throw MachineError(std::string("kernel ") + name + " takes f32 and bf16, not " + std::string(name_of(dtype)));
}

}  // namespace

void hadamard(const QuantizeJob& job, Dtype source, Stream stream) {
  for_each_of<Hadamard>("hadamard", source, hadamard_threads(job), stream, job);
}

void tile_amax(const QuantizeJob& job, Dtype source, Stream stream) {
  for_each_of<TileAmax>("tile_amax", source, amax_threads(job), stream, job);
}

void group_amax(const QuantizeJob& job, Stream stream) {
  for_each("group_amax", job.row_tiles * job.col_tiles, stream, GroupAmax{job});
}

void known_tile_amax(const QuantizeJob& job, const std::uint32_t* known, Stream stream) {
  for_each("known_tile_amax", job.group_count, stream, KnownAmax{job, known});
}

void tensor_scales(const QuantizeJob& job, Stream stream) {
  for_each("tensor_scales", job.group_count, stream, TensorScales{job});
}

void tile_scales(const QuantizeJob& job, Dtype source, Stream stream) {
  for_each_of<TileScales>("tile_scales", source, job.row_tiles * job.col_tiles, stream, job);
}

void encode(const QuantizeJob& job, Dtype source, Stream stream) {
  for_each_of<Encode>("encode", source, encode_threads(job), stream, job);
}

void dequantize(const DequantizeJob& job, Dtype target, Stream stream) {
  for_each_of<Dequantize>("dequantize", target, job.rows * job.cols, stream, job);
}

}  // namespace ng::cuda::plain
