// SPDX-License-Identifier: Apache-2.0
//
// Merging of sums over micro-batches and forming of ratios.
#include "narrowgauge/recording/recorder.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "narrowgauge/base/check.hpp"

namespace ng {

Measurer measurer_of(Backend& backend) {
  return [&backend](const QuantizationEvent& event, const QuantizerSpec* row_spec) {
    return backend.measure(event, row_spec);
  };
}

std::vector<RecordLayout> record_layouts(const std::vector<BoundEntry>& entries) {
  std::vector<RecordLayout> layouts;
  for (const BoundEntry& bound : entries) {
    RecordLayout layout;
    layout.name = bound.entry.name;
    for (const Site& site : bound.sites) layout.sites.push_back(site.name);
    for (const Measure measure : bound.entry.measures) {
      layout.measures.emplace_back(named(measure).name);
      layout.definitions.emplace_back(named(measure).definition);
    }
    layouts.push_back(std::move(layout));
  }
  return layouts;
}

Recorder::Recorder(std::vector<BoundEntry> entries, std::int64_t total_steps, Measurer measurer,
                   std::map<std::uint32_t, QuantizerSpec> row_specs)
    : entries_(std::move(entries)),
      total_steps_(total_steps),
      measurer_(std::move(measurer)),
      row_specs_(std::move(row_specs)) {
  NG_CHECK_LE(entries_.size(), std::size_t{32});
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const std::uint32_t bit = 1u << e;
    for (const Site& site : entries_[e].sites) {
      if (site.index >= entries_of_site_.size()) entries_of_site_.resize(std::size_t{site.index} + 1, 0);
      entries_of_site_[site.index] |= bit;
    }
    const auto& measures = entries_[e].entry.measures;
    if (std::any_of(measures.begin(), measures.end(),
                    [](Measure measure) { return named(measure).needs_double_quantization; })) {
      wants_double_ |= bit;
    }
  }
  sums_.resize(entries_of_site_.size());
}

bool Recorder::begin_step(std::int64_t step) {
  step_ = step;
  due_ = 0;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if (entries_[e].entry.due(step, total_steps_)) due_ |= 1u << e;
  }
  if (due_ != 0) std::fill(sums_.begin(), sums_.end(), SiteSums{});
  return due_ != 0;
}

void Recorder::quantized(const QuantizationEvent& event) {
  if (!wants(event.context, event.site)) return;
  const std::uint32_t active = entries_of_site_[event.site.index] & due_;
  const QuantizerSpec* row_spec = nullptr;
  if ((active & wants_double_) != 0 && event.quantized.orientation == Orientation::column) {
    const auto found = row_specs_.find(event.site.index);
    row_spec = found == row_specs_.end() ? &event.quantized.spec : &found->second;
  }
  struct Inside {
    bool& flag;
    explicit Inside(bool& f) : flag(f) { flag = true; }
    ~Inside() { flag = false; }
  };
  MeasureSums part;
  {
    const Inside inside(measuring_);
    part = measurer_(event, row_spec);
  }
  SiteSums& site = sums_[event.site.index];
  // Sums of double quantization are only meaningful when every part has them.
  site.measured_twice = row_spec != nullptr && (!site.measured || site.measured_twice);
  if (site.measured) {
    merge(site.sums, part);
  } else {
    site.sums = part;
  }
  site.measured = true;
}

std::vector<RecordRow> Recorder::finish_step() {
  std::vector<RecordRow> rows;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if ((due_ & (1u << e)) == 0) continue;
    RecordRow row{e, step_, {}};
    row.values.reserve(entries_[e].sites.size() * entries_[e].entry.measures.size());
    for (const Site& site : entries_[e].sites) {
      const SiteSums& sums = sums_[site.index];
      for (const Measure measure : entries_[e].entry.measures) {
        const bool known = named(measure).needs_double_quantization ? sums.measured_twice : sums.measured;
        row.values.push_back(known ? form_measure(measure, sums.sums) : std::numeric_limits<float>::quiet_NaN());
      }
    }
    rows.push_back(std::move(row));
  }
  due_ = 0;
  return rows;
}

}  // namespace ng
