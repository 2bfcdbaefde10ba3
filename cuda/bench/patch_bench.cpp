// SPDX-License-Identifier: Apache-2.0
//
// Quantization beyond the aligned presets: square tiles, scales of tokens, channels and tensors, other formats, ragged
// sizes and groups; and decoding.
#include <string>
#include <utility>

#include "backend/cuda_quantizer.hpp"
#include "backend/quantize_plan.hpp"
#include "bench/kernel_bench.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kCols = 8192;

QuantizerSpec preset(const char* name) {
  for (const NamedQuantizer& quantizer : quantizer_presets())
    if (std::string(quantizer.name) == name) return quantizer.spec;
  return {};
}

QuantizerSpec stochastic(QuantizerSpec spec, std::uint8_t bits) {
  spec.cast.rounding = Rounding::stochastic;
  spec.cast.random_bits = bits;
  return spec;
}

QuantizerSpec transformed(QuantizerSpec spec) {
  spec.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  return spec;
}

/// 64 experts, of which no two have as many rows, beginning at odd numbers too.
RowGroups ragged_experts() {
  RowGroups groups;
  for (std::int64_t g = 0; g < 64; ++g) groups.offsets.push_back(g * 256 + g * 37 % 61);
  groups.offsets.push_back(kRows);
  groups.offsets[0] = 0;
  return groups;
}

/// Measures the row form, the column form and both of `view`. `reads`: of the tensor, by definition.
void measure(KernelBench& bench, const std::string& name, const TensorView& view, const QuantizerSpec& spec,
             const RowGroups& groups, int reads, const std::uint32_t* known = nullptr) {
  const double read = static_cast<double>(view.rows * view.cols) * static_cast<double>(size_of(view.dtype)) * reads;
  const std::string shape = shape_text(view.dtype, view.rows, view.cols);
  const auto plan_of = [&](Orientation orientation) {
    return QuantizePlan(StepContext{}, view, groups, spec, orientation, Site{}, KernelChoice::fastest, known);
  };
  const auto written = [](const QuantizedTensor& q) { return static_cast<double>(q.codes.bytes + q.scales.bytes); };
  for (const Orientation orientation : {Orientation::row, Orientation::column}) {
    const std::string full = "quantize/" + name + (orientation == Orientation::row ? ", row" : ", column");
    if (!bench.wants(full)) continue;
    QuantizePlan plan = plan_of(orientation);
    plan.run(nullptr);
    const double bytes = read + written(plan.result());
    bench.memory_bound(full, shape, bytes, [&] { plan.run(nullptr); });
  }
  if (!bench.wants("quantize/" + name + ", both")) return;
  RowAndColumnPlan both(plan_of(Orientation::row), plan_of(Orientation::column));
  both.run(nullptr);
  const double bytes = read + written(both.row()) + written(both.column());
  bench.memory_bound("quantize/" + name + ", both" + (both.from_one_read() ? "" : " (two reads)"), shape, bytes,
                     [&] { both.run(nullptr); });
}

void measure_decoding(KernelBench& bench, const char* name, const TensorView& x, Orientation orientation, Dtype to) {
  const std::string full = std::string("dequantize/") + name +
                           (orientation == Orientation::row ? ", row to " : ", column to ") + std::string(name_of(to));
  if (!bench.wants(full)) return;
  const QuantizedTensor q = CudaQuantizer().quantize(StepContext{}, x, RowGroups{}, preset(name), orientation, Site{});
  const Buffer out = allocate(static_cast<std::size_t>(q.rows * q.cols) * size_of(to));
  const TensorView view{out.data.get(), to, q.rows, q.cols, q.cols, {}};
  bench.memory_bound(full, shape_text(to, q.rows, q.cols),
                     static_cast<double>(q.codes.bytes + q.scales.bytes + out.bytes), [&] { dequantize(q, view); });
}

}  // namespace

void bench_patches(KernelBench& bench) {
  const Tensor bf16 = bench.normal(Dtype::bf16, kRows, kCols);
  const TensorView& x = bf16.view;
  const Buffer known = to_device(std::vector<std::uint32_t>{0x40c00000u});  // 6
  const std::uint32_t* const six = known.as<std::uint32_t>();
  const auto one = [&](const char* name, const QuantizerSpec& spec, int reads, const std::uint32_t* amax = nullptr) {
    measure(bench, name, x, spec, RowGroups{}, reads, amax);
  };
  one("nvfp4_2d known amax", preset("nvfp4_2d"), 1, six);
  one("nvfp4_2d own amax", preset("nvfp4_2d"), 2);
  one("fp8_128x128", preset("fp8_128x128"), 1);
  one("fp8_tensor known amax", preset("fp8_tensor"), 1, six);
  one("fp8_tensor own amax", preset("fp8_tensor"), 2);
  one("fp4_token", preset("fp4_token"), 1);
  one("fp4_channel", preset("fp4_channel"), 2);
  one("mxfp6_e2m3", preset("mxfp6_e2m3"), 1);
  one("mxint8", preset("mxint8"), 1);
  one("mxfp4 stochastic 16", stochastic(preset("mxfp4"), 16), 1);
  one("mxfp8_e4m3 stochastic 8", stochastic(preset("mxfp8_e4m3"), 8), 1);
  // Rows that begin at no multiple of 16 bytes.
  TensorView odd = x;
  odd.cols = odd.stride = kCols - 3;
  measure(bench, "mxfp4, odd columns", odd, preset("mxfp4"), RowGroups{}, 1);
  measure(bench, "mxfp8_e4m3, odd columns", odd, preset("mxfp8_e4m3"), RowGroups{}, 1);
  measure(bench, "nvfp4 known amax, odd columns", odd, preset("nvfp4"), RowGroups{}, 1, six);
  measure(bench, "mxfp4 stochastic 8, odd columns", odd, stochastic(preset("mxfp4"), 8), RowGroups{}, 1);
  const RowGroups experts = ragged_experts();
  const Buffer sixes = to_device(std::vector<std::uint32_t>(64, 0x40c00000u));
  measure(bench, "mxfp4, 64 ragged experts", x, preset("mxfp4"), experts, 1);
  measure(bench, "mxfp8_e4m3, 64 ragged experts", x, preset("mxfp8_e4m3"), experts, 1);
  measure(bench, "fp8_1x128, 64 ragged experts", x, preset("fp8_1x128"), experts, 1);
  measure(bench, "nvfp4 known amaxes, 64 ragged experts", x, preset("nvfp4"), experts, 1, sixes.as<std::uint32_t>());
  TensorView whole_sixteens = x;
  whole_sixteens.rows = kRows - 16;
  measure(bench, "nvfp4 known amax, hadamard, rows no multiple of 32", whole_sixteens, transformed(preset("nvfp4")),
          RowGroups{}, 1, six);
  for (const char* name : {"mxfp4", "nvfp4", "mxfp8_e4m3", "fp8_1x128", "fp8_128x128"})
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Dtype to : {Dtype::bf16, Dtype::f32}) measure_decoding(bench, name, x, orientation, to);
}

}  // namespace ng::cuda
