// SPDX-License-Identifier: Apache-2.0
//
// The frame of `bench kernel`: tensors to work on, ceilings, and the timing of one kernel. Each group of kernels has a
// file beside this one and a line in kernel_bench.cpp.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/backend/kernel_bench.hpp"

namespace ng::cuda {

class KernelBench {
 public:
  KernelBench(const KernelBenchOptions& options, const KernelProgress& progress);

  /// The backend under `arithmetic` with its fastest kernels.
  [[nodiscard]] Backend& backend(Arithmetic arithmetic = Arithmetic::hopper);
  /// Whether a kernel of this name is asked for; what is costly to prepare asks first.
  [[nodiscard]] bool wants(const std::string& name) const { return options_.wants(name); }
  /// [rows, cols] of f32 or bf16, normal numbers of deviation 1.
  [[nodiscard]] Tensor normal(Dtype dtype, std::int64_t rows, std::int64_t cols);

  /// A kernel that memory bounds: `bytes` read and written by definition. `slow`: three runs are enough.
  void memory_bound(const std::string& name, const std::string& shape, double bytes, const std::function<void()>& work,
                    bool slow = false);
  /// A kernel that arithmetic bounds: `operations`, a multiply-add counts two.
  void compute_bound(const std::string& name, const std::string& shape, double operations, Ceiling ceiling,
                     const std::function<void()>& work);
  /// Measures a ceiling for what follows.
  void ceiling(Ceiling ceiling, const std::string& shape, double amount, const std::function<void()>& work);

  [[nodiscard]] KernelBenchReport take_report() { return std::move(report_); }

 private:
  void add(const std::string& name, const std::string& shape, double amount, Ceiling ceiling,
           const std::function<void()>& work, int repeats);

  KernelBenchOptions options_;
  KernelProgress progress_;
  KernelBenchReport report_;
  std::map<Arithmetic, std::unique_ptr<Backend>> backends_;
  std::map<Ceiling, double> ceilings_;
};

/// "16384x8192 bf16"
[[nodiscard]] std::string shape_text(Dtype dtype, std::int64_t rows, std::int64_t cols);

// The groups.
void bench_ceilings(KernelBench& bench);
void bench_product_ceilings(KernelBench& bench);
void bench_products(KernelBench& bench);
void bench_quantize(KernelBench& bench);
void bench_patches(KernelBench& bench);
void bench_router(KernelBench& bench);
void bench_outliers(KernelBench& bench);
void bench_estimator(KernelBench& bench);
void bench_layers(KernelBench& bench);
void bench_attention(KernelBench& bench);
void bench_measures(KernelBench& bench);

}  // namespace ng::cuda
