// SPDX-License-Identifier: Apache-2.0
//
// The hot loops of the CPU backend as a table of functions. Each file of this folder is compiled once per instruction
// set into namespace ng::cpu::<isa> and enters its functions into the table; the bytes of all results are equal between
// the tables (fma is the correctly rounded one in each). Raw pointers only: such files must share no inline code.
// Rows are FP32; n is the number of elements; outputs may alias inputs of the same element where nothing else is said.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm.hpp"
#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/numerics/attention.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/numerics/softmax.hpp"
#include "quantize.hpp"
#include "tensor_core.hpp"

namespace ng::cpu {

/// Queries of one tile of attention; they do not show in the result.
constexpr std::int64_t kAttentionQueries = 48;

/// Floats of scratch that `attention` and `attention_backward` need.
constexpr std::int64_t kAttentionScratchFloats = 2 * kAttentionKeys * kAttentionQueries;

/// One query head of one sequence with the key and value head that it reads, copied so that vectors need no borders:
/// rows are `stride` (of v and all that is shaped like it `value_stride`) apart, head_dim (value_dim) rounded up to 16,
/// transposed ones `transposed_stride`, length rounded up to kAttentionKeys; the padding is zero. The other arguments
/// of the kernels lie like q (dq, dk) or v (out, d_out, dv).
struct AttentionHead {
  const float* q;  ///< [length, head_dim]
  const float* k;
  const float* v;             ///< [length, value_dim]
  const float* k_transposed;  ///< [head_dim, length]
  const float* v_transposed;  ///< [value_dim, length]; for the backward only
  std::int64_t stride;
  std::int64_t value_stride;
  std::int64_t transposed_stride;
  std::int64_t length;
  std::int64_t head_dim;
  std::int64_t value_dim;
  AttentionScales scales;
};

struct CpuKernels {
  const char* isa;

  // ---- gemm.cpp
  /// D = A B^T, each output one fma chain in ascending k, from c (`accumulate`) or +0. kGemmScratchFloats of scratch.
  void (*gemm_chain)(StridedMatrix a, StridedMatrix b, float* c, std::int64_t ldc, std::int64_t m, std::int64_t n,
                     std::int64_t k, bool accumulate, float* scratch);

  // ---- tensor_core.cpp
  /// Steps of the tensor-core model; false, and nothing done, where there is no fast path for the parameters.
  bool (*tensor_core_rows)(const TensorCoreBlock& block);
  /// total[16] with a promoted chain each: `promoted` of numerics/tensor_core_product.hpp.
  void (*tensor_core_promote)(ScaleMode mode, const float* chain, float scale_a, const float* scale_b, float* total);

  // ---- quantize.cpp
  /// amax[j] = magnitude bits of tile j of a row (NaN and infinity included), merged with the value there if asked.
  void (*amax_tiles)(const float* x, std::int64_t count, std::int64_t tile, bool merge, std::uint32_t* amax);
  /// False where elements of a tile may be NaN once they are scaled, or a tile is poisoned.
  bool (*tile_scales)(const QuantizerSpec& spec, const TensorScale& tensor, const std::uint32_t* amax,
                      std::int64_t count, const TileScaleArrays& out);
  void (*encode_row)(const QuantizerSpec& spec, const SpecialCodes& special, const EncodeRow& row);
  /// Draws of elements [first, first + count), bits / 8 bytes each.
  void (*fill_draws)(const RandomStream& stream, std::uint64_t first, std::int64_t count, int bits, void* draws);
  void (*pack_nibbles)(const std::uint8_t* codes, std::int64_t count, std::uint8_t* packed);

  // ---- quantize_transform.cpp
  /// out[c * out_stride + r] = block[r * cols + c], one byte each.
  void (*transpose_codes)(const std::uint8_t* block, std::int64_t rows, std::int64_t cols, std::uint8_t* out,
                          std::int64_t out_stride);
  void (*hadamard_row)(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t count);
  void (*hadamard_columns)(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t stride,
                           std::int64_t count);
  /// out[i] = table[code first + i] * scales[i / tile].
  void (*decode_row)(CodeStorage storage, const float* table, const std::uint8_t* row, std::int64_t first,
                     std::int64_t count, const float* scales, std::int64_t tile, float* out);

  // ---- rows.cpp
  void (*widen_bf16)(const std::uint16_t* from, float* to, std::int64_t n);
  void (*round_bf16)(const float* from, std::uint16_t* to, std::int64_t n);
  void (*add)(const float* a, const float* b, float* out, std::int64_t n);
  /// out = weight * x.
  void (*scale)(float weight, const float* x, float* out, std::int64_t n);
  /// out = fma(weight, x, out).
  void (*multiply_add)(float weight, const float* x, float* out, std::int64_t n);
  /// sum a*b: 8 interleaved fma chains (element mod 8) in ascending order, then pairwise.
  float (*dot)(const float* a, const float* b, std::int64_t n);
  /// Returns rstd.
  float (*rms_norm)(const float* x, const float* gain, float epsilon, float* y, std::int64_t n);
  /// dx = gradient, or dx + gradient.
  void (*rms_norm_backward)(const float* x, const float* gain, float rstd, const float* dy, float* dx, bool accumulate,
                            std::int64_t n);
  /// d_gain = fma(dy, x * rstd, d_gain).
  void (*gain_gradient)(const float* x, float rstd, const float* dy, float* d_gain, std::int64_t n);
  /// Turns one head of n elements; `angles`: cos in the first half, sin in the last.
  void (*rope)(const float* angles, bool inverse, float* head, std::int64_t n);
  void (*swiglu)(const float* gate, const float* up, float* y, std::int64_t n);
  void (*swiglu_backward)(const float* gate, const float* up, const float* dy, float* d_gate, float* d_up,
                          std::int64_t n);

  // ---- softmax.cpp
  SoftmaxSums (*softmax)(const float* logits, float* probabilities, std::int64_t n);
  /// Entropy of the probabilities in nats, an fma chain in ascending order.
  float (*entropy)(const float* logits, const float* probabilities, SoftmaxSums sums, std::int64_t n);
  /// scores = sigmoid(logits), shares = scores / their row sum (0 where that is 0). Returns the entropy of the shares
  /// in nats, an fma chain in ascending order.
  float (*sigmoid_gate)(const float* logits, float* scores, float* shares, std::int64_t n);

  // ---- attention.cpp; kAttentionScratchFloats of scratch
  /// log_sum_exp `lse_stride` apart, base 2.
  void (*attention)(const AttentionHead& head, float* out, float* log_sum_exp, std::int64_t lse_stride, float* scratch);
  /// dq and dk without the factor 1/sqrt(head_dim); the chains of dk and dv continue from what is there.
  void (*attention_backward)(const AttentionHead& head, const float* out, const float* d_out, const float* log_sum_exp,
                             std::int64_t lse_stride, float* dq, float* dk, float* dv, float* scratch);
  /// to[c][r] = from[r][c].
  void (*transpose)(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, float* to,
                    std::int64_t to_stride);

  // ---- optimizer.cpp
  void (*adamw)(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
                std::int64_t n);
  /// Leaves of summation_order.hpp of the terms x (or x^2) in double; n terms give summation_leaves(n) partials.
  void (*sum_leaves)(const float* x, std::int64_t n, double* partials);
  void (*square_leaves)(const float* x, std::int64_t n, double* partials);
  /// Elements [first, first + n) of the normal stream of Backend::fill_normal.
  void (*normal)(const RandomStream& stream, std::uint64_t first, double deviation, float* out, std::int64_t n);
};

/// The table for this machine: x86-64-v3 where it has AVX2, FMA, BMI2 and F16C, else, or on request, the baseline.
const CpuKernels& cpu_kernels(bool baseline);

}  // namespace ng::cpu

#if defined(NG_ISA)
namespace ng::cpu::NG_ISA {

/// See CpuKernels; for the other kernels of the same instruction set.
void gemm_chain(StridedMatrix a, StridedMatrix b, float* c, std::int64_t ldc, std::int64_t m, std::int64_t n,
                std::int64_t k, bool accumulate, float* scratch);

// One per file: enters its functions into the table.
void add_tensor_core_kernels(CpuKernels& table);
void add_quantize_kernels(CpuKernels& table);
void add_transform_kernels(CpuKernels& table);
void add_row_kernels(CpuKernels& table);
void add_softmax_kernels(CpuKernels& table);
void add_attention_kernels(CpuKernels& table);
void add_optimizer_kernels(CpuKernels& table);

}  // namespace ng::cpu::NG_ISA
#endif
