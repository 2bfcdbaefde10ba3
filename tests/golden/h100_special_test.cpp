// SPDX-License-Identifier: Apache-2.0
//
// Claim: the catalogue's accumulators give every bit that an H100 gave to the probes of tests/silicon: special values,
// zeros, overflow, subnormals, the place of c, through every mma.sync and wgmma instruction and through cuBLASLt; and
// the fit of validate finds cuBLASLt's accumulators from its answers. Alone: ctest -R h100_special
#include <gtest/gtest.h>

#include <iostream>
#include <set>

#include "golden/golden_file.hpp"
#include "golden/tally.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng_golden {
namespace {

using namespace ng;

FormatId format_named(std::string name) {
  if (name == "f16") name = "fp16";
  for (const NamedFormat& f : format_catalog())
    if (name == f.name) return f.id;
  throw std::runtime_error("unknown format " + name);
}

float value_of(FormatId id, std::uint32_t code) {
  return id == FormatId::tf32 ? float_of(code & 0xffffe000u) : decode(format_of(id), code);
}

std::vector<std::string> words(const std::string& text, char between) {
  std::vector<std::string> out(1);
  for (const char c : text) {
    if (c == between)
      out.emplace_back();
    else
      out.back() += c;
  }
  return out;
}

// "instructions/wgmma.m64n8k32.f32.e4m3.e5m2/x1"
void compare_instruction(GoldenFile& file, const std::string& folder, Tally& tally, std::size_t& compared) {
  const std::string name = words(folder, '/').at(1);
  const std::vector<std::string> part = words(name, '.');
  const FormatId a_format = format_named(part.at(3)), b_format = format_named(part.at(4));
  const StepResult result = part.at(2) == "f32" ? StepResult::fp32_toward_zero : StepResult::fp16_nearest_even;
  const bool f16 = result == StepResult::fp16_nearest_even;
  const bool fp8 = bit_count(format_of(a_format)) == 8;
  const AccumulatorRow* row =
      find_accumulator(part.at(0) == "mma" && fp8 ? "hopper_mma_fp8" : "hopper", a_format, b_format, result);
  ASSERT_NE(row, nullptr) << name;
  EXPECT_EQ(row->evidence, Evidence::silicon) << name;
  AccumulatorSpec spec = row->spec;
  spec.instruction_k = static_cast<std::int16_t>(std::stoi(part.at(1).substr(part.at(1).find('k') + 1)));
  if (spec.terms > spec.instruction_k) spec.terms = spec.instruction_k;
  const std::vector<std::uint32_t> a = file.integers(folder + "/a"), b = file.integers(folder + "/b");
  const std::vector<std::uint32_t> c = file.integers(folder + "/c"), d = file.integers(folder + "/d");
  const std::size_t k = a.size() / c.size();
  TallyRow& counts =
      tally.row(part.at(0), part.at(3) + " " + part.at(4), row->arithmetic, part.at(2) + " " + part.at(1));
  for (std::size_t i = 0; i < c.size(); ++i) {
    std::vector<float> x, y;
    for (std::size_t e = i * k; e < (i + 1) * k; ++e)
      x.push_back(value_of(a_format, a[e])), y.push_back(value_of(b_format, b[e]));
    const StepOperands in{x.data(),
                          y.data(),
                          nullptr,
                          nullptr,
                          smallest_exponent(format_of(a_format)),
                          smallest_exponent(format_of(b_format)),
                          0};
    const float from = f16 ? decode(format_of(FormatId::fp16), c[i]) : float_of(c[i]);
    const float to = accumulate(spec, in, 0, static_cast<std::int64_t>(k), from);
    const std::uint32_t bits = output_bits(f16 ? ProductOutput::f16 : ProductOutput::f32, to);
    if (!Tally::count(counts, bits, d[i])) tally.difference(folder + " probe " + std::to_string(i));
  }
  compared += c.size();
}

// "cublaslt/e4m3 e4m3 -> f32, fast": one product of two numbers.
void compare_library(GoldenFile& file, const std::string& folder, Tally& tally, std::size_t& compared) {
  const std::string name = words(folder, '/').at(1);
  const std::vector<std::string> part = words(name, ' ');
  const FormatId a_format = format_named(part.at(0)), b_format = format_named(part.at(1));
  const std::string type = part.at(3).substr(0, part.at(3).find(','));
  const ProductOutput output = type == "f32"    ? ProductOutput::f32
                               : type == "bf16" ? ProductOutput::bf16
                                                : ProductOutput::f16;
  const bool f16 = name.find("FP16 accumulation") != std::string::npos;
  const AccumulatorRow* row = find_accumulator("hopper", a_format, b_format,
                                               f16 ? StepResult::fp16_nearest_even : StepResult::fp32_toward_zero);
  ASSERT_NE(row, nullptr) << name;
  TensorCoreSpec spec{row->spec};
  spec.promotion = name.find("promoted") != std::string::npos ? 128 : 0;
  spec.output = output;
  const std::vector<std::uint32_t> a = file.integers(folder + "/a"), b = file.integers(folder + "/b"),
                                   d = file.integers(folder + "/d");
  TallyRow& counts = tally.row("cuBLASLt", part.at(0) + " " + part.at(1), "hopper", name.substr(name.find("->") + 3));
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::vector<float> x(128, 0.0f), y(128, 0.0f);
    CastChoices rounding;
    rounding.overflow = Overflow::nonfinite;
    const auto number = [&](FormatId id, std::uint32_t code) {
      return id == FormatId::tf32 ? decode(format_of(id), encode(format_of(id), rounding, float_of(code)))
                                  : decode(format_of(id), code);
    };
    x[0] = number(a_format, a[i]), y[0] = number(b_format, b[i]);
    const StepOperands in{x.data(),
                          y.data(),
                          nullptr,
                          nullptr,
                          smallest_exponent(format_of(a_format)),
                          smallest_exponent(format_of(b_format)),
                          0};
    if (!Tally::count(counts, output_bits(output, tensor_core_element(spec, in, {}, 128)), d[i]))
      tally.difference(folder + " " + std::to_string(i));
  }
  compared += a.size();
}

TEST(H100Special, EveryProbe) {
  GoldenFile file("h100_special.h5");
  Tally tally;
  std::size_t compared = 0;
  std::set<std::string> folders;
  for (const std::string& path : file.unread())
    folders.insert(path.substr(path.front() == '/' ? 1 : 0, path.rfind('/') - (path.front() == '/' ? 1 : 0)));
  for (const std::string& folder : folders) {
    if (folder.starts_with("instructions/")) compare_instruction(file, folder, tally, compared);
    if (folder.starts_with("cublaslt/")) compare_library(file, folder, tally, compared);
  }
  std::cout << tally.table() << compared << " probes\n";
  EXPECT_TRUE(tally.all_equal()) << tally.differences();
  EXPECT_EQ(tally.compared(), compared);
  EXPECT_GT(compared, 14000u);
}

}  // namespace
}  // namespace ng_golden
