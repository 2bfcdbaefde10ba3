// SPDX-License-Identifier: Apache-2.0
//
// Products: the two tensor-core ceilings, FP8 with every mode of scales, emulated formats, groups of experts, FP32
// chains. Operands are quantized beforehand; what a product itself decodes or copies counts.
#include <algorithm>
#include <iterator>

#include "bench/kernel_bench.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda {

namespace {

QuantizerSpec preset(const std::string& name) {
  for (const NamedQuantizer& candidate : quantizer_presets())
    if (candidate.name == name) return candidate.spec;
  throw LogicError("no preset " + name);
}

/// A product of N = K = `size` and M = groups * size, made ready.
class Case {
 public:
  Case(KernelBench& bench, Arithmetic arithmetic, std::int64_t groups, std::int64_t size, const char* quantizer_a,
       const char* quantizer_b, Accumulate accumulation, Carrier carrier = Carrier::bf16)
      : backend_(bench.backend(arithmetic)) {
    for (std::int64_t g = 0; groups > 1 && g <= groups; ++g) groups_.offsets.push_back(g * size);
    a_ = form(bench, quantizer_a, groups * size, size);
    b_ = form(bench, quantizer_b, groups * size, size);
    out_ = backend_.tensor(quantizer_a == nullptr && arithmetic == Arithmetic::ieee ? Dtype::f32 : Dtype::bf16,
                           groups * size, size);
    product_.site = &site_;
    product_.a = &a_;
    product_.b = &b_;
    product_.out = out_.view;
    product_.groups = &groups_;
    product_.carrier = carrier;
    product_.accumulation = accumulation;
    operations_ = 2.0 * static_cast<double>(groups * size) * static_cast<double>(size) * static_cast<double>(size);
    shape_ = (groups > 1 ? std::to_string(groups) + " x " : "") + std::to_string(size) + "^3";
  }

  void run() { backend_.grouped_matmul({}, product_); }
  [[nodiscard]] double operations() const { return operations_; }
  [[nodiscard]] const std::string& shape() const { return shape_; }

 private:
  Form form(KernelBench& bench, const char* quantizer, std::int64_t rows, std::int64_t cols) {
    Form form;
    form.plain = bench.normal(Dtype::bf16, rows, cols);
    if (quantizer == nullptr) return form;
    form.kind = OperandKind::quantized;
    form.quantized = std::make_shared<QuantizedTensor>(
        backend_.quantize({}, form.plain.view, groups_, preset(quantizer), Orientation::row, site_));
    form.plain = Tensor{};
    return form;
  }

  Backend& backend_;
  Site site_{"bench", 0, 0};
  RowGroups groups_;
  Form a_, b_;
  Tensor out_;
  Product product_;
  double operations_ = 0.0;
  std::string shape_;
};

constexpr std::int64_t kSize = 8192;
constexpr std::int64_t kGroups = 64;
constexpr std::int64_t kGroupSize = 2048;
constexpr std::int64_t kChainSize = 4096;

struct Entry {
  const char* name;
  const char* a;
  const char* b;
  Accumulate accumulation;
  std::int64_t groups;
  Carrier carrier = Carrier::bf16;
};

constexpr Entry kEntries[] = {
    {"product/fp8 tensor", "fp8_tensor", "fp8_tensor", Accumulate::promoted, 1},
    {"product/fp8 outer", "fp4_token", "fp4_token", Accumulate::promoted, 1, Carrier::e4m3},
    {"product/fp8 1x128", "fp8_1x128", "fp8_1x128", Accumulate::promoted, 1},
    {"product/fp8 1x128 128x128", "fp8_1x128", "fp8_128x128", Accumulate::promoted, 1},
    {"product/mxfp4 carried by bf16", "mxfp4", "mxfp4", Accumulate::promoted, 1},
    {"product/nvfp4 carried by bf16", "nvfp4", "nvfp4", Accumulate::promoted, 1},
    {"grouped_product/bf16", nullptr, nullptr, Accumulate::promoted, kGroups},
    {"grouped_product/fp8 tensor fast", "fp8_tensor", "fp8_tensor", Accumulate::fast, kGroups},
    {"grouped_product/fp8 tensor", "fp8_tensor", "fp8_tensor", Accumulate::promoted, kGroups},
    {"grouped_product/fp8 1x128 128x128", "fp8_1x128", "fp8_128x128", Accumulate::promoted, kGroups},
    {"grouped_product/mxfp4 carried by bf16", "mxfp4", "mxfp4", Accumulate::promoted, kGroups},
};

}  // namespace

void bench_product_ceilings(KernelBench& bench) {
  if (std::none_of(std::begin(kEntries), std::end(kEntries), [&](const Entry& e) { return bench.wants(e.name); }))
    return;
  {
    Case bf16(bench, Arithmetic::hopper, 1, kSize, nullptr, nullptr, Accumulate::promoted);
    bench.ceiling(Ceiling::bf16_product, bf16.shape(), bf16.operations(), [&] { bf16.run(); });
  }
  Case fp8(bench, Arithmetic::hopper, 1, kSize, "fp8_tensor", "fp8_tensor", Accumulate::fast);
  bench.ceiling(Ceiling::fp8_product, fp8.shape(), fp8.operations(), [&] { fp8.run(); });
}

void bench_products(KernelBench& bench) {
  for (const Entry& entry : kEntries) {
    if (!bench.wants(entry.name)) continue;
    Case product(bench, Arithmetic::hopper, entry.groups, entry.groups == 1 ? kSize : kGroupSize, entry.a, entry.b,
                 entry.accumulation, entry.carrier);
    const bool fp8 = std::string(entry.name).find("fp8") != std::string::npos;
    bench.compute_bound(entry.name, product.shape(), product.operations(),
                        fp8 ? Ceiling::fp8_product : Ceiling::bf16_product, [&] { product.run(); });
  }
  for (const std::int64_t groups : {std::int64_t{1}, kGroups}) {
    const std::string name = groups == 1 ? "chain_product/bf16" : "chain_product/bf16 grouped";
    if (!bench.wants(name)) continue;
    Case product(bench, Arithmetic::ieee, groups, groups == 1 ? kChainSize : kGroupSize / 2, nullptr, nullptr,
                 Accumulate::promoted);
    bench.compute_bound(name, product.shape(), product.operations(), Ceiling::fp32_fma, [&] { product.run(); });
  }
}

}  // namespace ng::cuda
