// SPDX-License-Identifier: Apache-2.0
//
// The part of cuBLASLt's C interface that is used, in our own words, so that neither its header nor its library is
// needed to build: the library is opened at run time. Numbers as in cublasLt.h, cublas_api.h and library_types.h of
// CUDA 13.0; subjects/cublaslt_api_check.cpp compares them with the header where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/stream.hpp"

namespace ng::cuda::cublaslt {

using Status = int;
constexpr Status kSuccess = 0;
constexpr Status kNotSupported = 15;

// cudaDataType, cublasComputeType_t, cublasOperation_t, cublasLtReductionScheme_t
constexpr int kF32 = 0, kBf16 = 14, kE4m3 = 28, kE5m2 = 29;
constexpr int kCompute32F = 68;
constexpr std::int32_t kOpN = 0, kOpT = 1;
constexpr std::uint32_t kNoReduction = 0;

// cublasLtMatmulDescAttributes_t
constexpr int kTransposeA = 3, kTransposeB = 4, kScalePointerA = 17, kScalePointerB = 18, kFastAccumulation = 25,
              kScaleModeA = 31, kScaleModeB = 32;
// cublasLtMatmulMatrixScale_t
constexpr std::int32_t kScaleScalar = 0, kScaleOuterVector = 3, kScaleVector128 = 4, kScaleBlock128 = 5;
// cublasLtMatmulPreferenceAttributes_t
constexpr int kPreferWorkspaceBytes = 1, kPreferReductionSchemes = 3;
// cublasLtMatmulAlgoConfigAttributes_t
constexpr int kAlgorithmId = 0, kAlgorithmTile = 1, kAlgorithmSplits = 2, kAlgorithmReduction = 3,
              kAlgorithmSwizzle = 4, kAlgorithmCustom = 5, kAlgorithmStages = 6, kAlgorithmInner = 7,
              kAlgorithmCluster = 8;

struct Algorithm {
  std::uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

// Opaque handles.
using Handle = void*;
using MatmulDescriptor = void*;
using Layout = void*;
using Preference = void*;

/// The functions, each under its name without the prefix cublasLt.
struct Functions {
  Status (*Create)(Handle*);
  Status (*GetProperty)(int, int*);
  Status (*MatmulDescCreate)(MatmulDescriptor*, int compute_type, int scale_type);
  Status (*MatmulDescDestroy)(MatmulDescriptor);
  Status (*MatmulDescSetAttribute)(MatmulDescriptor, int, const void*, std::size_t);
  Status (*MatrixLayoutCreate)(Layout*, int type, std::uint64_t rows, std::uint64_t cols, std::int64_t stride);
  Status (*MatrixLayoutDestroy)(Layout);
  Status (*MatmulPreferenceCreate)(Preference*);
  Status (*MatmulPreferenceDestroy)(Preference);
  Status (*MatmulPreferenceSetAttribute)(Preference, int, const void*, std::size_t);
  Status (*MatmulAlgoGetHeuristic)(Handle, MatmulDescriptor, Layout a, Layout b, Layout c, Layout d, Preference,
                                   int requested, HeuristicResult*, int* found);
  Status (*MatmulAlgoConfigGetAttribute)(const Algorithm*, int, void*, std::size_t, std::size_t* written);
  Status (*Matmul)(Handle, MatmulDescriptor, const void* alpha, const void* a, Layout, const void* b, Layout,
                   const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace,
                   std::size_t workspace_bytes, Stream);
};

}  // namespace ng::cuda::cublaslt
