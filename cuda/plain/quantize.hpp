// SPDX-License-Identifier: Apache-2.0
//
// Launches the plain kernels of quantization: one thread one functor, any spec, any shape. Asynchronous on `stream`.
#pragma once

#include "narrowgauge/tensor/dtype.hpp"
#include "plain/quantize_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

/// Transforms the source into job.transformed, which is the source of what follows (float, stride cols).
void hadamard(const QuantizeJob& job, Dtype source, Stream stream);
/// job.tile_amax, and job.nan_inputs where the spec forbids NaN.
void tile_amax(const QuantizeJob& job, Dtype source, Stream stream);
/// job.group_amax from job.tile_amax.
void group_amax(const QuantizeJob& job, Stream stream);
/// job.tile_amax of groups that are one tile each, from magnitude bits of each group.
void known_tile_amax(const QuantizeJob& job, const std::uint32_t* known, Stream stream);
/// job.tensor and job.tensor_scales from job.group_amax.
void tensor_scales(const QuantizeJob& job, Stream stream);
/// job.tiles and job.scales from job.tile_amax and job.tensor.
void tile_scales(const QuantizeJob& job, Dtype source, Stream stream);
/// job.codes from the source and job.tiles.
void encode(const QuantizeJob& job, Dtype source, Stream stream);
/// Decoded values as quantized, rounded once to `target`: f32 or bf16.
void dequantize(const DequantizeJob& job, Dtype target, Stream stream);

}  // namespace ng::cuda::plain
