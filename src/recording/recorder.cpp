// SPDX-License-Identifier: Apache-2.0
//
// Gathering over micro-batches and forming of ratios.
#include "narrowgauge/recording/recorder.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "narrowgauge/base/check.hpp"

namespace ng {
namespace {

constexpr std::size_t kSources = static_cast<std::size_t>(MeasureSource::product) + 1;

constexpr std::uint32_t bit_of(MeasureSource source) {
  return 1u << static_cast<unsigned>(source);
}

bool has_source(const RecordingEntry& entry, MeasureSource source) {
  return std::any_of(entry.measures.begin(), entry.measures.end(),
                     [&](Measure measure) { return named(measure).source == source; });
}

// "layer.3/fc1/wgrad" -> "layer.3/fc1/weight/wgrad" and the like.
std::vector<std::string> operand_sites(const std::string& product) {
  const std::size_t slash = product.rfind('/');
  std::vector<std::string> names;
  for (const char* operand : {"activation", "weight", "grad_output"})
    names.push_back(product.substr(0, slash) + "/" + operand + product.substr(slash));
  return names;
}

void add_to(std::vector<std::uint32_t>& masks, std::size_t index, std::uint32_t bit) {
  if (index >= masks.size()) masks.resize(index + 1, 0);
  masks[index] |= bit;
}

}  // namespace

Measurer measurer_of(Backend& backend) {
  return {[&backend](const QuantizationEvent& event, const MeasureRequest& request) {
            return backend.measure(event, request);
          },
          [&backend](const ProductEvent& event) { return backend.measure_product(event); }};
}

std::vector<RecordLayout> record_layouts(const std::vector<BoundEntry>& entries) {
  std::vector<RecordLayout> layouts;
  for (const BoundEntry& bound : entries) {
    RecordLayout layout;
    layout.name = bound.entry.name;
    layout.codes = bound.entry.code_histogram_every > 0 ? bound.codes : 0;
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
      row_specs_(std::move(row_specs)),
      histories_(entries_.size()),
      entries_of_source_(kSources, 0) {
  NG_CHECK_LE(entries_.size(), std::size_t{32});
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const std::uint32_t bit = 1u << e;
    const RecordingEntry& entry = entries_[e].entry;
    const bool product = entry.measures_products();
    if (product) product_entries_ |= bit;
    if (entry.batch == RecordedBatch::probe) probe_entries_ |= bit;
    for (const Site& site : entries_[e].sites) {
      add_to(product ? entries_of_product_ : entries_of_site_, site.index, bit);
      if (!product) continue;
      for (const std::string& operand : operand_sites(site.name)) entries_of_original_[operand] |= bit;
    }
    for (std::size_t s = 0; s < kSources; ++s) {
      if (has_source(entry, static_cast<MeasureSource>(s))) entries_of_source_[s] |= bit;
    }
    const bool places = has_source(entry, MeasureSource::scale_places);
    const bool distribution = has_source(entry, MeasureSource::scale_distribution);
    if (places || distribution) histories_[e].assign(entries_[e].sites.size(), ScaleHistory(places, distribution));
  }
  seen_.resize(entries_of_site_.size());
  probed_.resize(entries_of_site_.size());
  products_.resize(entries_of_product_.size());
}

bool Recorder::begin_step(std::int64_t step) {
  step_ = step;
  due_ = due_codes_ = 0;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if (entries_[e].entry.due(step, total_steps_)) due_ |= 1u << e;
    if (entries_[e].entry.codes_due(step, total_steps_)) due_codes_ |= 1u << e;
  }
  if (due() == 0) return false;
  for (std::vector<Gathered>* all : {&seen_, &probed_, &products_}) std::fill(all->begin(), all->end(), Gathered{});
  return true;
}

std::uint32_t Recorder::active(const StepContext& context, const Site& site) const {
  if (site.index >= entries_of_site_.size() || !listens_to(context)) return 0;
  const std::uint32_t wanting = entries_of_site_[site.index] & due();
  if (context.phase == Phase::train) return wanting & ~probe_entries_;
  return context.phase == Phase::probe ? wanting & probe_entries_ : 0;
}

bool Recorder::wants_original(const StepContext& context, const Site& site) const {
  if ((due_ & product_entries_) == 0 || context.phase != Phase::train || !listens_to(context)) return false;
  const auto found = entries_of_original_.find(site.name);
  return found != entries_of_original_.end() && (found->second & due_) != 0;
}

void Recorder::quantized(const QuantizationEvent& event) {
  const std::uint32_t wanting = active(event.context, event.site);
  if (wanting == 0) return;
  const auto wanted = [&](MeasureSource source) {
    return (wanting & due_ & entries_of_source_[static_cast<std::size_t>(source)]) != 0;
  };
  MeasureRequest request;
  std::uint32_t sources = bit_of(MeasureSource::errors);
  if (event.quantized.orientation == Orientation::column) {
    request.double_quantization = wanted(MeasureSource::double_quantization);
    request.scale_gap = wanted(MeasureSource::scale_gap);
    const auto found = row_specs_.find(event.site.index);
    if (request.double_quantization || request.scale_gap)
      request.row_spec = found == row_specs_.end() ? &event.quantized.spec : &found->second;
    if (request.double_quantization) sources |= bit_of(MeasureSource::double_quantization);
    if (request.scale_gap) sources |= bit_of(MeasureSource::scale_gap);
  } else if (wanted(MeasureSource::transpose)) {
    request.transpose = true;
    sources |= bit_of(MeasureSource::transpose);
  }
  request.scales = wanted(MeasureSource::scale_places) || wanted(MeasureSource::scale_distribution);
  if (request.scales) sources |= bit_of(MeasureSource::scale_places) | bit_of(MeasureSource::scale_distribution);
  request.codes = (wanting & due_codes_) != 0;

  struct Inside {
    bool& flag;
    explicit Inside(bool& f) : flag(f) { flag = true; }
    ~Inside() { flag = false; }
  };
  Measurement part;
  {
    const Inside inside(measuring_);
    part = measurer_.form(event, request);
  }
  Gathered& site = gathered(event.context, event.site);
  merge(site.measurement, part);
  // A measure that needs more than errors has a meaning only when every part has it.
  site.sources = site.any ? site.sources & sources : sources;
  site.any = true;
}

void Recorder::multiplied(const ProductEvent& event) {
  if (!wants_product(event.context, event.site)) return;
  std::vector<ProductElement> part = measurer_.product(event);
  Gathered& site = products_[event.site.index];
  site.any = true;
  site.sources = bit_of(MeasureSource::product);
  if (event.gemm != Gemm::wgrad) {
    for (const ProductElement& element : part) add(site.product, element);
    return;
  }
  if (site.elements.empty()) {
    site.elements = std::move(part);
    return;
  }
  NG_CHECK_EQ(site.elements.size(), part.size());
  for (std::size_t i = 0; i < part.size(); ++i) {
    ProductElement& to = site.elements[i];
    NG_CHECK_EQ(to.place, part[i].place);
    to.given += part[i].given;
    to.exact += part[i].exact;
    to.plain += part[i].plain;
    to.first += part[i].first;
    to.second += part[i].second;
  }
}

std::vector<float> Recorder::values_of(std::size_t e) {
  const BoundEntry& bound = entries_[e];
  std::vector<float> values;
  values.reserve(bound.sites.size() * bound.entry.measures.size());
  for (std::size_t s = 0; s < bound.sites.size(); ++s) {
    const std::uint32_t index = bound.sites[s].index;
    const Gathered& from = bound.entry.measures_products()             ? products_[index]
                           : bound.entry.batch == RecordedBatch::probe ? probed_[index]
                                                                       : seen_[index];
    Measured measured{from.measurement.sums, {}, from.product};
    for (const ProductElement& element : from.elements) add(measured.product, element);
    if (from.any && !histories_[e].empty()) measured.scales = histories_[e][s].advance(from.measurement.scales);
    for (const Measure measure : bound.entry.measures) {
      const bool known = (from.sources & bit_of(named(measure).source)) != 0;
      values.push_back(known ? form_measure(measure, measured) : std::numeric_limits<float>::quiet_NaN());
    }
  }
  return values;
}

std::vector<std::uint32_t> Recorder::codes_of(std::size_t e) const {
  const BoundEntry& bound = entries_[e];
  const auto codes = static_cast<std::size_t>(bound.codes);
  std::vector<std::uint32_t> counts(bound.sites.size() * codes, 0);
  for (std::size_t s = 0; s < bound.sites.size(); ++s) {
    const std::uint32_t index = bound.sites[s].index;
    const auto& from = (bound.entry.batch == RecordedBatch::probe ? probed_ : seen_)[index].measurement.code_counts;
    for (std::size_t c = 0; c < std::min(codes, from.size()); ++c)
      counts[s * codes + c] =
          static_cast<std::uint32_t>(std::min<std::int64_t>(from[c], std::numeric_limits<std::uint32_t>::max()));
  }
  return counts;
}

std::vector<RecordRow> Recorder::finish_step() {
  std::vector<RecordRow> rows;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const std::uint32_t bit = 1u << e;
    if ((due() & bit) == 0) continue;
    RecordRow row{e, step_, {}, {}};
    if ((due_ & bit) != 0) row.values = values_of(e);
    if ((due_codes_ & bit) != 0) row.codes = codes_of(e);
    rows.push_back(std::move(row));
  }
  due_ = due_codes_ = 0;
  return rows;
}

std::map<std::string, Array> Recorder::state() const {
  std::map<std::string, Array> tensors;
  for (std::size_t e = 0; e < entries_.size(); ++e)
    for (std::size_t s = 0; s < histories_[e].size(); ++s)
      histories_[e][s].save(fmt::format("recorder/{}/{}", entries_[e].entry.name, entries_[e].sites[s].name), tensors);
  return tensors;
}

void Recorder::restore(const std::map<std::string, Array>& tensors) {
  for (std::size_t e = 0; e < entries_.size(); ++e)
    for (std::size_t s = 0; s < histories_[e].size(); ++s)
      histories_[e][s].load(fmt::format("recorder/{}/{}", entries_[e].entry.name, entries_[e].sites[s].name), tensors);
}

}  // namespace ng
