// SPDX-License-Identifier: Apache-2.0
//
// Our own words for cuBLASLt's interface (runtime/cublaslt_api.hpp) against its header: compiles, or says what differs.
#include <cublasLt.h>

#include <cstddef>

#include "runtime/cublaslt_api.hpp"

namespace ng::cuda::cublaslt {

static_assert(kSuccess == CUBLAS_STATUS_SUCCESS && kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(kF32 == CUDA_R_32F && kBf16 == CUDA_R_16BF && kE4m3 == CUDA_R_8F_E4M3 && kE5m2 == CUDA_R_8F_E5M2);
static_assert(kCompute32F == CUBLAS_COMPUTE_32F && kOpN == CUBLAS_OP_N && kOpT == CUBLAS_OP_T);
static_assert(kNoReduction == CUBLASLT_REDUCTION_SCHEME_NONE);
static_assert(kTransposeA == CUBLASLT_MATMUL_DESC_TRANSA && kTransposeB == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(kScalePointerA == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
static_assert(kScalePointerB == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
static_assert(kFastAccumulation == CUBLASLT_MATMUL_DESC_FAST_ACCUM);
static_assert(kScaleModeA == CUBLASLT_MATMUL_DESC_A_SCALE_MODE && kScaleModeB == CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
static_assert(kScaleScalar == CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
static_assert(kScaleOuterVector == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
static_assert(kScaleVector128 == CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F);
static_assert(kScaleBlock128 == CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
static_assert(kPreferWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(kPreferReductionSchemes == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(kAlgorithmId == CUBLASLT_ALGO_CONFIG_ID && kAlgorithmTile == CUBLASLT_ALGO_CONFIG_TILE_ID);
static_assert(kAlgorithmSplits == CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
static_assert(kAlgorithmReduction == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
static_assert(kAlgorithmSwizzle == CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING);
static_assert(kAlgorithmCustom == CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION);
static_assert(kAlgorithmStages == CUBLASLT_ALGO_CONFIG_STAGES_ID);
static_assert(kAlgorithmInner == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID);
static_assert(kAlgorithmCluster == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID);
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(HeuristicResult, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));

}  // namespace ng::cuda::cublaslt
