// SPDX-License-Identifier: Apache-2.0
//
// Which named choices did a foreign kernel make? Given choices with their values, and a function that says for a set of
// changed values which items of the kernel's output it reproduces, finds the smallest sets that reproduce all of them,
// and how much each single change explains. Knows nothing of quantizers or products: both bring their own lists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ng::validate {

/// A choice that a kernel may have made otherwise than the spec says.
struct Choice {
  std::string name;                 ///< "rounding"
  std::vector<std::string> values;  ///< all of them, in the order of their table
  std::size_t stated = 0;           ///< index of the value that the spec states
  bool is_bug = false;              ///< a known defect of published kernels rather than a choice of a format
};

/// One choice with another value than stated.
struct Change {
  std::size_t choice = 0;
  std::size_t value = 0;

  friend constexpr bool operator==(const Change&, const Change&) = default;
};
/// Changes of different choices, ascending by choice.
using ChangeSet = std::vector<Change>;

/// One byte an item (code, scale, result, in any order that stays the same): 1 where the changed reference gives what
/// the kernel gave, or where the item means nothing (codes under a NaN scale).
using Match = std::vector<std::uint8_t>;

/// `sample`: the same items of every call, few enough for thousands of calls, the differing ones among them; may be
/// all.
enum class Extent : std::uint8_t { sample, whole };

/// nullopt: these changes contradict each other (a rule without its scale format).
using Evaluate = std::function<std::optional<Match>(const ChangeSet&, Extent)>;

struct SearchLimits {
  std::size_t set_size = 3;            ///< sets of 1 and 2 are searched completely, of 3 from the best pairs on
  std::size_t evaluations = 20000;     ///< of the sample
  std::size_t recounted = 8;           // of the best singles, counted on everything
  std::size_t widened_pairs = 24;      ///< best pairs that a third change is tried on
  std::function<void()> between = {};  ///< called between evaluations: progress, interruption (may throw)
};

/// What one change alone does to the items.
struct Explained {
  Change change;
  std::size_t fixed = 0;   ///< items that differ as stated and agree with the change
  std::size_t broken = 0;  ///< items that agree as stated and differ with the change
};

struct SearchResult {
  std::size_t items = 0;      ///< compared
  std::size_t differing = 0;  ///< as stated
  /// Every set of the smallest size that reproduces all items: indistinguishable on these inputs. {{}}: equal as
  /// stated.
  std::vector<ChangeSet> sets;
  /// The best singles that fix anything, most fixed first, then fewest broken; counted on `counted` items: all of them,
  /// unless no single fixes anything.
  std::vector<Explained> singles;
  std::size_t counted = 0;
  /// Without a solution: the set that leaves the fewest differences, and how many.
  ChangeSet best;
  std::size_t best_differing = 0;
  std::size_t evaluations = 0;
  bool complete = true;  ///< false when the limit on evaluations ended the search
};

[[nodiscard]] SearchResult search_choices(std::span<const Choice> choices, const Evaluate& evaluate,
                                          const SearchLimits& limits = {});

/// "rounding=nearest_away, rule=ceil"; "as stated" for the empty set.
[[nodiscard]] std::string text_of(std::span<const Choice> choices, const ChangeSet& set);

}  // namespace ng::validate
