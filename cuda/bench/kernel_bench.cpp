// SPDX-License-Identifier: Apache-2.0
//
// Ceilings first, then every group of kernels that is asked for.
#include "bench/kernel_bench.hpp"

#include <algorithm>
#include <cmath>

#include "backend/cuda_backend.hpp"
#include "bench/fma_ceiling.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "runtime/device.hpp"
#include "runtime/timer.hpp"

namespace ng::cuda {

KernelBench::KernelBench(const KernelBenchOptions& options, const KernelProgress& progress)
    : options_(options), progress_(progress) {
  const DeviceInfo info = device_info();
  report_.device = info.name;
  report_.driver = info.driver;
  report_.runtime = info.runtime;
}

Backend& KernelBench::backend(Arithmetic arithmetic) {
  std::unique_ptr<Backend>& backend = backends_[arithmetic];
  if (backend == nullptr) {
    BackendOptions options;
    options.arithmetic = arithmetic;
    backend = make_backend_of(options, KernelChoice::fastest);
  }
  return *backend;
}

Tensor KernelBench::normal(Dtype dtype, std::int64_t rows, std::int64_t cols) {
  // A million numbers, laid down again and again: nothing here looks at more than a row.
  constexpr std::int64_t kPeriod = 1 << 20;
  const std::size_t width = size_of(dtype);
  const std::int64_t count = rows * cols;
  std::vector<std::byte> host(static_cast<std::size_t>(std::min(count, kPeriod)) * width);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::int64_t i = 0; i < std::min(count, kPeriod); ++i) {
    double sum = -6.0;
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<double>(state >> 32) / 4294967296.0;
    }
    const float value = static_cast<float>(sum);
    std::byte* const to = host.data() + static_cast<std::size_t>(i) * width;
    if (dtype == Dtype::f32) {
      *reinterpret_cast<float*>(to) = value;
    } else {
      *reinterpret_cast<std::uint16_t*>(to) = static_cast<std::uint16_t>(bits_of(round_to_bf16(value)) >> 16);
    }
  }
  Tensor tensor = make_tensor(allocate(static_cast<std::size_t>(count) * width), dtype, rows, cols);
  for (std::int64_t done = 0; done < count; done += kPeriod) {
    const std::size_t bytes = static_cast<std::size_t>(std::min(kPeriod, count - done)) * width;
    std::byte* const to = tensor.buffer.data.get() + static_cast<std::size_t>(done) * width;
    if (done == 0)
      copy_to_device(to, host.data(), bytes);
    else
      copy_on_device(to, tensor.buffer.data.get(), bytes);
  }
  return tensor;
}

void KernelBench::add(const std::string& name, const std::string& shape, double amount, Ceiling ceiling,
                      const std::function<void()>& work, int repeats) {
  KernelSpeed speed{name, shape, median_milliseconds(work, repeats), 0.0, ceiling, 0.0};
  speed.rate = amount / speed.milliseconds * (ceiling == Ceiling::copy ? 1e-6 : 1e-9);
  const auto limit = ceilings_.find(ceiling);
  if (limit != ceilings_.end()) speed.share = speed.rate / limit->second;
  progress_(speed);
  report_.kernels.push_back(std::move(speed));
}

void KernelBench::memory_bound(const std::string& name, const std::string& shape, double bytes,
                               const std::function<void()>& work, bool slow) {
  if (wants(name))
    add(name, shape, bytes, Ceiling::copy, work, slow ? std::min(options_.repeats, 3) : options_.repeats);
}

void KernelBench::compute_bound(const std::string& name, const std::string& shape, double operations, Ceiling ceiling,
                                const std::function<void()>& work) {
  if (wants(name)) add(name, shape, operations, ceiling, work, options_.repeats);
}

void KernelBench::ceiling(Ceiling ceiling, const std::string& shape, double amount, const std::function<void()>& work) {
  KernelSpeed speed{std::string("ceiling/") + name_of(ceiling),
                    shape,
                    median_milliseconds(work, options_.repeats),
                    0.0,
                    ceiling,
                    1.0};
  speed.rate = amount / speed.milliseconds * (ceiling == Ceiling::copy ? 1e-6 : 1e-9);
  ceilings_[ceiling] = speed.rate;
  progress_(speed);
  report_.ceilings.push_back(std::move(speed));
}

std::string shape_text(Dtype dtype, std::int64_t rows, std::int64_t cols) {
  return std::to_string(rows) + "x" + std::to_string(cols) + " " + std::string(name_of(dtype));
}

void bench_ceilings(KernelBench& bench) {
  constexpr std::int64_t kRows = 16384;
  constexpr std::int64_t kCols = 8192;
  const Tensor from = bench.normal(Dtype::bf16, kRows, kCols);
  const Tensor to = make_tensor(allocate(from.buffer.bytes), Dtype::bf16, kRows, kCols);
  bench.ceiling(Ceiling::copy, shape_text(Dtype::bf16, kRows, kCols), 2.0 * static_cast<double>(from.buffer.bytes),
                [&] { copy_on_device(to.view.data, from.view.data, from.buffer.bytes); });
  const std::int64_t threads = std::int64_t{device_info().multiprocessors} * 2048 * 4;
  const Tensor ends = make_tensor(allocate(static_cast<std::size_t>(threads) * sizeof(float)), Dtype::f32, 1, threads);
  bench.ceiling(Ceiling::fp32_fma, std::to_string(threads) + " threads", fma_ceiling_operations(threads),
                [&] { fma_ceiling(threads, ends.view.as<float>(), nullptr); });
}

}  // namespace ng::cuda

namespace ng {

KernelBenchReport bench_cuda_kernels(const KernelBenchOptions& options, const KernelProgress& progress) {
  cuda::KernelBench bench(options, progress);
  cuda::bench_ceilings(bench);
  cuda::bench_product_ceilings(bench);
  cuda::bench_products(bench);
  cuda::bench_quantize(bench);
  cuda::bench_patches(bench);
  cuda::bench_router(bench);
  cuda::bench_outliers(bench);
  cuda::bench_estimator(bench);
  cuda::bench_layers(bench);
  cuda::bench_attention(bench);
  cuda::bench_measures(bench);
  return bench.take_report();
}

}  // namespace ng
