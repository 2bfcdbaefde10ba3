// SPDX-License-Identifier: Apache-2.0
//
// Quantizing FP32 on one core: ns per element for presets and roundings, in cache and out of it, with a copy and CUDA's
// host conversions of single numbers beside it. Run alone: build/release/bin/bench_quantize
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "timing.hpp"

#if defined(NG_CUDA_NUMBER_HEADERS)
#include <cuda_fp4.h>
#include <cuda_fp8.h>
#endif

namespace {

using ng_bench::best_seconds;

void row(const std::string& what, std::int64_t rows, std::int64_t cols, double seconds) {
  const double count = static_cast<double>(rows * cols);
  fmt::print("{:52} {:>6} x {:<5} {:8.3f} ns/element\n", what, rows, cols, seconds / count * 1e9);
}

/// ml_dtypes' cast of single numbers, if Python has it: one line of ns per element for each type, else nothing.
void print_ml_dtypes() {
  const char* command =
      "python3 -c \"import numpy as np, ml_dtypes, time\n"
      "x = np.random.default_rng(1).standard_normal(131072).astype(np.float32)\n"
      "for t in ('float4_e2m1fn', 'float8_e4m3fn'):\n"
      "    best = 1e9\n"
      "    for _ in range(20):\n"
      "        s = time.perf_counter(); x.astype(getattr(ml_dtypes, t)); best = min(best, time.perf_counter() - s)\n"
      "    print(f'ml_dtypes: astype({t}), no scales'.ljust(52), '    64 x 2048 ', f'{best / x.size * 1e9:8.3f} "
      "ns/element')\n"
      "\" 2>/dev/null";
  std::fflush(stdout);
  if (std::system(command) != 0) fmt::print("ml_dtypes: not installed for python3, not measured\n");
}

}  // namespace

/// `--small` leaves out what does not fit in the caches and the baseline kernels.
int main(int argc, char** argv) {
  const bool small = argc > 1 && std::strcmp(argv[1], "--small") == 0;
  for (const bool baseline : {false, true}) {
    if (baseline && small) break;
    ng::BackendOptions options;
    options.baseline_isa = baseline;
    const auto backend = ng::make_cpu_backend(options);
    fmt::print("{}\n", backend->device());
    for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{64, 2048}, {4096, 4096}}) {
      if (small && rows > 64) continue;
      const ng::Tensor x = backend->tensor(ng::Dtype::f32, rows, cols);
      backend->fill_normal(x.view, {7, ng::RandomPurpose::test_vectors, 1, 0}, 1.0);
      std::vector<float> copy(static_cast<std::size_t>(rows * cols));
      row("copy (memcpy)", rows, cols, best_seconds([&] { std::memcpy(copy.data(), x.view.data, copy.size() * 4); }));
      const ng::Site site{"bench", 0, 1};
      for (const char* text :
           {"mxfp4", "mxfp8_e4m3", "nvfp4", "fp8_1x128", "fp8_128x128", "mxfp4,rounding=toward_zero",
            "mxfp4,rounding=stochastic:8", "mxfp4,rounding=stochastic:16", "mxfp4,rounding=stochastic:32",
            "nvfp4,rounding=stochastic:8", "nvfp4,hadamard=16:te_fixed:bf16"}) {
        const ng::QuantizerSpec spec = ng::parse_quantizer(text);
        for (const ng::Orientation orientation : {ng::Orientation::row, ng::Orientation::column}) {
          const char* form = orientation == ng::Orientation::row ? "row" : "column";
          row(fmt::format("{} {}", text, form), rows, cols,
              best_seconds([&] { static_cast<void>(backend->quantize({}, x.view, {}, spec, orientation, site)); }));
          if (!ng::needs_tensor_amax(spec.rule)) continue;
          const ng::Buffer amax = backend->tensor_amax({}, x.view, {}, spec, orientation);
          row(fmt::format("{} {}, known amax", text, form), rows, cols, best_seconds([&] {
                static_cast<void>(backend->quantize_known_amax({}, x.view, {}, spec, orientation, site, amax));
              }));
        }
      }
#if defined(NG_CUDA_NUMBER_HEADERS)
      if (!baseline && rows == 64) {
        const float* values = x.view.as<float>();
        std::vector<std::uint8_t> codes(copy.size());
        row("CUDA host: __nv_cvt_float_to_fp4 E2M1, no scales", rows, cols, best_seconds([&] {
              for (std::size_t i = 0; i < codes.size(); ++i)
                codes[i] = __nv_cvt_float_to_fp4(values[i], __NV_E2M1, cudaRoundNearest);
            }));
        row("CUDA host: __nv_cvt_float_to_fp8 E4M3, no scales", rows, cols, best_seconds([&] {
              for (std::size_t i = 0; i < codes.size(); ++i)
                codes[i] = __nv_cvt_float_to_fp8(values[i], __NV_SATFINITE, __NV_E4M3);
            }));
      }
#endif
      if (!baseline && rows == 64) print_ml_dtypes();
    }
  }
  return 0;
}
