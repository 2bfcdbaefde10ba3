// SPDX-License-Identifier: Apache-2.0
//
// The FP32 product of the `ieee` arithmetic on one core, GFLOP/s, with Eigen's beside it. Ours is one fma chain per
// element in ascending k; Eigen's order is its own. Run alone: build/release/bin/bench_product
#include <fmt/format.h>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <random>
#include <vector>

#include "kernels/kernels.hpp"
#include "timing.hpp"

int main() {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const ng::cpu::CpuKernels& kernels = ng::cpu::cpu_kernels(false);
  std::vector<float> scratch(ng::cpu::kGemmScratchFloats);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  fmt::print("kernels: {}\n{:>6} {:>6} {:>6} {:>12} {:>12}\n", kernels.isa, "M", "N", "K", "ours GF/s", "Eigen GF/s");
  for (const auto& [m, n, k] : std::vector<std::tuple<int, int, int>>{{1024, 256, 128},
                                                                      {256, 256, 128},
                                                                      {128, 256, 1024},
                                                                      {512, 512, 512},
                                                                      {1024, 1024, 1024},
                                                                      {2048, 2048, 2048}}) {
    Matrix a = Matrix::NullaryExpr(m, k, [&] { return normal(generator); });
    Matrix b = Matrix::NullaryExpr(n, k, [&] { return normal(generator); });
    Matrix c(m, n);
    const double flops = 2.0 * m * n * k;
    const double ours = ng_bench::best_seconds([&] {
      kernels.gemm_chain({a.data(), k, 1}, {b.data(), k, 1}, c.data(), n, m, n, k, false, scratch.data());
    });
    const double eigen = ng_bench::best_seconds([&] { c.noalias() = a * b.transpose(); });
    fmt::print("{:>6} {:>6} {:>6} {:>12.1f} {:>12.1f}\n", m, n, k, flops / ours * 1e-9, flops / eigen * 1e-9);
  }
  return 0;
}
