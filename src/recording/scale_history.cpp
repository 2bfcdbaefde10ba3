// SPDX-License-Identifier: Apache-2.0
//
// Comparison of scales over records.
#include "narrowgauge/recording/scale_history.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "narrowgauge/base/error.hpp"

namespace ng {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

bool has_log(float scale) {
  return scale > 0.0f && std::isfinite(scale);
}
double log_of(float scale) {
  return std::log2(static_cast<double>(scale));
}

struct PlaceComparison {
  double drift = kNan, flip_rate = kNan;
};

PlaceComparison compare(const std::vector<PlacedScale>& now, const std::vector<PlacedScale>& then) {
  UnroundedSum distance;
  double with_logs = 0, common = 0, changed = 0;
  auto other = then.begin();
  for (const PlacedScale& scale : now) {
    while (other != then.end() && other->place < scale.place) ++other;
    if (other == then.end()) break;
    if (other->place != scale.place) continue;
    common += 1;
    changed += std::bit_cast<std::uint32_t>(scale.scale) != std::bit_cast<std::uint32_t>(other->scale) ? 1 : 0;
    if (!has_log(scale.scale) || !has_log(other->scale)) continue;
    with_logs += 1;
    distance += std::fabs(log_of(scale.scale) - log_of(other->scale));
  }
  return {with_logs == 0 ? kNan : distance / with_logs, common == 0 ? kNan : changed / common};
}

using Distribution = std::vector<std::pair<float, std::int64_t>>;

Distribution distribution_of(const std::vector<PlacedScale>& scales) {
  std::vector<float> sorted;
  for (const PlacedScale& scale : scales)
    if (has_log(scale.scale)) sorted.push_back(scale.scale);
  std::sort(sorted.begin(), sorted.end());
  Distribution distinct;
  for (const float scale : sorted) {
    if (distinct.empty() || distinct.back().first != scale) distinct.emplace_back(scale, 0);
    ++distinct.back().second;
  }
  return distinct;
}

double count_of(const Distribution& scales) {
  std::int64_t count = 0;
  for (const auto& [scale, times] : scales) count += times;
  return static_cast<double>(count);
}

double mean_log(const Distribution& scales) {
  UnroundedSum sum;
  for (const auto& [scale, times] : scales) sum += log_of(scale) * static_cast<double>(times);
  return sum / count_of(scales);
}

// Area between the two distribution functions of log2 scale.
double distance_between(const Distribution& a, const Distribution& b) {
  const double count_a = count_of(a), count_b = count_of(b);
  UnroundedSum area;
  std::size_t i = 0, j = 0;
  double below_a = 0, below_b = 0, at = 0;
  while (i < a.size() || j < b.size()) {
    const bool from_a = j == b.size() || (i < a.size() && a[i].first <= b[j].first);
    const float scale = from_a ? a[i].first : b[j].first;
    const double log = log_of(scale);
    if (below_a + below_b > 0) area += std::fabs(below_a / count_a - below_b / count_b) * (log - at);
    at = log;
    if (i < a.size() && a[i].first == scale) below_a += static_cast<double>(a[i++].second);
    if (j < b.size() && b[j].first == scale) below_b += static_cast<double>(b[j++].second);
  }
  return area;
}

// Places as runs [first, step, count], since tiles lie in regular rows.
Array runs_of(const std::vector<PlacedScale>& scales) {
  std::vector<std::int64_t> runs;
  for (std::size_t i = 0; i < scales.size();) {
    const std::int64_t step = i + 1 < scales.size() ? scales[i + 1].place - scales[i].place : 1;
    std::size_t end = i + 1;
    while (end < scales.size() && scales[end].place - scales[end - 1].place == step) ++end;
    runs.insert(runs.end(), {scales[i].place, step, static_cast<std::int64_t>(end - i)});
    i = end;
  }
  return Array::from<std::int64_t>({static_cast<std::int64_t>(runs.size() / 3), 3}, runs);
}

template <class T>
Array array_of(const std::vector<T>& values) {
  return Array::from<T>({static_cast<std::int64_t>(values.size())}, values);
}

void save_placed(const std::string& name, const std::vector<PlacedScale>& scales, std::map<std::string, Array>& to) {
  std::vector<float> values;
  for (const PlacedScale& scale : scales) values.push_back(scale.scale);
  to[name + "_places"] = runs_of(scales);
  to[name + "_scales"] = array_of(values);
}

[[noreturn]] void misfit(const std::string& name) {
  throw UserError(fmt::format("checkpoint: '{}' does not hold what a recorder saves", name));
}

const Array& find_in(const std::map<std::string, Array>& from, const std::string& name) {
  const auto found = from.find(name);
  if (found == from.end()) misfit(name);
  return found->second;
}

std::vector<PlacedScale> load_placed(const std::string& name, const std::map<std::string, Array>& from) {
  const auto runs = find_in(from, name + "_places").as<std::int64_t>();
  const auto values = find_in(from, name + "_scales").as<float>();
  std::vector<PlacedScale> scales;
  for (std::size_t r = 0; r + 2 < runs.size(); r += 3) {
    if (runs[r + 2] < 0 || runs[r + 2] > static_cast<std::int64_t>(values.size() - scales.size())) misfit(name);
    for (std::int64_t i = 0; i < runs[r + 2]; ++i) scales.push_back({runs[r] + i * runs[r + 1], values[scales.size()]});
  }
  if (scales.size() != values.size()) misfit(name);
  return scales;
}

}  // namespace

ScaleChange ScaleHistory::advance(std::vector<PlacedScale> now) {
  ScaleChange change;
  if (keeps_distribution_) {
    Distribution distribution = distribution_of(now);
    if (any_ && !distribution.empty() && !distribution_.empty()) {
      change.shift = mean_log(distribution) - mean_log(distribution_);
      change.distance = distance_between(distribution, distribution_);
    }
    distribution_ = std::move(distribution);
  }
  if (keeps_places_) {
    std::erase_if(now, [](const PlacedScale& scale) { return scale.place < 0; });
    std::stable_sort(now.begin(), now.end(),
                     [](const PlacedScale& a, const PlacedScale& b) { return a.place < b.place; });
    now.erase(std::unique(now.begin(), now.end(),
                          [](const PlacedScale& a, const PlacedScale& b) { return a.place == b.place; }),
              now.end());
    if (any_) {
      const PlaceComparison since_previous = compare(now, previous_);
      change.drift = since_previous.drift;
      change.flip_rate = since_previous.flip_rate;
      change.drift_from_start = compare(now, first_).drift;
    } else {
      first_ = now;
    }
    previous_ = std::move(now);
  }
  any_ = true;
  return change;
}

void ScaleHistory::save(const std::string& prefix, std::map<std::string, Array>& to) const {
  if (!any_) return;
  if (keeps_places_) {
    save_placed(prefix + "/first", first_, to);
    save_placed(prefix + "/previous", previous_, to);
  }
  if (keeps_distribution_) {
    std::vector<float> scales;
    std::vector<std::int64_t> counts;
    for (const auto& [scale, count] : distribution_) {
      scales.push_back(scale);
      counts.push_back(count);
    }
    to[prefix + "/distribution_scales"] = array_of(scales);
    to[prefix + "/distribution_counts"] = array_of(counts);
  }
}

void ScaleHistory::load(const std::string& prefix, const std::map<std::string, Array>& from) {
  const char* const mark = keeps_places_ ? "/first_scales" : "/distribution_scales";
  any_ = (keeps_places_ || keeps_distribution_) && from.contains(prefix + mark);
  first_.clear();
  previous_.clear();
  distribution_.clear();
  if (!any_) return;
  if (keeps_places_) {
    first_ = load_placed(prefix + "/first", from);
    previous_ = load_placed(prefix + "/previous", from);
  }
  if (keeps_distribution_) {
    const auto scales = find_in(from, prefix + "/distribution_scales").as<float>();
    const auto counts = find_in(from, prefix + "/distribution_counts").as<std::int64_t>();
    if (scales.size() != counts.size()) misfit(prefix);
    for (std::size_t i = 0; i < scales.size(); ++i) distribution_.emplace_back(scales[i], counts[i]);
  }
}

}  // namespace ng
