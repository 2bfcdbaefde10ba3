// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels: each thread calls its function of quantize_threads.hpp. Maxima of magnitudes are taken as integers,
// whose order in time does not matter.
#include "plain/plain_kernels.hpp"

#include "narrowgauge/base/error.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::plain {

namespace {

template <class Source>
__global__ void hadamard_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() < hadamard_threads(job)) hadamard_thread<Source>(job, thread_number());
}

template <class Source>
__global__ void tile_amax_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() >= amax_threads(job)) return;
  const AmaxOfPiece piece = amax_thread<Source>(job, thread_number());
  atomicMax(&job.tile_amax[piece.tile], piece.amax);
  if (piece.nan_count != 0 && counts_nan(job.spec))
    atomicAdd(job.nan_inputs, static_cast<unsigned long long>(piece.nan_count));
}

__global__ void group_amax_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() >= job.row_tiles * job.col_tiles) return;
  atomicMax(&job.group_amax[amax_group(job, thread_number())], job.tile_amax[thread_number()]);
}

__global__ void tensor_scales_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() < job.group_count) tensor_scale_thread(job, thread_number());
}

template <class Source>
__global__ void tile_scales_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() < job.row_tiles * job.col_tiles) tile_scale_thread<Source>(job, thread_number());
}

template <class Source>
__global__ void encode_kernel(const __grid_constant__ QuantizeJob job) {
  if (thread_number() < encode_threads(job)) encode_thread<Source>(job, thread_number());
}

template <class Target>
__global__ void dequantize_kernel(const __grid_constant__ DequantizeJob job) {
  if (thread_number() < job.rows * job.cols) decode_thread<Target>(job, thread_number());
}

void check_dtype(const char* name, Dtype dtype) {
  if (dtype != Dtype::f32 && dtype != Dtype::bf16)
    throw MachineError(std::string("kernel ") + name + " takes f32 and bf16, not " + std::string(name_of(dtype)));
}

}  // namespace

void hadamard(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  check_dtype("hadamard", source);
  launch("hadamard", source == Dtype::f32 ? hadamard_kernel<float> : hadamard_kernel<std::uint16_t>,
         hadamard_threads(job), stream, job);
}

void tile_amax(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  check_dtype("tile_amax", source);
  launch("tile_amax", source == Dtype::f32 ? tile_amax_kernel<float> : tile_amax_kernel<std::uint16_t>,
         amax_threads(job), stream, job);
}

void group_amax(const QuantizeJob& job, cudaStream_t stream) {
  launch("group_amax", group_amax_kernel, job.row_tiles * job.col_tiles, stream, job);
}

void tensor_scales(const QuantizeJob& job, cudaStream_t stream) {
  launch("tensor_scales", tensor_scales_kernel, job.group_count, stream, job);
}

void tile_scales(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  check_dtype("tile_scales", source);
  launch("tile_scales", source == Dtype::f32 ? tile_scales_kernel<float> : tile_scales_kernel<std::uint16_t>,
         job.row_tiles * job.col_tiles, stream, job);
}

void encode(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  check_dtype("encode", source);
  launch("encode", source == Dtype::f32 ? encode_kernel<float> : encode_kernel<std::uint16_t>, encode_threads(job),
         stream, job);
}

void dequantize(const DequantizeJob& job, Dtype target, cudaStream_t stream) {
  check_dtype("dequantize", target);
  launch("dequantize", target == Dtype::f32 ? dequantize_kernel<float> : dequantize_kernel<std::uint16_t>,
         job.rows * job.cols, stream, job);
}

}  // namespace ng::cuda::plain
