// SPDX-License-Identifier: Apache-2.0
//
// Claim: the choice search finds exactly the smallest sets that reproduce every item: singles, pairs that no single
// reveals, triples through their best pair; sets that only reproduce the sample are refused; contradictions are passed
// over; the counts are those of the items. Alone: build/bin/validate_search
#include <gtest/gtest.h>

#include "narrowgauge/validate/choice_search.hpp"

namespace ng::validate {
namespace {

const std::vector<Choice> kChoices = {
    {"a", {"0", "1", "2"}, 0}, {"b", {"0", "1"}, 1}, {"c", {"0", "1", "2", "3"}, 0}, {"d", {"0", "1"}, 0}};

// Item i depends on the choices whose bits of i are set: every mixture of choices occurs.
std::vector<std::size_t> items(const std::vector<std::size_t>& values) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < 16; ++i) {
    std::size_t item = 0;
    for (std::size_t c = 0; c < 4; ++c) item = item * 10 + ((i >> c & 1) != 0 ? values[c] : 7);
    result.push_back(item);
  }
  return result;
}

std::vector<std::size_t> values_of(const ChangeSet& set) {
  std::vector<std::size_t> values;
  for (const Choice& choice : kChoices) values.push_back(choice.stated);
  for (const Change& change : set) values[change.choice] = change.value;
  return values;
}

Evaluate against(const std::vector<std::size_t>& kernel, std::size_t sample = 16) {
  return [=](const ChangeSet& set, Extent extent) -> std::optional<Match> {
    Match match;
    const auto mine = items(values_of(set)), theirs = items(kernel);
    for (std::size_t i = 0; i < (extent == Extent::sample ? sample : 16); ++i) match.push_back(mine[i] == theirs[i]);
    return match;
  };
}

TEST(ChoiceSearch, EqualAsStated) {
  const SearchResult r = search_choices(kChoices, against({0, 1, 0, 0}));
  EXPECT_EQ(r.differing, 0u);
  ASSERT_EQ(r.sets, std::vector<ChangeSet>{{}});
  EXPECT_EQ(text_of(kChoices, r.sets[0]), "as stated");
}

TEST(ChoiceSearch, EverySingleAndPairAndTripleIsFound) {
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t c = 0; c < 4; ++c)
        for (std::size_t d = 0; d < 2; ++d) {
          ChangeSet truth;
          const std::vector<std::size_t> kernel = {a, b, c, d};
          for (std::size_t i = 0; i < 4; ++i)
            if (kernel[i] != kChoices[i].stated) truth.push_back({i, kernel[i]});
          const SearchResult r = search_choices(kChoices, against(kernel));
          if (truth.size() <= 3)
            EXPECT_EQ(r.sets, std::vector<ChangeSet>{truth}) << text_of(kChoices, truth);
          else
            EXPECT_TRUE(r.sets.empty());
          EXPECT_TRUE(r.complete);
        }
}

TEST(ChoiceSearch, CountsWhatASingleFixesAndBreaks) {
  const SearchResult r = search_choices(kChoices, against({2, 1, 0, 1}));
  EXPECT_EQ(r.differing, 12u);
  ASSERT_FALSE(r.singles.empty());
  for (const Explained& e : r.singles) {
    // a=2 fixes the items with a alone; d=1 those with d alone.
    const bool right = e.change == Change{0, 2} || e.change == Change{3, 1};
    EXPECT_EQ(e.fixed, right ? 4u : 0u);
    EXPECT_EQ(e.broken, 0u);
  }
  EXPECT_EQ(r.singles.size(), 2u);
}

TEST(ChoiceSearch, WhatOnlyTheSampleShowsIsNotBelieved) {
  // The first 8 items do not depend on d.
  const SearchResult r = search_choices(kChoices, against({1, 1, 0, 1}, 8));
  ASSERT_EQ(r.sets.size(), 1u);
  EXPECT_EQ(text_of(kChoices, r.sets[0]), "a=1, d=1");
}

TEST(ChoiceSearch, ContradictionsArePassedOverAndTheBestIsKept) {
  const Evaluate open = against({1, 0, 3, 1});
  const Evaluate evaluate = [&](const ChangeSet& set, Extent extent) -> std::optional<Match> {
    if (set.size() > 1) return std::nullopt;
    return open(set, extent);
  };
  const SearchResult r = search_choices(kChoices, evaluate);
  EXPECT_TRUE(r.sets.empty());
  EXPECT_EQ(r.best.size(), 1u);
  EXPECT_EQ(r.differing, 15u);
  EXPECT_EQ(r.best_differing, 14u);
}

TEST(ChoiceSearch, TheLimitIsKeptAndTold) {
  SearchLimits limits;
  limits.evaluations = 3;
  const SearchResult r = search_choices(kChoices, against({2, 0, 3, 1}), limits);
  EXPECT_EQ(r.evaluations, 3u);
  EXPECT_FALSE(r.complete);
}

TEST(ChoiceSearch, IndistinguishableSetsAreAllNamed) {
  const Evaluate evaluate = [](const ChangeSet& set, Extent) -> std::optional<Match> {
    const auto values = values_of(set);
    return Match{static_cast<std::uint8_t>(values[0] == 2 || values[3] == 1)};
  };
  const SearchResult r = search_choices(kChoices, evaluate);
  EXPECT_EQ(r.sets, (std::vector<ChangeSet>{{{0, 2}}, {{3, 1}}}));
}

}  // namespace
}  // namespace ng::validate
