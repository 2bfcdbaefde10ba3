// SPDX-License-Identifier: Apache-2.0
//
// Outlier splits, their compensation product, and the gradient estimator. A split reads its tensor once, and once more
// where the quantiles are the whole tensor's; it writes the clamped tensor and the residual. The estimator reads weight
// and gradient and writes the gradient.
#include "backend/outliers.hpp"
#include "bench/kernel_bench.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kCols = 8192;

struct SplitEntry {
  const char* name;
  double quantile;
  OutlierScope scope;
  Orientation orientation;
  Dtype dtype;
};

constexpr SplitEntry kSplits[] = {
    {"outliers/split rows 0.99", 0.99, OutlierScope::row, Orientation::row, Dtype::bf16},
    {"outliers/split rows 0.999", 0.999, OutlierScope::row, Orientation::row, Dtype::bf16},
    {"outliers/split rows 0.99 f32", 0.99, OutlierScope::row, Orientation::row, Dtype::f32},
    {"outliers/split tensor 0.99", 0.99, OutlierScope::tensor, Orientation::row, Dtype::bf16},
    {"outliers/split columns 0.99", 0.99, OutlierScope::row, Orientation::column, Dtype::bf16},
};

QuantizerSpec preset(const std::string& name) {
  for (const NamedQuantizer& candidate : quantizer_presets())
    if (candidate.name == name) return candidate.spec;
  throw LogicError("no preset " + name);
}

SplitSource split(const SplitEntry& entry, const TensorView& x) {
  QuantizerSpec spec = preset("fp4_token");
  spec.outlier = OutlierSpec{entry.quantile, entry.scope, OutlierResidual::bf16};
  return split_outliers(StepContext{}, x, RowGroups{}, spec, entry.orientation, ResidualWanted::yes,
                        KernelChoice::fastest);
}

}  // namespace

void bench_outliers(KernelBench& bench) {
  for (const SplitEntry& entry : kSplits) {
    if (!bench.wants(entry.name)) continue;
    const Tensor x = bench.normal(entry.dtype, kRows, kCols);
    const SplitSource once = split(entry, x.view);
    const SparseResidual& r = *once.residual;
    const double bytes = static_cast<double>(x.buffer.bytes) * (entry.scope == OutlierScope::tensor ? 3.0 : 2.0) +
                         static_cast<double>(r.columns.bytes + r.values.bytes + r.row_pointers.bytes);
    bench.memory_bound(entry.name, shape_text(entry.dtype, kRows, kCols), bytes, [&] { (void)split(entry, x.view); });
  }
  constexpr std::int64_t kOut = 4096;
  const std::string product = "outliers/residual product";
  if (bench.wants(product)) {
    const Tensor x = bench.normal(Dtype::bf16, kRows, kCols);
    const Tensor weight = bench.normal(Dtype::bf16, kOut, kCols);
    const Tensor out = bench.normal(Dtype::f32, kRows, kOut);
    const SplitSource source = split(kSplits[0], x.view);
    bench.compute_bound(product, std::to_string(source.residual->count) + " entries x " + std::to_string(kOut),
                        2.0 * static_cast<double>(source.residual->count) * static_cast<double>(kOut),
                        Ceiling::fp32_fma,
                        [&] { bench.backend().add_residual_product(*source.residual, weight.view, out.view); });
  }
}

void bench_estimator(KernelBench& bench) {
  const EstimatorSpec estimator{EstimatorKind::differentiable, EstimatorBeyond::zero, EstimatorMean::as_published, 5.0f,
                                3.0f};
  for (const char* name : {"fp4_token", "mxfp4"}) {
    const std::string full = std::string("estimator/") + name;
    if (!bench.wants(full)) continue;
    const Tensor weight = bench.normal(Dtype::f32, kCols, kCols);
    const Tensor gradient = bench.normal(Dtype::f32, kCols, kCols);
    const QuantizerSpec spec = preset(name);
    bench.memory_bound(full, shape_text(Dtype::f32, kCols, kCols), 3.0 * static_cast<double>(weight.buffer.bytes), [&] {
      bench.backend().multiply_by_estimator(estimator, spec, RowGroups{}, weight.view, gradient.view);
    });
  }
}

}  // namespace ng::cuda
