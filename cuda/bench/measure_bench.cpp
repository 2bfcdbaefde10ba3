// SPDX-License-Identifier: Apache-2.0
//
// Measurements as a recorder takes them: the whole operation, its wait for the sums included. Bytes: original, codes
// and scales once.
#include "bench/kernel_bench.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kCols = 8192;

struct MeasureEntry {
  const char* name;
  const char* preset;
  Orientation orientation;
  Dtype dtype;
  bool codes = false;
};

constexpr MeasureEntry kEntries[] = {
    {"measure/mxfp4", "mxfp4", Orientation::row, Dtype::bf16},
    {"measure/mxfp4 f32", "mxfp4", Orientation::row, Dtype::f32},
    {"measure/mxfp8_e4m3", "mxfp8_e4m3", Orientation::row, Dtype::bf16},
    {"measure/nvfp4", "nvfp4", Orientation::row, Dtype::bf16},
    {"measure/fp8_1x128", "fp8_1x128", Orientation::row, Dtype::bf16},
    {"measure/fp8_128x128", "fp8_128x128", Orientation::row, Dtype::bf16},
    {"measure/mxfp4 column", "mxfp4", Orientation::column, Dtype::bf16},
    {"measure/nvfp4 column", "nvfp4", Orientation::column, Dtype::bf16},
    {"measure/fp8_1x128 column", "fp8_1x128", Orientation::column, Dtype::bf16},
    {"measure/mxfp4 with code counts", "mxfp4", Orientation::row, Dtype::bf16, true},
};

QuantizerSpec preset(const std::string& name) {
  for (const NamedQuantizer& candidate : quantizer_presets())
    if (candidate.name == name) return candidate.spec;
  throw LogicError("no preset " + name);
}

}  // namespace

void bench_measures(KernelBench& bench) {
  const StepContext context;
  const Site site;
  const RowGroups groups;
  for (const MeasureEntry& entry : kEntries) {
    if (!bench.wants(entry.name)) continue;
    Backend& backend = bench.backend();
    const Tensor x = bench.normal(entry.dtype, kRows, kCols);
    const QuantizedTensor q = backend.quantize(context, x.view, groups, preset(entry.preset), entry.orientation, site);
    MeasureRequest request;
    request.codes = entry.codes;
    bench.memory_bound(entry.name, shape_text(entry.dtype, kRows, kCols),
                       static_cast<double>(x.buffer.bytes + q.codes.bytes + q.scales.bytes), [&] {
                         (void)backend.measure({context, site, x.view, groups, q}, request);
                       });
  }
}

}  // namespace ng::cuda
