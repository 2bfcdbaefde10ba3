// SPDX-License-Identifier: Apache-2.0
//
// cublaslt_matmul.hpp: row-major D = A B^T is the column-major product of B as first operand with A as second. The
// order matters for scales: the library multiplies by the first operand's first.
#include "backend/cublaslt_matmul.hpp"

#include <dlfcn.h>

#include <map>
#include <tuple>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/cublaslt_api.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

using namespace cublaslt;

namespace {

void check(Status status, const char* call) {
  if (status != kSuccess)
    throw MachineError(std::string(call) + " failed with cuBLAS status " + std::to_string(status));
}
#define NG_LIBRARY(call, ...) check(library().call(__VA_ARGS__), "cublasLt" #call)

struct Library : Functions {
  Handle handle = nullptr;
  std::string version;

  Library() : Functions{} {
    void* const file = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr)
      throw MachineError(std::string("the `hopper` products of a GPU need cuBLASLt 13 (its folder on LD_LIBRARY_PATH; "
                                     "`--arithmetic ieee` needs none): ") +
                         dlerror());
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
      if (function == nullptr) throw MachineError(std::string("cuBLASLt has no ") + name);
    };
#define NG_LOAD(name) load(name, "cublasLt" #name)
    NG_LOAD(Create);
    NG_LOAD(GetProperty);
    NG_LOAD(MatmulDescCreate);
    NG_LOAD(MatmulDescDestroy);
    NG_LOAD(MatmulDescSetAttribute);
    NG_LOAD(MatrixLayoutCreate);
    NG_LOAD(MatrixLayoutDestroy);
    NG_LOAD(MatmulPreferenceCreate);
    NG_LOAD(MatmulPreferenceDestroy);
    NG_LOAD(MatmulPreferenceSetAttribute);
    NG_LOAD(MatmulAlgoGetHeuristic);
    NG_LOAD(MatmulAlgoConfigGetAttribute);
    NG_LOAD(Matmul);
#undef NG_LOAD
    check(Create(&handle), "cublasLtCreate");
    for (int part = 0; part < 3; ++part) {
      int value = 0;
      check(GetProperty(part, &value), "cublasLtGetProperty");
      version += (part == 0 ? "" : ".") + std::to_string(value);
    }
  }
};

Library& library() {
  static Library opened;  // stays open: the driver unloads in its own order at exit
  return opened;
}

/// The family of kernels whose results were compared with the model, bit for bit; a part of the library's version.
constexpr std::int32_t kProvenAlgorithm = 66;
constexpr int kMostCandidates = 16;
constexpr std::size_t kWorkspace = 32u << 20;

int type_of(FormatId format) {
  return format == FormatId::bf16 ? kBf16 : format == FormatId::e4m3 ? kE4m3 : kE5m2;
}

std::int32_t scale_layout(ScaleMode mode, bool is_b) {
  switch (mode) {
    case ScaleMode::outer:
      return kScaleOuterVector;
    case ScaleMode::block_1x128:
      return kScaleVector128;
    case ScaleMode::block_128x128:
      return is_b ? kScaleBlock128 : kScaleVector128;
    default:
      return kScaleScalar;
  }
}

/// All that the library's choice may depend on, but for addresses.
using Key = std::tuple<FormatId, FormatId, OperandOrder, OperandOrder, std::int64_t, std::int64_t, std::int64_t,
                       std::int64_t, std::int64_t, std::int64_t, ScaleMode, bool, ProductOutput>;

Key key_of(const LibraryMatmul& p) {
  return {p.a.format, p.b.format,   p.a.order, p.b.order,           p.m,     p.n, p.k, p.a.stride,
          p.b.stride, p.out_stride, p.scales,  p.fast_accumulation, p.output};
}

/// Descriptors and algorithm of one shape.
struct Plan {
  MatmulDescriptor matmul = nullptr;
  Layout first = nullptr, second = nullptr, result = nullptr;
  bool offered = false;
  Algorithm algorithm{};

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    for (const Layout layout : {first, second, result})
      if (layout != nullptr) library().MatrixLayoutDestroy(layout);
    if (matmul != nullptr) library().MatmulDescDestroy(matmul);
  }
};

template <class T>
void set(MatmulDescriptor descriptor, int attribute, const T& value) {
  NG_LIBRARY(MatmulDescSetAttribute, descriptor, attribute, &value, sizeof value);
}

template <class T>
T algorithm_value(const Algorithm& algorithm, int attribute) {
  T value{};
  std::size_t written = 0;
  NG_LIBRARY(MatmulAlgoConfigGetAttribute, &algorithm, attribute, &value, sizeof value, &written);
  return value;
}

LibraryAlgorithm described(const LibraryMatmul& p, const Algorithm& a) {
  return {p.a.format,
          p.b.format,
          p.a.order,
          p.b.order,
          p.m,
          p.n,
          p.k,
          p.scales,
          p.fast_accumulation,
          p.output,
          algorithm_value<std::int32_t>(a, kAlgorithmId),
          algorithm_value<std::int32_t>(a, kAlgorithmSplits),
          algorithm_value<std::uint32_t>(a, kAlgorithmTile),
          algorithm_value<std::uint32_t>(a, kAlgorithmStages),
          algorithm_value<std::uint32_t>(a, kAlgorithmReduction),
          algorithm_value<std::uint32_t>(a, kAlgorithmSwizzle),
          algorithm_value<std::uint32_t>(a, kAlgorithmCustom),
          algorithm_value<std::uint16_t>(a, kAlgorithmInner),
          algorithm_value<std::uint16_t>(a, kAlgorithmCluster)};
}

Layout layout_of(int type, OperandOrder order, std::int64_t rows, std::int64_t k, std::int64_t stride) {
  const bool along_k = order == OperandOrder::along_k;
  Layout layout = nullptr;
  NG_LIBRARY(MatrixLayoutCreate, &layout, type, static_cast<std::uint64_t>(along_k ? k : rows),
             static_cast<std::uint64_t>(along_k ? rows : k), stride);
  return layout;
}

void set_scales(const Plan& plan, const LibraryMatmul& p) {
  if (p.scales == ScaleMode::none) return;
  set(plan.matmul, kScalePointerA, static_cast<const void*>(p.b.scales));
  set(plan.matmul, kScalePointerB, static_cast<const void*>(p.a.scales));
}

}  // namespace

struct TensorCoreLibrary::State {
  std::map<Key, Plan> plans;
  std::vector<LibraryAlgorithm> algorithms;
  Buffer workspaces[kLanes];

  Plan& plan_of(const LibraryMatmul& p) {
    const auto [entry, is_new] = plans.try_emplace(key_of(p));
    Plan& plan = entry->second;
    if (!is_new) return plan;
    NG_LIBRARY(MatmulDescCreate, &plan.matmul, kCompute32F, kF32);
    set(plan.matmul, kTransposeA, p.b.order == OperandOrder::along_k ? kOpT : kOpN);
    set(plan.matmul, kTransposeB, p.a.order == OperandOrder::along_k ? kOpN : kOpT);
    if (p.a.format != FormatId::bf16)
      set(plan.matmul, kFastAccumulation, static_cast<std::int8_t>(p.fast_accumulation ? 1 : 0));
    set_scales(plan, p);
    if (p.scales != ScaleMode::none && p.scales != ScaleMode::tensor) {
      set(plan.matmul, kScaleModeA, scale_layout(p.scales, true));
      set(plan.matmul, kScaleModeB, scale_layout(p.scales, false));
    }
    plan.first = layout_of(type_of(p.b.format), p.b.order, p.n, p.k, p.b.stride);
    plan.second = layout_of(type_of(p.a.format), p.a.order, p.m, p.k, p.a.stride);
    plan.result =
        layout_of(p.output == ProductOutput::bf16 ? kBf16 : kF32, OperandOrder::along_k, p.m, p.n, p.out_stride);
    choose(plan, p);
    return plan;
  }

  /// The first of the library's list that is proven and needs no reduction.
  void choose(Plan& plan, const LibraryMatmul& p) {
    Preference preference = nullptr;
    NG_LIBRARY(MatmulPreferenceCreate, &preference);
    const std::shared_ptr<void> owner(preference, [](void* x) { library().MatmulPreferenceDestroy(x); });
    NG_LIBRARY(MatmulPreferenceSetAttribute, preference, kPreferReductionSchemes, &kNoReduction, sizeof kNoReduction);
    NG_LIBRARY(MatmulPreferenceSetAttribute, preference, kPreferWorkspaceBytes, &kWorkspace, sizeof kWorkspace);
    HeuristicResult found[kMostCandidates];
    int count = 0;
    const Status status =
        library().MatmulAlgoGetHeuristic(library().handle, plan.matmul, plan.first, plan.second, plan.result,
                                         plan.result, preference, kMostCandidates, found, &count);
    if (status == kNotSupported) return;
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < count && !plan.offered; ++i) {
      if (found[i].state != kSuccess) continue;
      const LibraryAlgorithm algorithm = described(p, found[i].algorithm);
      if (algorithm.id != kProvenAlgorithm || algorithm.splits > 1) continue;
      plan.offered = true;
      plan.algorithm = found[i].algorithm;
      algorithms.push_back(algorithm);
    }
  }
};

TensorCoreLibrary::TensorCoreLibrary() : state_(std::make_unique<State>()) {
  (void)library();
}
TensorCoreLibrary::~TensorCoreLibrary() = default;

std::string TensorCoreLibrary::version() const {
  return library().version;
}

std::vector<LibraryAlgorithm> TensorCoreLibrary::algorithms() const {
  return state_->algorithms;
}

bool TensorCoreLibrary::serves(const LibraryMatmul& matmul) {
  return state_->plan_of(matmul).offered;
}

void TensorCoreLibrary::run(const LibraryMatmul& p, int lane, Stream stream) {
  const Plan& plan = state_->plan_of(p);
  NG_CHECK(plan.offered);
  Buffer& workspace = state_->workspaces[lane];
  if (workspace.data == nullptr) {
    workspace = allocate(kWorkspace);
    synchronize();  // once: it was given on the default stream
  }
  set_scales(plan, p);
  const float one = 1.0f, zero = 0.0f;
  NG_LIBRARY(Matmul, library().handle, plan.matmul, &one, p.b.data, plan.first, p.a.data, plan.second, &zero, p.out,
             plan.result, p.out, plan.result, &plan.algorithm, workspace.data.get(), kWorkspace, stream);
}

}  // namespace ng::cuda
