// SPDX-License-Identifier: Apache-2.0
//
// The scales of one site at earlier records of one entry of the plan, and how those of a new record compare: scale by
// scale where the rows of the tensor stay the same, else as distributions. The only thing a recorder keeps from one
// step to the next; it is saved in checkpoints, so that a resumed run records what an uninterrupted one would have.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "narrowgauge/backend/measurement.hpp"
#include "narrowgauge/io/array.hpp"
#include "narrowgauge/recording/measures.hpp"

namespace ng {

class ScaleHistory {
 public:
  /// What is kept: scales with their places of the record before and of the first one; the distribution of the record
  /// before.
  ScaleHistory(bool places, bool distribution) : keeps_places_(places), keeps_distribution_(distribution) {}

  /// A new record. Scales that are zero, infinite or NaN have no log2 and enter scale_flip_rate alone; scales without a
  /// place are left out of what compares places.
  ScaleChange advance(std::vector<PlacedScale> now);

  /// Adds `<prefix>/...`, nothing before the first record.
  void save(const std::string& prefix, std::map<std::string, Array>& to) const;
  /// Takes what `save` wrote; nothing there: no record yet. UserError when it does not fit together.
  void load(const std::string& prefix, const std::map<std::string, Array>& from);

 private:
  using Placed = std::vector<PlacedScale>;                           // by place, ascending
  using Distribution = std::vector<std::pair<float, std::int64_t>>;  // scale and how often, ascending

  bool keeps_places_, keeps_distribution_;
  bool any_ = false;  // a record was made
  Placed previous_, first_;
  Distribution distribution_;
};

}  // namespace ng
