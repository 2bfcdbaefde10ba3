// SPDX-License-Identifier: Apache-2.0
//
// The tap of a training run: measures planned sites in due steps, adds up parts over micro-batches, forms ratios once
// per step. It reads tensors and never changes one; evaluation and recomputation are not seen. From one step to the
// next it keeps the scales that measures compare with, and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/recording/run_rows.hpp"
#include "narrowgauge/recording/scale_history.hpp"

namespace ng {

/// Who measures: a backend, or a test.
struct Measurer {
  std::function<Measurement(const QuantizationEvent& event, const MeasureRequest& request)> form;
  std::function<std::vector<ProductElement>(const ProductEvent& event)> product;
};

/// `backend.measure` and `backend.measure_product`. The backend must outlive the result.
[[nodiscard]] Measurer measurer_of(Backend& backend);

/// Axes of the entries in the run file, in order.
[[nodiscard]] std::vector<RecordLayout> record_layouts(const std::vector<BoundEntry>& entries);

/// Use: begin_step, the step with this tap set (the probe batch included, if probes()), finish_step. One thread.
class Recorder final : public Tap {
 public:
  /// `row_specs`: by site index, the row quantizer of a column form's tensor; where it is missing the column form's own
  /// spec, along rows, is taken. At most 32 entries.
  Recorder(std::vector<BoundEntry> entries, std::int64_t total_steps, Measurer measurer,
           std::map<std::uint32_t, QuantizerSpec> row_specs = {});
  /// Other ones from the next step on.
  void set_row_specs(std::map<std::uint32_t, QuantizerSpec> row_specs) { row_specs_ = std::move(row_specs); }

  /// Forgets an unfinished step. True when something is due: otherwise the tap need not be set.
  bool begin_step(std::int64_t step);
  /// In the step begun an entry wants to see the probe batch.
  [[nodiscard]] bool probes() const { return (due() & probe_entries_) != 0; }

  bool wants(const StepContext& context, const Site& site) const override { return active(context, site) != 0; }
  void quantized(const QuantizationEvent& event) override;
  bool wants_product(const StepContext& context, const Site& site) const override {
    return site.index < entries_of_product_.size() && (entries_of_product_[site.index] & due_) != 0 &&
           context.phase == Phase::train && listens_to(context);
  }
  bool wants_original(const StepContext& context, const Site& site) const override;
  void multiplied(const ProductEvent& event) override;

  /// One row per due entry; NaN where a site was not seen, or a measure does not apply.
  [[nodiscard]] std::vector<RecordRow> finish_step();

  /// What has to survive a checkpoint, by names that begin with "recorder/".
  [[nodiscard]] std::map<std::string, Array> state() const;
  /// Takes what `state` gave from among other tensors. UserError when it does not fit together.
  void restore(const std::map<std::string, Array>& tensors);

 private:
  /// What was gathered at a site, in a batch of the step or in the probe batch.
  struct Gathered {
    Measurement measurement;
    std::vector<ProductElement> elements;  // of a weight gradient, whose micro-batches add up
    ProductSums product;
    std::uint32_t sources = 0;  // bit s: MeasureSource s was measured in every part
    bool any = false;
  };

  [[nodiscard]] bool listens_to(const StepContext& context) const { return context.step == step_ && !measuring_; }
  [[nodiscard]] std::uint32_t due() const { return due_ | due_codes_; }
  /// Entries that want to see the site now.
  [[nodiscard]] std::uint32_t active(const StepContext& context, const Site& site) const;
  [[nodiscard]] Gathered& gathered(const StepContext& context, const Site& site) {
    return context.phase == Phase::probe ? probed_[site.index] : seen_[site.index];
  }
  [[nodiscard]] std::vector<float> values_of(std::size_t entry);
  [[nodiscard]] std::vector<std::uint32_t> codes_of(std::size_t entry) const;

  std::vector<BoundEntry> entries_;
  std::int64_t total_steps_;
  Measurer measurer_;
  std::map<std::uint32_t, QuantizerSpec> row_specs_;
  std::vector<std::vector<ScaleHistory>> histories_;  // [entry][site]; empty where no measure compares scales
  // Bit e of a mask: entry e.
  std::vector<std::uint32_t> entries_of_site_, entries_of_product_;  // by site index
  std::map<std::string, std::uint32_t> entries_of_original_;         // by name of an operand's site
  std::vector<std::uint32_t> entries_of_source_;                     // by MeasureSource: has such a measure
  std::uint32_t probe_entries_ = 0, product_entries_ = 0;
  std::uint32_t due_ = 0, due_codes_ = 0;  // measures; code histograms
  std::int64_t step_ = -1;
  bool measuring_ = false;                          // a quantization inside of a measurement is none of the step's
  std::vector<Gathered> seen_, probed_, products_;  // by site index
};

}  // namespace ng
