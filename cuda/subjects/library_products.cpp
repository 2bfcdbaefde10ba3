// SPDX-License-Identifier: Apache-2.0
//
// library_products.hpp: row-major D = A B^T is the column-major product of B as first operand (transposed) with A as
// second, which is the only form that the library has for FP8.
#include "subjects/library_products.hpp"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "narrowgauge/base/error.hpp"
#include "runtime/check.hpp"
#include "runtime/device.hpp"
#include "subjects/instruction_products.hpp"

namespace ng::cuda {

namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw MachineError(std::string(call) + " failed with cuBLAS status " + std::to_string(static_cast<int>(status)));
}
#define NG_LIBRARY(library, call, ...) check((library).call(__VA_ARGS__), "cublasLt" #call)

std::string& library_path() {
  static std::string path = "libcublasLt.so.13";
  return path;
}

/// The functions of the opened library.
struct Library {
  void* file = nullptr;
  cublasLtHandle_t handle = nullptr;
  std::string version;
#define NG_FUNCTION(name) decltype(&cublasLt##name) name = nullptr;
#define NG_FUNCTIONS                                                                                       \
  NG_FUNCTION(Create)                                                                                      \
  NG_FUNCTION(GetProperty)                                                                                 \
  NG_FUNCTION(Matmul)                                                                                      \
  NG_FUNCTION(MatmulDescCreate) NG_FUNCTION(MatmulDescDestroy) NG_FUNCTION(MatmulDescSetAttribute)         \
      NG_FUNCTION(MatrixLayoutCreate) NG_FUNCTION(MatrixLayoutDestroy) NG_FUNCTION(MatmulPreferenceCreate) \
          NG_FUNCTION(MatmulPreferenceDestroy) NG_FUNCTION(MatmulPreferenceSetAttribute)                   \
              NG_FUNCTION(MatmulAlgoGetHeuristic) NG_FUNCTION(MatmulAlgoConfigGetAttribute)
  NG_FUNCTIONS
#undef NG_FUNCTION

  Library() {
    file = dlopen(library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr) throw MachineError(std::string("cannot open cuBLASLt: ") + dlerror());
#define NG_FUNCTION(name)                                                            \
  name = reinterpret_cast<decltype(&cublasLt##name)>(dlsym(file, "cublasLt" #name)); \
  if (name == nullptr) throw MachineError("cuBLASLt has no cublasLt" #name);
    NG_FUNCTIONS
#undef NG_FUNCTION
    check(Create(&handle), "cublasLtCreate");
    for (const libraryPropertyType part : {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL}) {
      int value = 0;
      check(GetProperty(part, &value), "cublasLtGetProperty");
      version += (version.empty() ? "" : ".") + std::to_string(value);
    }
  }
};

Library& library() {
  static Library opened;  // stays open: the driver unloads in its own order at exit
  return opened;
}

cudaDataType type_of(FormatId format) {
  switch (format) {
    case FormatId::bf16:
      return CUDA_R_16BF;
    case FormatId::fp16:
      return CUDA_R_16F;
    case FormatId::tf32:
      return CUDA_R_32F;
    case FormatId::e4m3:
      return CUDA_R_8F_E4M3;
    case FormatId::e5m2:
      return CUDA_R_8F_E5M2;
    default:
      throw LogicError(std::string("cuBLASLt on this chip has no products of ") + name_of(format));
  }
}
cudaDataType type_of(LibraryOutput output) {
  return output == LibraryOutput::f32 ? CUDA_R_32F : output == LibraryOutput::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

Buffer on_device(const void* data, std::size_t bytes) {
  Buffer buffer = allocate(bytes);
  copy_to_device(buffer.data.get(), data, bytes);
  return buffer;
}

/// The descriptors of one product, destroyed together.
struct Descriptors {
  cublasLtMatmulDesc_t matmul = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

  Descriptors() = default;
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    if (preference != nullptr) library().MatmulPreferenceDestroy(preference);
    for (const cublasLtMatrixLayout_t layout : {first, second, result})
      if (layout != nullptr) library().MatrixLayoutDestroy(layout);
    if (matmul != nullptr) library().MatmulDescDestroy(matmul);
  }
};

template <class T>
void set(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  NG_LIBRARY(library(), MatmulDescSetAttribute, descriptor, attribute, &value, sizeof value);
}

template <class T>
T algorithm_value(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value{};
  std::size_t written = 0;
  NG_LIBRARY(library(), MatmulAlgoConfigGetAttribute, &algorithm, attribute, &value, sizeof value, &written);
  return value;
}

std::string described(const cublasLtMatmulAlgo_t& a, int& splits) {
  splits = algorithm_value<std::int32_t>(a, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
  std::string text = "id " + std::to_string(algorithm_value<std::int32_t>(a, CUBLASLT_ALGO_CONFIG_ID));
  const auto add = [&](const char* name, std::uint64_t value) {
    text += std::string(" ") + name + " " + std::to_string(value);
  };
  add("tile", algorithm_value<std::uint32_t>(a, CUBLASLT_ALGO_CONFIG_TILE_ID));
  add("stages", algorithm_value<std::uint32_t>(a, CUBLASLT_ALGO_CONFIG_STAGES_ID));
  add("splits", static_cast<std::uint64_t>(splits));
  add("reduction", algorithm_value<std::uint32_t>(a, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME));
  add("swizzle", algorithm_value<std::uint32_t>(a, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING));
  add("custom", algorithm_value<std::uint32_t>(a, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION));
  add("inner", algorithm_value<std::uint16_t>(a, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID));
  add("cluster", algorithm_value<std::uint16_t>(a, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID));
  return text;
}

cublasLtMatmulMatrixScale_t scale_layout(ScaleMode mode, bool is_b) {
  switch (mode) {
    case ScaleMode::outer:
      return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    case ScaleMode::block_1x128:
      return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    case ScaleMode::block_128x128:
      return is_b ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    default:
      return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  }
}

constexpr int kMostCandidates = 32;
constexpr std::size_t kWorkspace = 64u << 20;

}  // namespace

void use_library(const std::string& path) {
  library_path() = path;
}

std::string library_version() {
  return library().version;
}

LibraryResult run_library_product(const LibraryProduct& p, const LibraryOperands& in) {
  Library& lib = library();
  const bool narrow = operand_bytes(p.a) == 1;
  const bool half = p.compute == LibraryCompute::fp16;
  const std::size_t out_bytes = p.output == LibraryOutput::f32 ? 4 : 2;
  const std::size_t results = static_cast<std::size_t>(p.m * p.n);

  Descriptors d;
  const cublasComputeType_t compute = half                    ? CUBLAS_COMPUTE_16F
                                      : p.a == FormatId::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                              : CUBLAS_COMPUTE_32F;
  NG_LIBRARY(lib, MatmulDescCreate, &d.matmul, compute, half ? CUDA_R_16F : CUDA_R_32F);
  set(d.matmul, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(d.matmul, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  if (narrow) set(d.matmul, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<std::int8_t>(p.fast ? 1 : 0));
  const Buffer scale_a = on_device(in.scale_a.data(), in.scale_a.size_bytes());
  const Buffer scale_b = on_device(in.scale_b.data(), in.scale_b.size_bytes());
  if (p.scales != ScaleMode::none) {
    set(d.matmul, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(scale_b.data.get()));
    set(d.matmul, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(scale_a.data.get()));
    if (p.scales != ScaleMode::tensor) {
      set(d.matmul, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, scale_layout(p.scales, true));
      set(d.matmul, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, scale_layout(p.scales, false));
    }
  }
  const auto k = static_cast<std::uint64_t>(p.k), n = static_cast<std::uint64_t>(p.n),
             m = static_cast<std::uint64_t>(p.m);
  NG_LIBRARY(lib, MatrixLayoutCreate, &d.first, type_of(p.b), k, n, p.k);
  NG_LIBRARY(lib, MatrixLayoutCreate, &d.second, type_of(p.a), k, m, p.k);
  NG_LIBRARY(lib, MatrixLayoutCreate, &d.result, type_of(p.output), n, m, p.n);
  NG_LIBRARY(lib, MatmulPreferenceCreate, &d.preference);
  const std::uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  NG_LIBRARY(lib, MatmulPreferenceSetAttribute, d.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction,
             sizeof no_reduction);
  NG_LIBRARY(lib, MatmulPreferenceSetAttribute, d.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
             sizeof kWorkspace);

  LibraryResult result;
  cublasLtMatmulHeuristicResult_t found[kMostCandidates];
  const cublasStatus_t status = lib.MatmulAlgoGetHeuristic(lib.handle, d.matmul, d.first, d.second, d.result, d.result,
                                                           d.preference, kMostCandidates, found, &result.candidates);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || p.candidate >= result.candidates) return result;
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  const cublasLtMatmulAlgo_t& algorithm = found[p.candidate].algo;
  result.algorithm = described(algorithm, result.splits);

  const Buffer a = on_device(in.a.data(), in.a.size());
  const Buffer b = on_device(in.b.data(), in.b.size());
  std::vector<std::uint8_t> c_bytes(results * out_bytes, 0);
  for (std::size_t i = 0; i < in.c.size(); ++i)
    for (std::size_t byte = 0; byte < out_bytes; ++byte)
      c_bytes[i * out_bytes + byte] = static_cast<std::uint8_t>(in.c[i] >> (8 * byte));
  const Buffer c = on_device(c_bytes.data(), c_bytes.size());
  const Buffer workspace = allocate(kWorkspace);
  // FP16 scalars: only 0 and 1 are asked for.
  const std::uint16_t half_one = 0x3c00, half_zero = 0;
  const void* const alpha = half ? static_cast<const void*>(&half_one) : &p.alpha;
  const void* const beta = half ? static_cast<const void*>(p.beta == 0.0f ? &half_zero : &half_one) : &p.beta;
  NG_LIBRARY(lib, Matmul, lib.handle, d.matmul, alpha, b.data.get(), d.first, a.data.get(), d.second, beta,
             c.data.get(), d.result, c.data.get(), d.result, &algorithm, workspace.data.get(), kWorkspace, nullptr);
  NG_CUDA_CHECK(cudaDeviceSynchronize());
  std::vector<std::uint8_t> bytes(results * out_bytes);
  copy_to_host(bytes.data(), c.data.get(), bytes.size());
  result.offered = true;
  result.d.assign(results, 0);
  for (std::size_t i = 0; i < results; ++i)
    for (std::size_t byte = 0; byte < out_bytes; ++byte)
      result.d[i] |= static_cast<std::uint32_t>(bytes[i * out_bytes + byte]) << (8 * byte);
  return result;
}

}  // namespace ng::cuda
