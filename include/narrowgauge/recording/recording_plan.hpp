// SPDX-License-Identifier: Apache-2.0
//
// Which sites are measured, how and when. A plan is a TOML file of entries, each with its own cadence and its own group
// in the run file:
//
//   [[entry]]
//   name = "experts"                             # letters, digits, '_' and '-'
//   site = ["layer.*/fc1/*", "layer.*/fc2/*"]    # one pattern or a list; '*' any text, '?' one character
//   measure = ["rel_mse", "underflow_rate"]      # one name or a list
//   every = 10                                   # steps 0, 10, 20, ... and the last; or steps = [0, 100]
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/observe/tap.hpp"
#include "narrowgauge/recording/measures.hpp"

namespace ng {

struct RecordingEntry {
  std::string name;
  std::vector<std::string> sites;  ///< patterns
  std::vector<Measure> measures;
  std::int64_t every = 0;           ///< 0: `steps` alone
  std::vector<std::int64_t> steps;  ///< ascending

  /// Steps are numbered 0 to total_steps - 1.
  [[nodiscard]] bool due(std::int64_t step, std::int64_t total_steps) const;
};

/// An entry with the sites that its patterns found, in the order of the model.
struct BoundEntry {
  RecordingEntry entry;
  std::vector<Site> sites;
};

class RecordingPlan {
 public:
  /// `core` (every 10 steps, every quantized site) and `double_quant` (every 50 steps, the column forms: wgrad operands
  /// and the weights of dgrad).
  [[nodiscard]] static RecordingPlan built_in();
  /// No entries: nothing is recorded.
  [[nodiscard]] static RecordingPlan none() { return {}; }
  /// UserError naming file, line, key and the nearest valid value.
  [[nodiscard]] static RecordingPlan from_file(const std::filesystem::path& path);
  [[nodiscard]] static RecordingPlan from_toml(const TomlDocument& document);

  [[nodiscard]] const std::vector<RecordingEntry>& entries() const { return entries_; }
  /// Canonical form, for the run's configuration.
  [[nodiscard]] Json json() const;

  /// Finds the sites. `recordable`: those that are quantized in this run; `all`: every site of the model. A pattern
  /// that fits no site at all is a UserError; an entry whose patterns fit no recordable one is left out.
  [[nodiscard]] std::vector<BoundEntry> bind(std::span<const Site> recordable, std::span<const Site> all) const;

 private:
  std::vector<RecordingEntry> entries_;
  std::string origin_;
  bool from_user_ = false;
};

/// '*' stands for any text ('/' included, empty too), '?' for one character.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace ng
