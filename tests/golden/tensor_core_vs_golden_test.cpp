// SPDX-License-Identifier: Apache-2.0
//
// Claim: the accumulator models reproduce, bit for bit, every published dot product of eight GPUs (FP32 and FP16
// results), every vector of the Blackwell software model, and all 148 GEMMs that cuBLASLt ran on an H100 (promotion,
// five scale modes, split K, FP32 and BF16 output). Alone: ctest -R tensor_core_vs_golden
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "golden/golden_file.hpp"
#include "golden/h100_cases.hpp"
#include "golden/tally.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng_golden {
namespace {

using ng::FormatId;
using ng::OperandScales;
using ng::StepResult;

int smallest_exponent(FormatId id) {
  return ng::smallest_exponent(ng::format_of(id));
}

std::vector<float> as_floats(const std::vector<std::uint32_t>& bits) {
  std::vector<float> values;
  for (const std::uint32_t b : bits) values.push_back(ng::float_of(b));
  return values;
}

std::vector<float> decoded(FormatId id, const std::vector<std::uint32_t>& codes) {
  std::vector<float> values;
  for (const std::uint32_t code : codes) values.push_back(ng::decode(ng::format_of(id), code));
  return values;
}

void expect_all_equal(const Tally& tally, GoldenFile& file, std::size_t compared) {
  std::cout << tally.table();
  EXPECT_TRUE(tally.all_equal()) << tally.differences();
  EXPECT_EQ(tally.compared(), compared);
  EXPECT_EQ(tally.masked(), 0u);
  EXPECT_TRUE(file.unread().empty()) << file.unread().front() << " was never read";
}

struct Silicon {
  const char* arithmetic;  ///< of FP16, BF16, TF32 sets
  const char* fp8_f32;     ///< of FP8 sets, by result
  const char* fp8_f16;
};

const std::map<std::string, Silicon> kSilicon = {
    {"V100", {"volta", "", ""}},
    {"A100", {"ampere", "", ""}},
    {"A2", {"ampere", "", ""}},
    {"Ada", {"ada", "ada", "ada"}},
    {"L40S", {"ada", "ada", "ada"}},
    {"H100", {"hopper", "hopper", "hopper_mma_fp8"}},
    {"H200", {"hopper", "hopper", "hopper_mma_fp8"}},
    {"B200", {"blackwell", "hopper_mma_fp8", "hopper_mma_fp8"}},  // FP8 through mma.sync there, too
};

const std::map<std::string, FormatId> kTypes = {{"fp16", FormatId::fp16},
                                                {"bf16", FormatId::bf16},
                                                {"tf32", FormatId::tf32},
                                                {"E4M3", FormatId::e4m3},
                                                {"E5M2", FormatId::e5m2}};

TEST(TensorCoreVsGolden, DotProductsOfEightGpus) {
  GoldenFile file("tensor_core_silicon.h5");
  Tally tally;
  std::size_t sets = 0;
  for (const auto& [gpu, silicon] : kSilicon) {
    for (const auto& [type, id] : kTypes) {
      const std::string folder = gpu + "/" + type + "/";
      if (!file.has(folder + "a")) continue;
      const std::vector<float> a = as_floats(file.integers(folder + "a")), b = as_floats(file.integers(folder + "b"));
      const std::vector<float> c = as_floats(file.integers(folder + "c"));
      const std::size_t k = a.size() / c.size();
      const bool fp8 = id == FormatId::e4m3 || id == FormatId::e5m2;
      for (const StepResult result : {StepResult::fp32_toward_zero, StepResult::fp16_nearest_even}) {
        const bool f16 = result == StepResult::fp16_nearest_even;
        const std::string name = folder + (f16 ? "d_fp16" : "d_fp32");
        if (!file.has(name)) continue;
        const char* arithmetic = fp8 ? (f16 ? silicon.fp8_f16 : silicon.fp8_f32) : silicon.arithmetic;
        const ng::AccumulatorRow* row = ng::find_accumulator(arithmetic, id, id, result);
        ASSERT_NE(row, nullptr) << name;
        EXPECT_EQ(row->evidence, ng::Evidence::silicon) << name;
        // wgmma's FP32 result on Hopper was measured without the stored c (the file says so).
        const bool without_c = fp8 && !f16 && std::string(arithmetic) == "hopper";
        const std::vector<std::uint32_t> expected = file.integers(name);
        TallyRow& counts = tally.row(gpu, type, arithmetic, f16 ? "d_fp16" : "d_fp32");
        for (std::size_t i = 0; i < c.size(); ++i) {
          const ng::StepOperands in{
              &a[i * k], &b[i * k], nullptr, nullptr, smallest_exponent(id), smallest_exponent(id), 0};
          const float start = without_c ? 0.0f : f16 ? ng::rounded_to_fp16(c[i]) : c[i];
          const float d = ng::accumulate(row->spec, in, 0, static_cast<std::int64_t>(k), start);
          if (!Tally::count(counts, ng::bits_of(d), expected[i])) tally.difference(name + " row " + std::to_string(i));
        }
        ++sets;
      }
    }
  }
  EXPECT_EQ(sets, 48u);
  expect_all_equal(tally, file, 48u * 1500u);
}

TEST(TensorCoreVsGolden, BlackwellSoftwareModel) {
  GoldenFile file("mma_sim_blackwell.h5");
  Tally tally;
  struct Set {
    const char* name;
    FormatId id;
    OperandScales scales;
    int scale_k;
  };
  const Set sets[] = {{"f8_e4m3", FormatId::e4m3, OperandScales::none, 1},
                      {"f8_e5m2", FormatId::e5m2, OperandScales::none, 1},
                      {"mxf8f6f4_e4m3", FormatId::e4m3, OperandScales::e8m0_per_32, 32},
                      {"mxf8f6f4_e5m2", FormatId::e5m2, OperandScales::e8m0_per_32, 32},
                      {"mxf4_ue8m0", FormatId::e2m1, OperandScales::e8m0_per_32, 16},  // stored once per 16
                      {"mxf4nvf4_ue4m3", FormatId::e2m1, OperandScales::e4m3_per_16, 16}};
  for (const Set& set : sets) {
    const std::string folder = std::string(set.name) + "/";
    const std::vector<float> a = decoded(set.id, file.integers(folder + "a_codes"));
    const std::vector<float> b = decoded(set.id, file.integers(folder + "b_codes"));
    const std::vector<float> c = as_floats(file.integers(folder + "c_bits"));
    const std::vector<std::uint32_t> expected = file.integers(folder + "d_bits");
    const bool scaled = set.scales != OperandScales::none;
    const FormatId scale_id = set.scales == OperandScales::e4m3_per_16 ? FormatId::e4m3 : FormatId::e8m0;
    std::vector<float> scale_a, scale_b;
    if (scaled) {
      scale_a = decoded(scale_id, file.integers(folder + "scale_a_codes"));
      scale_b = decoded(scale_id, file.integers(folder + "scale_b_codes"));
    }
    const ng::AccumulatorRow* row =
        ng::find_accumulator("blackwell", set.id, set.id, StepResult::fp32_toward_zero, set.scales);
    ASSERT_NE(row, nullptr) << set.name;
    EXPECT_EQ(row->evidence, ng::Evidence::model_only);
    const std::size_t k = a.size() / c.size();
    const std::size_t per_row = scaled ? scale_a.size() / c.size() : 0;
    TallyRow& counts = tally.row("MMA-Sim", ng::name_of(set.id), "blackwell", set.name);
    for (std::size_t i = 0; i < c.size(); ++i) {
      const ng::StepOperands in{&a[i * k],
                                &b[i * k],
                                scaled ? &scale_a[i * per_row] : nullptr,
                                scaled ? &scale_b[i * per_row] : nullptr,
                                smallest_exponent(set.id),
                                smallest_exponent(set.id),
                                smallest_exponent(scale_id)};
      const float d = ng::accumulate(row->spec, in, 0, static_cast<std::int64_t>(k), c[i], set.scale_k);
      if (!Tally::count(counts, ng::bits_of(d), expected[i])) tally.difference(folder + " row " + std::to_string(i));
    }
  }
  expect_all_equal(tally, file, 6u * 400u);
}

TEST(TensorCoreVsGolden, EveryGemmOfAnH100) {
  GoldenFile file("h100_gemm.h5");
  Tally tally;
  std::size_t compared = 0, cases = 0;
  for (const std::string& name : file.groups()) {
    const H100Case h = read_h100_case(file, name);
    TallyRow& counts = tally.row("cuBLASLt", ng::name_of(h.a_format) + std::string("·") + ng::name_of(h.b_format),
                                 h.rule(), h.output == ng::ProductOutput::bf16 ? "bf16 result" : "f32 result");
    for (std::int64_t m = 0; m < h.m; ++m) {
      for (std::int64_t n = 0; n < h.n; ++n) {
        const ng::StepOperands in{
            &h.a[static_cast<std::size_t>(m * h.k)], &h.b[static_cast<std::size_t>(n * h.k)], nullptr, nullptr,
            smallest_exponent(h.a_format),           smallest_exponent(h.b_format),           0};
        const ng::TensorCoreSpec spec = h.spec();
        const float sum = ng::tensor_core_element(spec, in, h.element_scales(m, n), h.k);
        const std::size_t i = static_cast<std::size_t>(m * h.n + n);
        if (!Tally::count(counts, ng::output_bits(spec.output, sum), h.d[i]))
          tally.difference(name + " element " + std::to_string(m) + "," + std::to_string(n));
      }
    }
    compared += h.d.size();
    ++cases;
  }
  EXPECT_EQ(cases, 148u);
  std::cout << cases << " GEMMs\n";
  expect_all_equal(tally, file, compared);
}

}  // namespace
}  // namespace ng_golden
