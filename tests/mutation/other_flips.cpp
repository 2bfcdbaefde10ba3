// SPDX-License-Identifier: Apache-2.0
//
// Random draws and gradient estimator before the oracle; products before results of an H100.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>

#include "flips.hpp"
#include "golden/h100_cases.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/gradient_estimator.hpp"
#include "oracle/estimator.hpp"
#include "oracle/transforms.hpp"

namespace ng_mutation {

std::vector<Flip> draw_flips() {
  constexpr std::uint64_t kCols = 96, kRows = 64;
  struct Draw {
    ng::RandomStream stream{7, ng::RandomPurpose::stochastic_rounding, 0xABCD, 3};
    int bits = 8;
    bool row_major = true;
  };
  const auto program = [](const Draw& d, std::uint64_t row, std::uint64_t col) {
    return ng::random_draw(d.stream, d.row_major ? row * kCols + col : col * kRows + row, d.bits);
  };
  std::vector<Flip> flips;
  const auto flip = [&](const std::string& choice, const std::string& from, const std::string& to, const Draw& judged,
                        const Draw& flipped) {
    Flip f{choice, from, to, "oracle", kRows * kCols, 0, Outcome::seen};
    std::size_t wrong = 0;
    for (std::uint64_t row = 0; row < kRows; ++row) {
      for (std::uint64_t col = 0; col < kCols; ++col) {
        const ng::RandomStream& s = judged.stream;
        const std::uint32_t expected = ng_oracle::element_draw(s.seed, static_cast<std::uint32_t>(s.purpose),
                                                               s.tensor_id, s.step, row * kCols + col, judged.bits);
        wrong += program(judged, row, col) != expected;
        f.differ += program(flipped, row, col) != expected;
      }
    }
    EXPECT_EQ(wrong, 0u) << choice << ": the program and its judge differ unflipped";
    flips.push_back(f);
  };
  const std::pair<const char*, ng::RandomPurpose> purposes[] = {
      {"initial_weights", ng::RandomPurpose::initial_weights},
      {"data_order", ng::RandomPurpose::data_order},
      {"stochastic_rounding", ng::RandomPurpose::stochastic_rounding},
      {"hadamard_signs", ng::RandomPurpose::hadamard_signs},
      {"test_vectors", ng::RandomPurpose::test_vectors}};
  for (const auto& [from, from_purpose] : purposes) {
    for (const auto& [to, to_purpose] : purposes) {
      Draw judged, flipped;
      judged.stream.purpose = from_purpose;
      flipped.stream.purpose = to_purpose;
      if (from_purpose != to_purpose) flip("random purpose", from, to, judged, flipped);
    }
  }
  for (const int from : {8, 16, 32}) {
    for (const int to : {8, 16, 32}) {
      Draw judged, flipped;
      judged.bits = from;
      flipped.bits = to;
      if (from != to) flip("random bits", std::to_string(from), std::to_string(to), judged, flipped);
    }
    Draw judged;
    judged.bits = from;
    const std::string with = " of " + std::to_string(from) + " bits";
    Draw seed = judged, tensor = judged, step = judged, order = judged;
    seed.stream.seed += 1;
    tensor.stream.tensor_id += 1;
    step.stream.step += 1;
    order.row_major = false;
    flip("random seed", "7" + with, "8", judged, seed);
    flip("random tensor id", "0xABCD" + with, "0xABCE", judged, tensor);
    flip("random step", "3" + with, "4", judged, step);
    flip("element index", "row_major" + with, "column_major", judged, order);
  }
  return flips;
}

std::vector<Flip> estimator_flips() {
  using Choices = ng_oracle::EstimatorChoices;
  struct Named {
    const char* choice;
    const char* value;
    std::optional<Choices> choices;  ///< none: straight-through
  };
  const auto with = [](long double k, long double clip, ng_oracle::Beyond beyond, bool normalize) {
    return Choices{k, clip, beyond, normalize};
  };
  using ng_oracle::Beyond;
  const Named all[] = {{"estimator", "straight_through", std::nullopt},
                       {"estimator", "differentiable", with(5, 3, Beyond::zero, false)},
                       {"estimator beyond", "zero", with(5, 3, Beyond::zero, false)},
                       {"estimator beyond", "last_interval", with(5, 3, Beyond::last_interval, false)},
                       {"estimator beyond", "one", with(5, 3, Beyond::one, false)},
                       {"estimator mean", "as_published", with(5, 3, Beyond::zero, false)},
                       {"estimator mean", "normalized", with(5, 3, Beyond::zero, true)},
                       {"estimator k", "1", with(1, 3, Beyond::zero, false)},
                       {"estimator k", "3", with(3, 3, Beyond::zero, false)},
                       {"estimator k", "5", with(5, 3, Beyond::zero, false)},
                       {"estimator k", "10", with(10, 3, Beyond::zero, false)},
                       {"estimator clip", "0.125", with(5, 0.125L, Beyond::zero, false)},
                       {"estimator clip", "3", with(5, 3, Beyond::zero, false)},
                       {"estimator clip", "1000", with(5, 1000, Beyond::zero, false)}};
  std::vector<float> inputs;
  for (int i = -7000; i <= 7000; ++i) inputs.push_back(static_cast<float>(i) / 1024);
  const ng::ElementFormat f = ng::format_of(ng::FormatId::e2m1);
  const ng_oracle::Format& o = ng_oracle::format("e2m1");
  const auto program = [&](const Named& n) {
    ng::EstimatorSpec spec;
    if (n.choices) {
      spec.kind = ng::EstimatorKind::differentiable;
      spec.beyond = static_cast<ng::EstimatorBeyond>(static_cast<int>(n.choices->beyond));
      spec.mean = n.choices->normalize ? ng::EstimatorMean::normalized : ng::EstimatorMean::as_published;
      spec.k = static_cast<float>(n.choices->k);
      spec.clip = static_cast<float>(n.choices->clip);
    }
    const ng::EstimatorConstants constants = ng::estimator_constants(f, spec);
    std::vector<float> values;
    for (const float x : inputs) values.push_back(ng::estimator_factor(f, spec, constants, x));
    return values;
  };
  std::vector<Flip> flips;
  for (const Named& from : all) {
    std::vector<long double> expected;
    for (const float x : inputs) expected.push_back(from.choices ? ng_oracle::dge_factor(o, *from.choices, x) : 1.0L);
    // One FP32 rounding, and FP64 arithmetic that is off by less than 2^-46: together below 2^-23 of the value.
    const auto differ = [&](const std::vector<float>& got) {
      std::size_t n = 0;
      for (std::size_t i = 0; i < got.size(); ++i)
        n += std::fabs(static_cast<long double>(got[i]) - expected[i]) > std::fabs(expected[i]) * 0x1p-23L;
      return n;
    };
    EXPECT_EQ(differ(program(from)), 0u) << from.choice << " " << from.value << " differs unflipped";
    for (const Named& to : all) {
      if (std::string(to.choice) != from.choice || to.value == from.value) continue;
      flips.push_back({from.choice, from.value, to.value, "oracle", inputs.size(), differ(program(to)), Outcome::seen});
    }
  }
  return flips;
}

namespace {

/// A few outputs of every kind of product that the file holds.
struct Sampled {
  ng_golden::H100Case h;
  std::string kind;
};

const std::vector<Sampled>& sampled_products() {
  static const std::vector<Sampled> made = [] {
    ng_golden::GoldenFile file("h100_gemm.h5");
    std::map<std::string, int> seen;
    std::vector<Sampled> all;
    for (const std::string& name : file.groups()) {
      const auto at_k = name.find("_K");
      const int k = std::stoi(name.substr(at_k + 2));
      const bool split = file.integers(name + "/algo_splitk_tile_reduction").at(0) > 1;
      if (k < 256 || (k > 1024 && !split)) continue;
      const std::string kind =
          name.substr(0, name.find("_M")) + name.substr(name.find("_scale")) + (split ? " split" : "");
      if (seen[kind]++ > (split ? 3 : 0)) continue;
      all.push_back({ng_golden::read_h100_case(file, name), kind});
    }
    return all;
  }();
  return made;
}

const char* name_of(ng::ScaleMode mode) {
  static const char* const names[] = {"none", "tensor", "outer", "block_1x128", "block_128x128"};
  return names[static_cast<int>(mode)];
}

}  // namespace

std::vector<Flip> product_flips() {
  std::map<std::string, Flip> found;  // by choice and values
  for (const Sampled& s : sampled_products()) {
    const ng_golden::H100Case& h = s.h;
    const ng::TensorCoreSpec judged = h.spec();
    const auto element = [&](const ng::TensorCoreSpec& spec, std::int64_t m, std::int64_t n) {
      const int a = ng::smallest_exponent(ng::format_of(h.a_format)),
                b = ng::smallest_exponent(ng::format_of(h.b_format));
      const ng::StepOperands in{
          &h.a[static_cast<std::size_t>(m * h.k)], &h.b[static_cast<std::size_t>(n * h.k)], nullptr, nullptr, a, b, 0};
      return ng::output_bits(spec.output, ng::tensor_core_element(spec, in, h.element_scales(m, n), h.k));
    };
    const auto count = [&](const std::string& choice, const std::string& from, const std::string& to, auto&& bits) {
      Flip& flip = found
                       .try_emplace(choice + "\t" + from + "\t" + to,
                                    Flip{choice, from, to, "h100_gemm.h5", 0, 0, Outcome::seen})
                       .first->second;
      for (std::int64_t m = 0; m < std::min<std::int64_t>(h.m, 8); ++m) {
        for (std::int64_t n = 0; n < std::min<std::int64_t>(h.n, 8); ++n) {
          ++flip.compared;
          flip.differ += bits(m, n) != h.d[static_cast<std::size_t>(m * h.n + n)];
        }
      }
    };
    const auto flip = [&](const std::string& choice, const std::string& from, const std::string& to, auto change) {
      ng::TensorCoreSpec spec = judged;
      change(spec);
      count(choice, from, to, [&](std::int64_t m, std::int64_t n) { return element(spec, m, n); });
    };
    std::size_t wrong = 0;
    for (std::int64_t i = 0; i < 8; ++i) wrong += element(judged, i, i) != h.d[static_cast<std::size_t>(i * h.n + i)];
    EXPECT_EQ(wrong, 0u) << s.kind << " differs unflipped";

    const auto mode = [&](ng::ScaleMode to) {
      flip("scale mode", name_of(h.scale_mode), name_of(to), [&](ng::TensorCoreSpec& spec) { spec.scales = to; });
    };
    using M = ng::ScaleMode;
    if (h.scale_mode != M::none) mode(M::none);
    if (h.scale_mode == M::tensor) mode(M::outer);
    if (h.scale_mode == M::outer) mode(M::tensor);
    if (h.scale_mode == M::block_1x128) mode(M::block_128x128);
    if (h.scale_mode == M::block_128x128) mode(M::block_1x128);
    const bool fp8 = h.a_format == ng::FormatId::e4m3 || h.a_format == ng::FormatId::e5m2;
    if (fp8 && !ng::is_blockwise(h.scale_mode)) {
      for (const int to : {0, 128, 256}) {
        if (to != judged.promotion)
          flip("promotion", std::to_string(judged.promotion), std::to_string(to),
               [&](ng::TensorCoreSpec& spec) { spec.promotion = to; });
      }
    }
    if (judged.splits > 1) {
      flip("splits of K", "several", "1", [](ng::TensorCoreSpec& spec) { spec.splits = 1; });
      flip("splits of K", "several", "one more", [](ng::TensorCoreSpec& spec) { spec.splits += 1; });
      for (const int to : {judged.split_tile / 2, 8 * judged.split_tile})
        flip("split tile", std::to_string(judged.split_tile), std::to_string(to),
             [&](ng::TensorCoreSpec& spec) { spec.split_tile = to; });
    }
    const bool bf16 = h.output == ng::ProductOutput::bf16;
    flip("product output", bf16 ? "bf16" : "f32", bf16 ? "f32" : "bf16",
         [&](ng::TensorCoreSpec& spec) { spec.output = bf16 ? ng::ProductOutput::f32 : ng::ProductOutput::bf16; });
    if (h.scale_mode == M::none) {
      count("arithmetic", "hopper", "ieee", [&](std::int64_t m, std::int64_t n) {
        float sum = 0;
        for (std::int64_t k = 0; k < h.k; ++k)
          sum = ng::fma_rn(h.a[static_cast<std::size_t>(m * h.k + k)], h.b[static_cast<std::size_t>(n * h.k + k)], sum);
        return ng::output_bits(h.output, sum);
      });
      // The next chip's arithmetic, and an older one's, on the same operands.
      for (const char* other : {"ampere", "ada", "blackwell", "hopper_mma_fp8", "volta"}) {
        const ng::AccumulatorRow* row =
            ng::find_accumulator(other, h.a_format, h.b_format, ng::StepResult::fp32_toward_zero);
        if (row == nullptr || row->spec == judged.accumulator) continue;
        flip("accumulator", "hopper", other, [&](ng::TensorCoreSpec& spec) { spec.accumulator = row->spec; });
      }
    }
  }
  std::vector<Flip> flips;
  for (const auto& [key, f] : found) flips.push_back(f);
  return flips;
}

}  // namespace ng_mutation
