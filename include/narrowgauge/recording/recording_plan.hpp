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
//   batch = "probe"                              # the same held-out sequences at every record; default "step"
//   code_histogram_every = 100                   # also counts of every code, at a cadence of their own
//
// Measures of products (gemm_error stands for all of them) belong to sites of products, `layer.0/fc1/wgrad`, and have
// entries of their own.
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

/// What an entry looks at: the step's own tokens, or the same held-out sequences every time, forward only.
enum class RecordedBatch : std::uint8_t { step, probe };

struct RecordingEntry {
  std::string name;
  std::vector<std::string> sites;  ///< patterns
  std::vector<Measure> measures;
  std::int64_t every = 0;           ///< 0: `steps` alone
  std::vector<std::int64_t> steps;  ///< ascending
  RecordedBatch batch = RecordedBatch::step;
  std::int64_t code_histogram_every = 0;  ///< 0: no histograms

  /// Steps are numbered 0 to total_steps - 1.
  [[nodiscard]] bool due(std::int64_t step, std::int64_t total_steps) const;
  [[nodiscard]] bool codes_due(std::int64_t step, std::int64_t total_steps) const;
  /// All measures of an entry are of products, or none is.
  [[nodiscard]] bool measures_products() const;
};

/// An entry with the sites that its patterns found, in the order of the model.
struct BoundEntry {
  RecordingEntry entry;
  std::vector<Site> sites;
  std::int64_t codes = 256;  ///< extent of a code histogram
};

/// The sites of a model and recipe that a plan can choose from.
struct SiteCatalogue {
  std::span<const Site> recordable;  ///< operands that are quantized in this run
  std::span<const Site> all;         ///< all operands
  std::span<const Site> products;
};

class RecordingPlan {
 public:
  /// `core` (every 10 steps, every quantized site), `double_quant` (every 50 steps, the column forms: wgrad operands
  /// and the weights of dgrad) and `weight_scales` (every 50 steps).
  [[nodiscard]] static RecordingPlan built_in();
  /// No entries: nothing is recorded.
  [[nodiscard]] static RecordingPlan none() { return {}; }
  /// UserError naming file, line, key and the nearest valid value.
  [[nodiscard]] static RecordingPlan from_file(const std::filesystem::path& path);
  [[nodiscard]] static RecordingPlan from_toml(const TomlDocument& document);

  [[nodiscard]] const std::vector<RecordingEntry>& entries() const { return entries_; }
  /// Canonical form, for the run's configuration.
  [[nodiscard]] Json json() const;

  /// Finds the sites. A pattern that fits no site at all is a UserError, and so is one that fits a site where a measure
  /// has no meaning; an entry whose patterns fit no recordable site is left out.
  [[nodiscard]] std::vector<BoundEntry> bind(const SiteCatalogue& catalogue) const;

 private:
  std::vector<RecordingEntry> entries_;
  std::string origin_;
  bool from_user_ = false;
};

/// '*' stands for any text ('/' included, empty too), '?' for one character.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace ng
