// SPDX-License-Identifier: Apache-2.0
//
// Recording plans: reading, the built-in one, finding sites.
#include "narrowgauge/recording/recording_plan.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"

namespace ng {
namespace {

std::vector<std::string> one_or_list(const TomlTable& table, std::string_view key) {
  if (table.kind(key) == TomlKind::string) return {table.get_string(key)};
  std::vector<std::string> list = table.get_string_list(key);
  if (list.empty()) table.fail(key, "is an empty list");
  return list;
}

void check_name(const TomlTable& table, const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), allowed)) {
    table.fail("name", fmt::format("'{}' is not 1 to 64 letters, digits, '_' or '-'", name));
  }
}

RecordingEntry read_entry(const TomlTable& table) {
  RecordingEntry entry;
  entry.name = table.get_string("name");
  check_name(table, entry.name);
  entry.sites = one_or_list(table, "site");
  for (const std::string& name : one_or_list(table, "measure")) {
    const NamedMeasure* measure = find_measure(name);
    if (measure == nullptr) {
      table.fail("measure", fmt::format("no measure is called '{}'; {}", name, suggestion(name, measure_names())));
    }
    if (std::count(entry.measures.begin(), entry.measures.end(), measure->id) != 0) {
      table.fail("measure", fmt::format("names '{}' twice", name));
    }
    entry.measures.push_back(measure->id);
  }
  if (table.has("steps")) {
    if (table.has("every")) table.fail("every", "is given beside 'steps'; one of them says when");
    entry.steps = table.get_int_list("steps", 0);
    if (entry.steps.empty()) table.fail("steps", "is an empty list");
    std::sort(entry.steps.begin(), entry.steps.end());
    if (std::adjacent_find(entry.steps.begin(), entry.steps.end()) != entry.steps.end()) {
      table.fail("steps", "names a step twice");
    }
  } else {
    entry.every = table.get_int("every", 1);
  }
  return entry;
}

}  // namespace

bool RecordingEntry::due(std::int64_t step, std::int64_t total_steps) const {
  if (every == 0) return std::binary_search(steps.begin(), steps.end(), step);
  return step % every == 0 || step == total_steps - 1;
}

RecordingPlan RecordingPlan::built_in() {
  using enum Measure;
  RecordingPlan plan;
  plan.entries_ = {
      {"core",
       {"*"},
       {rel_mse, sqnr_db, cosine, bias, underflow_rate, saturation_rate, scale_log2_mean, scale_log2_min,
        scale_log2_max},
       10,
       {}},
      {"double_quant",
       {"*/wgrad", "*/weight/dgrad"},
       {double_quant_error, double_quant_excess, double_quant_changed},
       50,
       {}},
  };
  return plan;
}

RecordingPlan RecordingPlan::from_file(const std::filesystem::path& path) {
  return from_toml(TomlDocument::from_file(path));
}

RecordingPlan RecordingPlan::from_toml(const TomlDocument& document) {
  RecordingPlan plan;
  plan.origin_ = document.name();
  plan.from_user_ = true;
  const TomlTable root = document.root();
  std::set<std::string> names;
  for (const TomlTable& table : root.get_table_array("entry")) {
    plan.entries_.push_back(read_entry(table));
    if (!names.insert(plan.entries_.back().name).second) {
      table.fail("name", fmt::format("'{}' is the name of an earlier entry", plan.entries_.back().name));
    }
    if (plan.entries_.size() > 32) table.fail("name", "a plan has at most 32 entries");
  }
  document.finish();
  return plan;
}

Json RecordingPlan::json() const {
  Json list = Json::array();
  for (const RecordingEntry& entry : entries_) {
    Json item = Json::object({{"name", entry.name}});
    for (const std::string& pattern : entry.sites) item["site"].push_back(pattern);
    for (const Measure measure : entry.measures) item["measure"].push_back(named(measure).name);
    if (entry.every != 0) item["every"] = entry.every;
    for (const std::int64_t step : entry.steps) item["steps"].push_back(step);
    list.push_back(std::move(item));
  }
  return Json::object({{"entry", std::move(list)}});
}

std::vector<BoundEntry> RecordingPlan::bind(std::span<const Site> recordable, std::span<const Site> all) const {
  std::vector<BoundEntry> bound;
  for (const RecordingEntry& entry : entries_) {
    const auto fits = [&](const Site& site) {
      return std::any_of(entry.sites.begin(), entry.sites.end(),
                         [&](const std::string& pattern) { return matches_pattern(pattern, site.name); });
    };
    for (const std::string& pattern : entry.sites) {
      if (!from_user_ || all.empty() ||
          std::any_of(all.begin(), all.end(), [&](const Site& site) { return matches_pattern(pattern, site.name); })) {
        continue;
      }
      std::vector<std::string> names;
      for (const Site& site : all) names.push_back(site.name);
      const auto nearest = nearest_key(pattern, names);
      throw UserError(fmt::format("{}: entry '{}': no site of this model fits the pattern '{}'; {} '{}'", origin_,
                                  entry.name, pattern, nearest ? "did you mean" : "a site is for example",
                                  nearest ? *nearest : names.front()));
    }
    BoundEntry found{entry, {}};
    std::copy_if(recordable.begin(), recordable.end(), std::back_inserter(found.sites), fits);
    if (!found.sites.empty()) bound.push_back(std::move(found));
  }
  return bound;
}

bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, resume = 0;  // the last '*' and where its text ends so far
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace ng
