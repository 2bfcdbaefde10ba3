// SPDX-License-Identifier: Apache-2.0
//
// Claim: a kernel that makes one named choice of a quantizer otherwise, any of them, is found different and the choice
// is named; so are pairs. The kernel is the CPU backend under the other spec. Every value of every table is told apart
// by some quantizer, but for those listed here with the reason. Alone: build/bin/validate_mutation
#include <gtest/gtest.h>

#include <set>

#include "mutants.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/validate/reference_quantizer.hpp"

namespace ng::validate::test {
namespace {

const std::vector<std::string>& bases() {
  static const std::vector<std::string> list = {"mxfp4",
                                                "mxfp8_e5m2,nan=cuda",
                                                "mxint8",
                                                "nvfp4",
                                                "nvfp4_2d,rule=four_over_six:mae:448",
                                                "fp8_1x128",
                                                "fp4_token,nan=largest",
                                                "e4m3",
                                                "e2m1,nan=largest",
                                                "nvfp4,hadamard=16:te_fixed:bf16",
                                                "fp8_1x128,hadamard=32:none:f32",
                                                "mxfp4,rounding=stochastic:8"};
  return list;
}

std::optional<QuantizerSpec> with(const QuantizerSpec& stated, const std::vector<Choice>& choices,
                                  const ChangeSet& set) {
  QuantizerSpec spec = stated;
  try {
    for (const Change& change : set) {
      if (choices[change.choice].is_bug) return std::nullopt;
      set_choice(spec, choices[change.choice].name, choices[change.choice].values[change.value]);
    }
    check_quantizer(spec);
  } catch (const UserError&) {
    return std::nullopt;
  }
  if (spec.rule == ScaleRule::four_over_six && spec.tile_rows == 0) return std::nullopt;
  return spec;
}

TEST(Mutation, TheReferenceIsTheBackend) {
  Kernel kernel;
  for (const NamedQuantizer& preset : quantizer_presets())
    for (const Orientation axis : {Orientation::row, Orientation::column})
      for (const bool extreme : {false, true}) {
        Case c = quantize_case(preset.name, extreme ? extreme_input() : plain_input());
        c.axis = axis;
        bring(c, kernel.quantize(c, preset.spec));
        const Verdict v = verify(c, VerifyOptions{});
        EXPECT_TRUE(v.equal()) << text_of(v);
      }
  for (const std::string& base : bases()) {
    Case c = quantize_case(base, plain_input());
    bring(c, kernel.quantize(c, parse_quantizer(base)));
    EXPECT_TRUE(verify(c, VerifyOptions{}).equal()) << base;
  }
}

TEST(Mutation, EverySingleChoiceIsFoundAndNamed) {
  Kernel kernel;
  std::set<std::string> told, seen;
  std::size_t explained = 0;
  for (const std::string& base : bases()) {
    for (const bool extreme : {false, true}) {
      Case c = quantize_case(base, extreme ? extreme_input() : plain_input());
      const QuantizerSpec stated = parse_quantizer(base);
      const UnpackedTensor right = kernel.quantize(c, stated);
      const std::vector<Choice> choices = choices_of(c);
      for (std::size_t i = 0; i < choices.size(); ++i)
        for (std::size_t value = 0; value < choices[i].values.size(); ++value) {
          if (value == choices[i].stated) continue;
          const std::optional<QuantizerSpec> spec = with(stated, choices, {{i, value}});
          if (!spec) continue;
          const std::string name = choices[i].name + "=" + choices[i].values[value];
          seen.insert(name);
          const UnpackedTensor wrong = kernel.quantize(c, *spec);
          bring(c, wrong);
          if (wrong.scale_rows() != right.scale_rows() || wrong.scale_cols() != right.scale_cols()) continue;
          const Verdict v = verify(c, explaining());
          const bool same = wrong.codes == right.codes && wrong.scale_codes == right.scale_codes &&
                            wrong.tensor_scale == right.tensor_scale &&
                            std::equal(wrong.scale_values.begin(), wrong.scale_values.end(), right.scale_values.begin(),
                                       [](float a, float b) { return bits_of(a) == bits_of(b); });
          if (v.equal()) {
            // Only what cannot be seen: equal bytes, or codes that mean nothing under a NaN scale.
            EXPECT_TRUE(same || extreme) << base << " " << name;
            continue;
          }
          ASSERT_FALSE(same) << base << " " << name;
          EXPECT_TRUE(names(v, ChangeSet{{i, value}})) << base << " " << name << "\n" << text_of(v);
          told.insert(name);
          ++explained;
        }
    }
  }
  EXPECT_TRUE(told.contains("hadamard=32:none:f32:serial"));
  std::printf("%zu single changes explained, %zu of %zu values told apart\n", explained, told.size(), seen.size());
  for (const std::string& name : seen) {
    if (told.contains(name)) continue;
    // Other tiles have other numbers of scales, which no dump of the stated shape can hold.
    const bool tile = name.starts_with("tile=");
    // A choice of decoding: codes and scales are the same.
    const bool decoding = name == "decode=te";
    // Rounding to BF16 hides the order of sums of 16; the f32 result shows it.
    const bool hidden_order = name == "hadamard=16:te_fixed:bf16:serial";
    EXPECT_TRUE(tile || decoding || hidden_order) << name << " is never told apart";
  }
}

TEST(Mutation, PairsAreFoundAndNamed) {
  Kernel kernel;
  std::mt19937 random(3);
  std::size_t explained = 0;
  for (const std::string& base : bases()) {
    Case c = quantize_case(base, plain_input());
    // Four rows of each kind are enough to tell, and fast to search.
    c.x.resize(static_cast<std::size_t>(9 * kCols));
    c.x.erase(c.x.begin(), c.x.begin() + kCols);
    c.rows = 8;
    const QuantizerSpec stated = parse_quantizer(base);
    const std::vector<Choice> choices = choices_of(c);
    for (int tried = 0, found = 0; tried < 3000 && found < 3; ++tried) {
      ChangeSet set;
      for (const std::size_t first : {random() % choices.size(), random() % choices.size()})
        set.push_back({first, random() % choices[first].values.size()});
      if (set[0].choice >= set[1].choice) continue;
      if (std::any_of(set.begin(), set.end(), [&](const Change& x) {
            return x.value == choices[x.choice].stated || choices[x.choice].name == "tile";
          }))
        continue;
      const std::optional<QuantizerSpec> spec = with(stated, choices, set);
      if (!spec) continue;
      bring(c, kernel.quantize(c, *spec));
      const Verdict v = verify(c, explaining());
      if (v.equal()) continue;
      ASSERT_FALSE(v.explanation->search.sets.empty()) << base << " " << text_of(choices, set);
      // A smaller set may do the same on these inputs; one of the same size must be accompanied by the truth.
      if (v.explanation->search.sets.front().size() < 2) continue;
      EXPECT_TRUE(names(v, set)) << base << " " << text_of(choices, set) << "\n" << text_of(v);
      ++found;
      ++explained;
    }
  }
  std::printf("%zu pairs explained\n", explained);
  EXPECT_GE(explained, 2 * bases().size());
}

}  // namespace
}  // namespace ng::validate::test
