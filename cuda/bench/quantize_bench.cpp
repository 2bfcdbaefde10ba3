// SPDX-License-Identifier: Apache-2.0
//
// Quantization: row forms, column forms, both from one read, with a transform or stochastic rounding, and a few plain
// kernels beside them.
#include <algorithm>
#include <iterator>

#include "backend/quantize_plan.hpp"
#include "bench/kernel_bench.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kCols = 8192;

enum class Forms : std::uint8_t { row, column, both };

struct Entry {
  const char* name;
  const char* preset;
  ScaleRule rule;
  Dtype dtype;
  bool known_amax;
  KernelChoice choice = KernelChoice::fastest;
  Forms forms = Forms::row;
  bool transform = false;  ///< of a single form; of both forms the column's
  bool stochastic = false;
};

constexpr Entry entry(const char* name, const char* preset, ScaleRule rule, bool known, Forms forms,
                      bool transform = false, bool stochastic = false) {
  return {name, preset, rule, Dtype::bf16, known, KernelChoice::fastest, forms, transform, stochastic};
}

constexpr ScaleRule kTe = ScaleRule::te_v2_14;
constexpr Entry kEntries[] = {
    {"mxfp4 bf16", "mxfp4", ScaleRule::floor, Dtype::bf16, false},
    {"mxfp4 rceil bf16", "mxfp4", ScaleRule::rceil, Dtype::bf16, false},
    {"mxfp4 f32", "mxfp4", ScaleRule::floor, Dtype::f32, false},
    {"mxfp8_e4m3 bf16", "mxfp8_e4m3", ScaleRule::floor, Dtype::bf16, false},
    {"mxfp8_e5m2 bf16", "mxfp8_e5m2", ScaleRule::floor, Dtype::bf16, false},
    {"nvfp4 known amax bf16", "nvfp4", kTe, Dtype::bf16, true},
    {"nvfp4 own amax bf16", "nvfp4", kTe, Dtype::bf16, false},
    {"nvfp4 known amax f32", "nvfp4", kTe, Dtype::f32, true},
    {"fp8_1x128 bf16", "fp8_1x128", ScaleRule::absmax, Dtype::bf16, false},
    {"fp8_1x128 pow2 bf16", "fp8_1x128", ScaleRule::absmax_pow2, Dtype::bf16, false},
    {"fp8_1x128 f32", "fp8_1x128", ScaleRule::absmax, Dtype::f32, false},
    entry("mxfp4 column", "mxfp4", ScaleRule::floor, false, Forms::column),
    entry("mxfp8_e4m3 column", "mxfp8_e4m3", ScaleRule::floor, false, Forms::column),
    entry("nvfp4 known amax column", "nvfp4", kTe, true, Forms::column),
    entry("fp8_1x128 column", "fp8_1x128", ScaleRule::absmax, false, Forms::column),
    entry("mxfp4 both", "mxfp4", ScaleRule::floor, false, Forms::both),
    entry("mxfp8_e4m3 both", "mxfp8_e4m3", ScaleRule::floor, false, Forms::both),
    entry("nvfp4 known amax both", "nvfp4", kTe, true, Forms::both),
    entry("nvfp4 own amax both", "nvfp4", kTe, false, Forms::both),
    entry("fp8_1x128 both", "fp8_1x128", ScaleRule::absmax, false, Forms::both),
    entry("mxfp4 hadamard", "mxfp4", ScaleRule::floor, false, Forms::row, true),
    entry("nvfp4 known amax hadamard", "nvfp4", kTe, true, Forms::row, true),
    entry("nvfp4 known amax hadamard column", "nvfp4", kTe, true, Forms::column, true),
    entry("mxfp4 stochastic", "mxfp4", ScaleRule::floor, false, Forms::row, false, true),
    entry("nvfp4 known amax stochastic", "nvfp4", kTe, true, Forms::row, false, true),
    entry("nvfp4 known amax hadamard stochastic", "nvfp4", kTe, true, Forms::row, true, true),
    entry("nvfp4 known amax hadamard stochastic column", "nvfp4", kTe, true, Forms::column, true, true),
    entry("nvfp4 known amax gradient: row, column with hadamard, stochastic", "nvfp4", kTe, true, Forms::both, true,
          true),
    {"mxfp4 bf16, plain kernels", "mxfp4", ScaleRule::floor, Dtype::bf16, false, KernelChoice::plain},
    {"nvfp4 own amax bf16, plain kernels", "nvfp4", kTe, Dtype::bf16, false, KernelChoice::plain},
};

QuantizerSpec spec_of(const Entry& entry) {
  for (const NamedQuantizer& preset : quantizer_presets()) {
    if (std::string(preset.name) != entry.preset) continue;
    QuantizerSpec spec = preset.spec;
    spec.rule = entry.rule;
    return spec;
  }
  throw UserError(std::string("no preset ") + entry.preset);
}

}  // namespace

void bench_quantize(KernelBench& bench) {
  if (std::none_of(std::begin(kEntries), std::end(kEntries),
                   [&](const Entry& entry) { return bench.wants(std::string("quantize/") + entry.name); }))
    return;
  const Tensor bf16 = bench.normal(Dtype::bf16, kRows, kCols);
  const Tensor f32 = bench.normal(Dtype::f32, kRows, kCols);
  const Buffer known = to_device(std::vector<std::uint32_t>{0x40c00000u});  // 6
  for (const Entry& entry : kEntries) {
    const std::string name = std::string("quantize/") + entry.name;
    if (!bench.wants(name)) continue;
    const bool half = entry.dtype == Dtype::bf16;
    const TensorView& x = (half ? bf16 : f32).view;
    const bool plain = entry.choice == KernelChoice::plain;
    const auto plan_of = [&](Orientation orientation, bool transform) {
      QuantizerSpec spec = spec_of(entry);
      if (transform)
        spec.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
      if (entry.stochastic) {
        spec.cast.rounding = Rounding::stochastic;
        spec.cast.random_bits = 8;
      }
      QuantizePlan plan(StepContext{}, x, RowGroups{}, spec, orientation, Site{}, entry.choice,
                        entry.known_amax ? known.as<std::uint32_t>() : nullptr);
      if (!plain && plan.path() == KernelPath::plain) throw LogicError(name + " is served by no fast kernel");
      return plan;
    };
    const bool second_read = needs_tensor_amax(entry.rule) && !entry.known_amax;
    double bytes = static_cast<double>((half ? bf16 : f32).buffer.bytes * (second_read ? 2 : 1));
    const auto add = [&](const QuantizedTensor& q) { bytes += static_cast<double>(q.codes.bytes + q.scales.bytes); };
    const std::string shape = shape_text(entry.dtype, kRows, kCols);
    if (entry.forms == Forms::both) {
      RowAndColumnPlan plan(plan_of(Orientation::row, false), plan_of(Orientation::column, entry.transform));
      if (!plan.from_one_read()) throw LogicError(name + " is not made from one read");
      plan.run(nullptr);
      add(plan.row());
      add(plan.column());
      bench.memory_bound(name, shape, bytes, [&] { plan.run(nullptr); });
    } else {
      QuantizePlan plan = plan_of(entry.forms == Forms::row ? Orientation::row : Orientation::column, entry.transform);
      plan.run(nullptr);
      add(plan.result());
      bench.memory_bound(
          name, shape, bytes, [&] { plan.run(nullptr); }, plain);
    }
  }
}

}  // namespace ng::cuda
