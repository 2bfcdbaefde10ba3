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
    const std::vector<Measure> found = measures_called(name);
    if (found.empty()) {
      table.fail("measure", fmt::format("no measure is called '{}'; {}", name, suggestion(name, measure_names())));
    }
    for (const Measure measure : found) {
      if (std::count(entry.measures.begin(), entry.measures.end(), measure) != 0) {
        table.fail("measure", fmt::format("names '{}' twice", named(measure).name));
      }
      entry.measures.push_back(measure);
    }
  }
  const auto of_products = std::count_if(entry.measures.begin(), entry.measures.end(), [](Measure measure) {
    return named(measure).source == MeasureSource::product;
  });
  if (of_products != 0 && of_products != static_cast<std::ptrdiff_t>(entry.measures.size())) {
    table.fail("measure", "mixes measures of products (gemm_error...) with those of tensors; they need two entries");
  }
  if (table.has("batch")) {
    const std::string batch = table.get_string("batch");
    if (batch != "step" && batch != "probe") {
      table.fail("batch", fmt::format("is '{}'; valid: step, probe", batch));
    }
    if (batch == "probe") entry.batch = RecordedBatch::probe;
    if (batch == "probe" && of_products != 0) table.fail("batch", "products are measured in the step only");
  }
  if (table.has("code_histogram_every")) {
    if (of_products != 0) table.fail("code_histogram_every", "products have no codes");
    entry.code_histogram_every = table.get_int("code_histogram_every", 1);
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

bool holds(const std::string& name, std::string_view part) {
  return name.find(part) != std::string::npos;
}

// Measures that have no meaning at a site are mistakes, not NaN in a file that is read when the run is over.
void check_site(const std::string& origin, const RecordingEntry& entry, const std::string& site) {
  const auto place = [&] { return fmt::format("{}: entry '{}': ", origin, entry.name); };
  if (entry.batch == RecordedBatch::probe) {
    if (site.ends_with("/activation/fprop")) return;
    throw UserError(place() + fmt::format("the probe batch runs forward only, so that '{}' cannot be seen with it; "
                                          "valid sites: */activation/fprop",
                                          site));
  }
  for (const Measure measure : entry.measures) {
    if (named(measure).source != MeasureSource::scale_places) continue;
    if (!holds(site, "/activation/") && !holds(site, "/grad_output/")) continue;
    throw UserError(place() + fmt::format("{} compares scales place by place, but '{}' holds other tokens in every "
                                          "step; valid: sites */weight/*, or batch = \"probe\", or scale_shift and "
                                          "scale_distance",
                                          named(measure).name, site));
  }
}

}  // namespace

bool RecordingEntry::due(std::int64_t step, std::int64_t total_steps) const {
  if (every == 0) return std::binary_search(steps.begin(), steps.end(), step);
  return step % every == 0 || step == total_steps - 1;
}

bool RecordingEntry::codes_due(std::int64_t step, std::int64_t total_steps) const {
  return code_histogram_every > 0 && (step % code_histogram_every == 0 || step == total_steps - 1);
}

bool RecordingEntry::measures_products() const {
  return !measures.empty() && named(measures.front()).source == MeasureSource::product;
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
      {"weight_scales", {"*/weight/*"}, {scale_drift, scale_flip_rate, scale_drift_from_start}, 50, {}},
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
    if (entry.batch == RecordedBatch::probe) item["batch"] = "probe";
    if (entry.code_histogram_every != 0) item["code_histogram_every"] = entry.code_histogram_every;
    list.push_back(std::move(item));
  }
  return Json::object({{"entry", std::move(list)}});
}

std::vector<BoundEntry> RecordingPlan::bind(const SiteCatalogue& catalogue) const {
  std::vector<BoundEntry> bound;
  for (const RecordingEntry& entry : entries_) {
    const bool product = entry.measures_products();
    const std::span<const Site> all = product ? catalogue.products : catalogue.all;
    for (const std::string& pattern : entry.sites) {
      if (!from_user_ || all.empty() ||
          std::any_of(all.begin(), all.end(), [&](const Site& site) { return matches_pattern(pattern, site.name); })) {
        continue;
      }
      std::vector<std::string> names;
      for (const Site& site : all) names.push_back(site.name);
      const auto nearest = nearest_key(pattern, names);
      throw UserError(fmt::format("{}: entry '{}': no {} of this model fits the pattern '{}'; {} '{}'", origin_,
                                  entry.name, product ? "product" : "site", pattern,
                                  nearest ? "did you mean" : "one is for example", nearest ? *nearest : names.front()));
    }
    BoundEntry found{entry, {}};
    const auto fits = [&](const Site& site) {
      return std::any_of(entry.sites.begin(), entry.sites.end(),
                         [&](const std::string& pattern) { return matches_pattern(pattern, site.name); });
    };
    const std::span<const Site> candidates = product ? catalogue.products : catalogue.recordable;
    std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(found.sites), fits);
    for (const Site& site : found.sites) check_site(origin_, entry, site.name);
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
