// SPDX-License-Identifier: Apache-2.0
//
// Products on Hopper's tensor cores through cuBLASLt, with the bytes of numerics/tensor_core_product.hpp: one chain per
// output, never split K; the algorithm is pinned (the library's first choice for the shape among those whose order of
// sums and scales was compared with the model) and told. The library is opened at run time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// Along which axis an operand's numbers lie one after the other: FP8 along k only.
enum class OperandOrder : std::uint8_t { along_k, along_rows };

/// Device memory. `stride`: elements from row to row, or from k to k. Base and stride are multiples of 16 bytes.
struct LibraryOperand {
  const void* data = nullptr;
  FormatId format = FormatId::bf16;  ///< bf16, e4m3, e5m2
  OperandOrder order = OperandOrder::along_k;
  std::int64_t stride = 0;
  /// tensor: one; outer: one for each row; block_1x128: [k / 128][row]; block_128x128: A's so, B's [n / 128][k / 128,
  /// rounded up to 4].
  const float* scales = nullptr;
};

/// D[M, N] = A[M, K] B[N, K]^T; not empty. FP8: K, M and N are multiples of 16, K of 128 where scales are blockwise.
struct LibraryMatmul {
  LibraryOperand a, b;
  std::int64_t m = 0, n = 0, k = 0;
  ScaleMode scales = ScaleMode::none;
  bool fast_accumulation = false;
  ProductOutput output = ProductOutput::f32;  ///< f32 or bf16
  void* out = nullptr;                        ///< a multiple of 16 bytes, as its rows
  std::int64_t out_stride = 0;
};

/// What cuBLASLt was asked, and the kernel that it took, in its own numbers.
struct LibraryAlgorithm {
  FormatId a, b;
  OperandOrder order_a, order_b;
  std::int64_t m, n, k;
  ScaleMode scales;
  bool fast_accumulation;
  ProductOutput output;
  std::int32_t id, splits;
  std::uint32_t tile, stages, reduction, swizzle, custom;
  std::uint16_t inner, cluster;

  [[nodiscard]] std::string text() const;
};

class TensorCoreLibrary {
 public:
  /// MachineError, with one line that says what to do, where the library cannot be opened.
  TensorCoreLibrary();
  ~TensorCoreLibrary();
  TensorCoreLibrary(const TensorCoreLibrary&) = delete;
  TensorCoreLibrary& operator=(const TensorCoreLibrary&) = delete;

  /// Whether the library has a proven kernel for this.
  [[nodiscard]] bool serves(const LibraryMatmul& matmul);
  /// Asynchronous on `stream`; `lane`: products of one lane run one after the other (they share a workspace).
  void run(const LibraryMatmul& matmul, int lane, Stream stream);
  static constexpr int kLanes = 4;

  /// "13.1.0"
  [[nodiscard]] std::string version() const;
  /// Every algorithm that was taken so far, in the order of first use.
  [[nodiscard]] std::vector<LibraryAlgorithm> algorithms() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ng::cuda
