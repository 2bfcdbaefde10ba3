// SPDX-License-Identifier: Apache-2.0
//
// The search: singles, then pairs, each complete; then triples that contain one of the best pairs. A set that
// reproduces the sample is believed only after it reproduced everything.
#include "narrowgauge/validate/choice_search.hpp"

#include <algorithm>
#include <utility>

#include "narrowgauge/base/check.hpp"

namespace ng::validate {
namespace {

std::size_t differing_in(const Match& match) {
  return static_cast<std::size_t>(std::count(match.begin(), match.end(), std::uint8_t{0}));
}

class Search {
 public:
  Search(std::span<const Choice> choices, const Evaluate& evaluate, const SearchLimits& limits)
      : evaluate_(evaluate), limits_(limits) {
    for (std::size_t c = 0; c < choices.size(); ++c)
      for (std::size_t v = 0; v < choices[c].values.size(); ++v)
        if (v != choices[c].stated) changes_.push_back({c, v});
  }

  SearchResult run() {
    const std::optional<Match> whole = evaluate_({}, Extent::whole);
    NG_CHECK(whole.has_value(), "the stated choices can be evaluated");
    result_.items = whole->size();
    result_.differing = differing_in(*whole);
    result_.best_differing = result_.differing;
    if (result_.differing == 0) {
      result_.sets.push_back({});
      return std::move(result_);
    }
    const std::optional<Match> sample = evaluate_({}, Extent::sample);
    NG_CHECK(sample.has_value() && differing_in(*sample) > 0, "the sample holds a difference");
    singles(*sample);
    recount(*whole);
    if (result_.sets.empty() && limits_.set_size >= 2) pairs();
    if (result_.sets.empty() && limits_.set_size >= 3) triples();
    return std::move(result_);
  }

 private:
  struct Ranked {
    ChangeSet set;
    std::size_t differing = 0;
  };

  /// Differences of a set on the sample; nothing when it contradicts itself or the limit is reached.
  std::optional<Match> try_set(const ChangeSet& set) {
    if (result_.evaluations >= limits_.evaluations) {
      result_.complete = false;
      return std::nullopt;
    }
    ++result_.evaluations;
    if (limits_.between) limits_.between();
    return evaluate_(set, Extent::sample);
  }

  void confirm(const ChangeSet& set, std::size_t sample_differing) {
    if (sample_differing != 0) return;
    const std::optional<Match> whole = evaluate_(set, Extent::whole);
    NG_CHECK(whole.has_value());
    const std::size_t differing = differing_in(*whole);
    if (differing == 0) result_.sets.push_back(set);
    note_best(set, differing);
  }

  void note_best(const ChangeSet& set, std::size_t differing) {
    if (differing >= result_.best_differing) return;
    result_.best_differing = differing;
    result_.best = set;
  }

  void singles(const Match& stated) {
    for (const Change& change : changes_) {
      const std::optional<Match> match = try_set({change});
      if (!match) {  // alone it contradicts the spec; with a second change it may not
        ranked_.push_back({{change}, stated.size() + 1});
        continue;
      }
      const Explained e = explained(change, stated, *match);
      const std::size_t differing = differing_in(*match);
      ranked_.push_back({{change}, differing});
      if (e.fixed > 0) result_.singles.push_back(e);
      confirm({change}, differing);
    }
    std::stable_sort(result_.singles.begin(), result_.singles.end(), better);
    settle_best(1);
  }

  static Explained explained(const Change& change, const Match& stated, const Match& changed) {
    NG_CHECK_EQ(changed.size(), stated.size());
    Explained e{change};
    for (std::size_t i = 0; i < stated.size(); ++i) {
      e.fixed += stated[i] == 0 && changed[i] != 0 ? 1 : 0;
      e.broken += stated[i] != 0 && changed[i] == 0 ? 1 : 0;
    }
    return e;
  }

  static bool better(const Explained& a, const Explained& b) {
    return a.fixed != b.fixed ? a.fixed > b.fixed : a.broken < b.broken;
  }

  /// The best singles of the sample, on everything.
  void recount(const Match& stated) {
    std::vector<Explained>& best = result_.singles;
    if (best.size() > limits_.recounted) best.resize(limits_.recounted);
    for (Explained& e : best)
      if (const std::optional<Match> match = evaluate_({e.change}, Extent::whole))
        e = explained(e.change, stated, *match);
    std::stable_sort(best.begin(), best.end(), better);
    result_.counted = stated.size();
  }

  void pairs() {
    std::vector<Ranked> found;
    // Pairs of promising singles first, in case the limit ends the search.
    std::stable_sort(ranked_.begin(), ranked_.end(),
                     [](const Ranked& a, const Ranked& b) { return a.differing < b.differing; });
    for (std::size_t j = 1; j < ranked_.size(); ++j)
      for (std::size_t i = 0; i < j; ++i) try_grown(ranked_[i].set, ranked_[j].set.front(), found);
    ranked_ = std::move(found);
    settle_best(2);
  }

  void triples() {
    std::vector<Ranked> found;
    for (std::size_t i = 0; i < std::min(limits_.widened_pairs, ranked_.size()); ++i)
      for (const Change& change : changes_) try_grown(ranked_[i].set, change, found);
    std::sort(result_.sets.begin(), result_.sets.end(), less);
    result_.sets.erase(std::unique(result_.sets.begin(), result_.sets.end()), result_.sets.end());
    ranked_ = std::move(found);
    settle_best(3);
  }

  static bool less(const ChangeSet& a, const ChangeSet& b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](const Change& x, const Change& y) {
      return std::pair(x.choice, x.value) < std::pair(y.choice, y.value);
    });
  }

  void try_grown(const ChangeSet& set, const Change& added, std::vector<Ranked>& found) {
    ChangeSet grown = set;
    for (const Change& change : set)
      if (change.choice == added.choice) return;
    grown.insert(std::upper_bound(grown.begin(), grown.end(), added,
                                  [](const Change& a, const Change& b) { return a.choice < b.choice; }),
                 added);
    const std::optional<Match> match = try_set(grown);
    if (!match) return;
    found.push_back({grown, differing_in(*match)});
    confirm(grown, found.back().differing);
  }

  /// Orders the sets of one size, and counts the best of them on everything.
  void settle_best(std::size_t size) {
    std::stable_sort(ranked_.begin(), ranked_.end(),
                     [](const Ranked& a, const Ranked& b) { return a.differing < b.differing; });
    std::sort(result_.sets.begin(), result_.sets.end(), less);
    if (!result_.sets.empty() || ranked_.empty() || ranked_.front().set.size() != size) return;
    if (const std::optional<Match> whole = evaluate_(ranked_.front().set, Extent::whole))
      note_best(ranked_.front().set, differing_in(*whole));
  }

  const Evaluate& evaluate_;
  const SearchLimits& limits_;
  std::vector<Change> changes_;
  std::vector<Ranked> ranked_;
  SearchResult result_;
};

}  // namespace

SearchResult search_choices(std::span<const Choice> choices, const Evaluate& evaluate, const SearchLimits& limits) {
  return Search(choices, evaluate, limits).run();
}

std::string text_of(std::span<const Choice> choices, const ChangeSet& set) {
  std::string text;
  for (const Change& change : set) {
    const Choice& choice = choices[change.choice];
    text += (text.empty() ? "" : ", ") + choice.name + "=" + choice.values[change.value];
  }
  return text.empty() ? "as stated" : text;
}

}  // namespace ng::validate
