// SPDX-License-Identifier: Apache-2.0
//
// The CPU's quantizers through the backend's interface: memory of the result included, as a training step pays it.
#include "bench_cpu.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/numerics/block_format.hpp"

namespace ng::cli {
namespace {

constexpr std::int64_t kRows = 2048;
constexpr std::int64_t kCols = 8192;

double median_milliseconds(const std::function<void()>& work, int repeats) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  for (int i = -1; i < repeats; ++i) {
    const Clock::time_point begin = Clock::now();
    work();
    if (i >= 0) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

KernelBenchReport bench_cpu_kernels(const KernelBenchOptions& options, int threads, const KernelProgress& progress) {
  BackendOptions backend_options;
  backend_options.threads = threads;
  const auto backend = make_backend("cpu", backend_options);
  KernelBenchReport report;
  report.device = backend->device();
  const std::string shape = fmt::format("{}x{} f32", kRows, kCols);
  const Tensor x = backend->tensor(Dtype::f32, kRows, kCols);
  const Tensor copy = backend->tensor(Dtype::f32, kRows, kCols);
  backend->fill_normal(x.view, RandomStream{}, 1.0);
  const double input = static_cast<double>(x.buffer.bytes);
  double ceiling = 0.0;
  const auto add = [&](const std::string& name, double bytes, const std::function<void()>& work) {
    KernelSpeed speed{name, shape, median_milliseconds(work, options.repeats), 0.0, Ceiling::copy, 1.0};
    speed.rate = bytes / speed.milliseconds * 1e-6;
    if (ceiling == 0.0) ceiling = speed.rate;
    speed.share = speed.rate / ceiling;
    progress(speed);
    (report.ceilings.empty() ? report.ceilings : report.kernels).push_back(speed);
  };
  add("ceiling/copy", 2.0 * input, [&] { backend->cast(x.view, copy.view); });
  for (const NamedQuantizer& preset : quantizer_presets()) {
    QuantizedTensor q;
    for (const Orientation orientation : {Orientation::row, Orientation::column}) {
      const std::string name =
          fmt::format("quantize/{}{}", preset.name, orientation == Orientation::row ? "" : " column");
      const auto quantize = [&] {
        q = backend->quantize(StepContext{}, x.view, RowGroups{}, preset.spec, orientation, Site{});
      };
      if (!options.wants(name)) continue;
      quantize();
      add(name, input + static_cast<double>(q.codes.bytes + q.scales.bytes), quantize);
    }
  }
  return report;
}

}  // namespace ng::cli
