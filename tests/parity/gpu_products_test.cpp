// SPDX-License-Identifier: Apache-2.0
//
// Claim: products as large as those of training, on the tensor core itself and as FP32 chains, have the CPU backend's
// bytes: every kind of steps and scales, whichever kernels cuBLASLt takes for the shapes. Prints those kernels.
// Alone: operations_gpu --gtest_filter='LargeProducts.*'
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <thread>

#include "backend/cuda_backend.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "operations/products.hpp"
#include "runtime/device.hpp"

namespace ng_test {
namespace {

using namespace ng;

struct LargeSpec {
  std::string name;
  GemmSpec spec;
};

std::vector<LargeSpec> specs() {
  std::vector<LargeSpec> list;
  const auto add = [&](const std::string& name, const OperandSpec& a, const OperandSpec& b, Accumulate accumulate,
                       Carrier carrier = Carrier::bf16) {
    GemmSpec spec;
    spec.a = a;
    spec.b = b;
    spec.accumulate = accumulate;
    spec.carrier = carrier;
    list.push_back({name, spec});
  };
  QuantizerSpec e5m2 = preset("fp8_tensor");
  e5m2.element_id = FormatId::e5m2;
  e5m2.element = format_of(FormatId::e5m2);
  const OperandSpec tensor = quantized(preset("fp8_tensor")), rows = quantized(preset("fp8_1x128")),
                    blocks = quantized(preset("fp8_128x128")), token = quantized(preset("fp4_token"));
  add("bf16", plain(OperandKind::bf16), plain(OperandKind::bf16), Accumulate::promoted);
  for (const Accumulate accumulate : {Accumulate::promoted, Accumulate::fast}) {
    const std::string how = accumulate == Accumulate::fast ? ", fast" : "";
    add("tensor" + how, tensor, tensor, accumulate);
    add("outer" + how, token, token, accumulate, Carrier::e4m3);
    add("e5m2 e4m3 tensor" + how, quantized(e5m2), tensor, accumulate);
  }
  add("1x128 128x128", rows, blocks, Accumulate::promoted);
  add("1x128 1x128", rows, rows, Accumulate::promoted);
  add("mxfp4", quantized(preset("mxfp4")), quantized(preset("mxfp4")), Accumulate::promoted);
  add("nvfp4", quantized(preset("nvfp4")), quantized(preset("nvfp4")), Accumulate::promoted);
  return list;
}

TEST(LargeProducts, EqualTheCpus) {
  if (const auto problem = cuda::device_problem()) GTEST_SKIP() << "NOT TESTED, no GPU: " << *problem;
  const std::vector<Shape> shapes = {{512, 1024, 768, {}, 0},
                                     {2048, 512, 64, {}, 0},
                                     {64, 512, 1024, {}, 0},
                                     {1024, 512, 256, RowGroups{{0, 32, 32, 320, 704, 736, 992, 1024}}, 0},
                                     {1000, 384, 160, RowGroups{{0, 3, 131, 131, 500, 1000}}, 0},
                                     {4096, 256, 128, {}, 0},
                                     {777, 200, 88, {}, 0}};
  const Gemm gemms[] = {Gemm::fprop, Gemm::dgrad, Gemm::wgrad};
  BackendOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::uint32_t seed = 0;
  std::size_t algorithms = 0;
  for (const Arithmetic arithmetic : {Arithmetic::hopper, Arithmetic::ieee}) {
    options.arithmetic = arithmetic;
    const auto cpu = make_cpu_backend(options);
    const auto gpu = cuda::make_backend_of(options, cuda::KernelChoice::fastest);
    const auto& cuda_backend = dynamic_cast<const cuda::CudaBackend&>(*gpu);
    for (const LargeSpec& large : specs())
      for (const Shape& shape : shapes)
        for (const Gemm gemm : gemms) {
          ++seed;
          const bool plain_operands = large.spec.a.kind != OperandKind::quantized;
          if (!plain_operands && seed % 3 != (seed / 21) % 3) continue;  // one gemm a shape, another for each spec
          if (!plain_operands && arithmetic == Arithmetic::ieee && large.name != "nvfp4") continue;
          const bool accumulate = gemm == Gemm::wgrad && seed % 2 == 0;
          const Choice choice{seed % 4 == 0 ? Values::wide : Values::normal,
                              accumulate || seed % 5 == 0 ? Dtype::f32 : Dtype::bf16, accumulate, seed};
          const Outputs expected = multiply(*cpu, shape, large.spec, gemm, choice);
          EXPECT_EQ(expected.difference(multiply(*gpu, shape, large.spec, gemm, choice)), "")
              << large.name << " gemm " << static_cast<int>(gemm) << ", " << shape.rows << " " << shape.in << " "
              << shape.out << (arithmetic == Arithmetic::ieee ? " ieee" : " hopper");
        }
    for (const cuda::LibraryAlgorithm& algorithm : cuda_backend.library_algorithms())
      std::printf("cuBLASLt %s\n", algorithm.text().c_str());
    algorithms += cuda_backend.library_algorithms().size();
  }
  EXPECT_GT(algorithms, 100u);
}

}  // namespace
}  // namespace ng_test
