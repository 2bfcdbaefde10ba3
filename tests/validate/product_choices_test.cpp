// SPDX-License-Identifier: Apache-2.0
//
// Claim: a product made with one named choice changed, or two, is found unequal and the choice is named; a change that
// cannot be seen on the inputs gives equal outputs, and is counted. And the reference of products is the model: equal
// in every bit to the CPU backend's products. Alone: build/bin/validate_products
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <numeric>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "narrowgauge/base/error.hpp"
#include "validate/product_support.hpp"

namespace ng::validate {
namespace {

struct Base {
  const char* spec;
  FormatId a, b;
  OperandScales blocks;
  std::int64_t m, n, k;
};

constexpr auto kNone = OperandScales::none;
const Base kBases[] = {
    {"arithmetic=hopper,scale_mode=outer,out_format=bf16", FormatId::e4m3, FormatId::e5m2, kNone, 12, 16, 512},
    {"arithmetic=hopper,scale_mode=tensor", FormatId::e4m3, FormatId::e4m3, kNone, 8, 9, 256},
    {"arithmetic=hopper,scale_mode=block_1x128", FormatId::e4m3, FormatId::e4m3, kNone, 8, 8, 384},
    {"arithmetic=hopper,scale_mode=block_128x128,out_format=bf16", FormatId::e5m2, FormatId::e4m3, kNone, 12, 130, 256},
    {"arithmetic=hopper,accumulate=fast", FormatId::e4m3, FormatId::e4m3, kNone, 8, 8, 320},
    {"arithmetic=hopper,out_format=f16", FormatId::fp16, FormatId::fp16, kNone, 12, 12, 256},
    {"arithmetic=ampere", FormatId::bf16, FormatId::bf16, kNone, 8, 8, 256},
    {"arithmetic=blackwell", FormatId::e2m1, FormatId::e2m1, OperandScales::e4m3_per_16, 8, 8, 256},
    {"arithmetic=hopper,carrier=bf16", FormatId::e4m3, FormatId::e4m3, OperandScales::e8m0_per_32, 8, 8, 256},
    {"arithmetic=ieee,out_format=bf16", FormatId::bf16, FormatId::bf16, kNone, 12, 12, 256},
};

class Problem {
 public:
  explicit Problem(const Base& base, unsigned seed = 1)
      : spec(product_of(base.spec)),
        reference(random_operands(spec, base.a, base.b, base.m, base.n, base.k, base.blocks, seed)),
        choices(product_choices(spec, reference)) {
    all.resize(static_cast<std::size_t>(reference.rows() * reference.cols()));
    std::iota(all.begin(), all.end(), 0);
    stated = reference.elements(spec, all);
    for (std::size_t c = 0; c < choices.size(); ++c)
      for (std::size_t v = 0; v < choices[c].values.size(); ++v)
        if (v != choices[c].stated) changes.push_back({c, v});
  }

  /// What a kernel with these changes writes; empty where there is no such kernel.
  std::vector<std::uint32_t> output(const ChangeSet& set) {
    ProductSpec changed = spec;
    for (const Change& change : set)
      set_product_key(changed, choices[change.choice].name, choices[change.choice].values[change.value]);
    return reference.impossible(changed).empty() ? reference.elements(changed, all) : std::vector<std::uint32_t>{};
  }

  ProductSpec spec;
  ReferenceProduct reference;
  std::vector<Choice> choices;
  std::vector<std::int64_t> all;
  std::vector<std::uint32_t> stated;
  std::vector<Change> changes;
};

TEST(ProductChoices, EveryChangeAloneIsNamed) {
  std::size_t named = 0, equal = 0;
  std::vector<std::string> seen;
  for (const Base& base : kBases) {
    Problem p(base);
    EXPECT_EQ(p.reference.impossible(p.spec), "") << base.spec;
    for (const Change& change : p.changes) {
      const std::vector<std::uint32_t> got = p.output({change});
      if (got.empty()) continue;
      if (got == p.stated) {
        ++equal;
        continue;
      }
      const ProductExplanation found = explain_product(p.spec, p.reference, got);
      const std::string text = text_of(p.choices, {change});
      EXPECT_GT(found.search.differing, 0u);
      EXPECT_NE(std::find(found.search.sets.begin(), found.search.sets.end(), ChangeSet{change}),
                found.search.sets.end())
          << base.spec << " made with " << text << " is not named";
      for (const ChangeSet& set : found.search.sets) EXPECT_EQ(p.output(set), got) << text_of(p.choices, set);
      seen.push_back(p.choices[change.choice].name);
      ++named;
    }
  }
  // No choice went untested.
  for (const char* key : {"arithmetic", "accumulate", "accumulator", "promotion", "scale_order", "promotion_add",
                          "splits", "carrier", "rounding"})
    EXPECT_NE(std::find(seen.begin(), seen.end(), key), seen.end()) << key;
  std::cout << named << " products with one changed choice, all named; " << equal << " changes show on no element\n";
  EXPECT_GT(named, 100u);
}

TEST(ProductChoices, PairsAreNamed) {
  std::size_t named = 0, smaller = 0, tried = 0;
  for (const Base& base : kBases) {
    Problem p(base, 2);
    std::size_t number = 0;
    for (std::size_t i = 0; i < p.changes.size(); ++i)
      for (std::size_t j = i + 1; j < p.changes.size(); ++j) {
        const ChangeSet pair = {p.changes[i], p.changes[j]};
        if (pair[0].choice == pair[1].choice) continue;
        const std::vector<std::uint32_t> got = p.output(pair);
        if (got.empty() || got == p.stated || number++ % 23 != 0) continue;
        ++tried;
        const ProductExplanation found = explain_product(p.spec, p.reference, got);
        ASSERT_FALSE(found.search.sets.empty()) << base.spec << " made with " << text_of(p.choices, pair);
        for (const ChangeSet& set : found.search.sets) EXPECT_EQ(p.output(set), got) << text_of(p.choices, set);
        if (found.search.sets.front().size() < 2) {
          ++smaller;  // one of the two shows on no element
          continue;
        }
        EXPECT_NE(std::find(found.search.sets.begin(), found.search.sets.end(), pair), found.search.sets.end())
            << base.spec << " made with " << text_of(p.choices, pair);
        ++named;
      }
  }
  std::cout << tried << " products with two changed choices: " << named << " pairs named, " << smaller
            << " explained by one choice alone\n";
  EXPECT_GT(named, 15u);
}

// A product with a choice that has no name: no set may pass for it.
TEST(ProductChoices, NothingIsInvented) {
  Problem p(kBases[0]);
  std::vector<std::uint32_t> got = p.stated;
  got[5] ^= 1u;
  const ProductExplanation found = explain_product(p.spec, p.reference, got);
  EXPECT_EQ(found.search.differing, 1u);
  EXPECT_TRUE(found.search.sets.empty());
}

TEST(ProductReference, EqualsTheBackend) {
  for (const Base& base : kBases) {
    const ProductSpec spec = product_of(base.spec);
    if (spec.carrier != ScaledCarrier::scales) continue;
    const ProductOperands in = random_operands(spec, base.a, base.b, base.m, base.n, base.k, base.blocks, 3);
    for (const char* arithmetic : {"", "exact", "ieee"}) {
      ProductSpec asked = spec;
      if (*arithmetic != '\0') {
        asked.arithmetic = arithmetic;
        asked.accumulate = Chains::promoted;
      }
      ReferenceProduct reference(in);
      if (!reference.impossible(asked).empty()) continue;
      std::vector<std::int64_t> all(static_cast<std::size_t>(base.m * base.n));
      std::iota(all.begin(), all.end(), 0);
      const std::vector<std::uint32_t> bits = reference.elements(asked, all);
      const std::int64_t blocks = is_blockwise(asked.scale_mode) ? (base.k + 127) / 128 : 1;
      const std::int64_t stride = asked.scale_mode == ScaleMode::tensor ? 0 : blocks;
      const cpu::ProductScales scales{in.scale_a.data(), stride, in.scale_b.data(), stride,
                                      asked.scale_mode == ScaleMode::block_128x128 ? 128 : 1};
      cpu::ProductMatrix a{in.a.values.data(), base.m, base.k, base.a}, b{in.b.values.data(), base.n, base.k, base.b};
      cpu::MatmulSize size{base.k};
      if (base.blocks != kNone) {
        a.block_scales = in.block_a.values.data(), a.block_scale_stride = in.block_a.blocks;
        b.block_scales = in.block_b.values.data(), b.block_scale_stride = in.block_b.blocks;
        size.block_scale_k = block_scale_k(base.blocks), size.block_scale_format = block_scale_format(base.blocks);
      }
      std::vector<float> out(all.size());
      if (asked.arithmetic == "exact" || asked.arithmetic == "ieee") {
        (asked.arithmetic == "exact" ? cpu::exact_matmul : cpu::ieee_matmul)(asked.scale_mode, asked.out_format, a, b,
                                                                             scales, size, out.data(), base.n, 1);
      } else {
        const AccumulatorRow* row =
            find_accumulator(asked.arithmetic.c_str(), base.a, base.b, StepResult::fp32_toward_zero, base.blocks);
        TensorCoreSpec core{row->spec};
        core.promotion = row->types == OperandTypes::fp8 && asked.accumulate == Chains::promoted ? 128 : 0;
        core.scales = asked.scale_mode, core.output = asked.out_format;
        cpu::tensor_core_matmul(core, a, b, scales, size, out.data(), base.n);
      }
      for (std::size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(bits_of(output_value(asked.out_format, bits[i])), bits_of(out[i]))
            << to_text(asked) << " element " << i;
    }
  }
}

TEST(ProductSpecText, ReadsAndPrints) {
  for (const Base& base : kBases) EXPECT_EQ(product_of(to_text(product_of(base.spec))), product_of(base.spec));
  EXPECT_EQ(product_of("{\"arithmetic\": \"ada\", \"out-format\": \"bf16\", \"splits\": 3}"),
            product_of("arithmetic=ada,out_format=bf16,splits=3"));
  EXPECT_EQ(product_of(""), ProductSpec{});
  const std::pair<const char*, const char*> mistakes[] = {{"arithmetic=hoper", "did you mean 'hopper'"},
                                                          {"aritmetic=hopper", "did you mean 'arithmetic'"},
                                                          {"splits=0", "no whole number from 1"},
                                                          {"splits=2x", "no whole number"},
                                                          {"accumulate", "is not key=value"},
                                                          {"scale_mode=outher", "did you mean 'outer'"}};
  for (const auto& [text, piece] : mistakes) {
    try {
      (void)product_of(text);
      ADD_FAILURE() << text;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace ng::validate
