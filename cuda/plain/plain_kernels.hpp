// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernels: one thread one functor, any spec, any shape. Asynchronous on `stream` (a cudaStream_t).
#pragma once

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"

struct CUstream_st;

namespace ng::cuda::plain {

/// Transforms the source into job.transformed, which is the source of what follows (float, stride cols).
void hadamard(const QuantizeJob& job, Dtype source, CUstream_st* stream);
/// job.tile_amax, and job.nan_inputs where the spec forbids NaN.
void tile_amax(const QuantizeJob& job, Dtype source, CUstream_st* stream);
/// job.group_amax from job.tile_amax.
void group_amax(const QuantizeJob& job, CUstream_st* stream);
/// job.tensor and job.tensor_scales from job.group_amax.
void tensor_scales(const QuantizeJob& job, CUstream_st* stream);
/// job.tiles and job.scales from job.tile_amax and job.tensor.
void tile_scales(const QuantizeJob& job, Dtype source, CUstream_st* stream);
/// job.codes from the source and job.tiles.
void encode(const QuantizeJob& job, Dtype source, CUstream_st* stream);
/// Decoded values as quantized, rounded once to `target`: f32 or bf16.
void dequantize(const DequantizeJob& job, Dtype target, CUstream_st* stream);

}  // namespace ng::cuda::plain
