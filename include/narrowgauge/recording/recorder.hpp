// SPDX-License-Identifier: Apache-2.0
//
// The tap of a training run: measures planned sites in due steps, adds up sums over micro-batches, forms ratios once
// per step. It reads tensors and never changes one; evaluation and recomputation are not seen. Holds nothing from one
// step to the next, so that a resumed run records what an uninterrupted one would have.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/recording/run_rows.hpp"

namespace ng {

/// Sums of one event; with a row quantizer also those of double quantization.
using Measurer = std::function<MeasureSums(const QuantizationEvent& event, const QuantizerSpec* row_spec)>;

/// `backend.measure`. The backend must outlive the result.
[[nodiscard]] Measurer measurer_of(Backend& backend);

/// Axes of the entries in the run file, in order.
[[nodiscard]] std::vector<RecordLayout> record_layouts(const std::vector<BoundEntry>& entries);

/// Use: begin_step, the step with this tap set, finish_step. One thread.
class Recorder final : public Tap {
 public:
  /// `row_specs`: by site index, the row quantizer of a column form's tensor, for double quantization; where it is
  /// missing the column form's own spec, along rows, is taken. At most 32 entries.
  Recorder(std::vector<BoundEntry> entries, std::int64_t total_steps, Measurer measurer,
           std::map<std::uint32_t, QuantizerSpec> row_specs = {});

  /// Forgets an unfinished step. True when something is due: otherwise the tap need not be set.
  bool begin_step(std::int64_t step);

  bool wants(const StepContext& context, const Site& site) const override {
    return site.index < entries_of_site_.size() && (entries_of_site_[site.index] & due_) != 0 && listens_to(context);
  }
  void quantized(const QuantizationEvent& event) override;

  /// One row per due entry; NaN where a site was not quantized, or a measure does not apply.
  [[nodiscard]] std::vector<RecordRow> finish_step();

 private:
  struct SiteSums {
    MeasureSums sums;
    bool measured = false;
    bool measured_twice = false;  // double quantization
  };

  [[nodiscard]] bool listens_to(const StepContext& context) const {
    return context.phase == Phase::train && context.step == step_ && !measuring_;
  }

  std::vector<BoundEntry> entries_;
  std::int64_t total_steps_;
  Measurer measurer_;
  std::map<std::uint32_t, QuantizerSpec> row_specs_;
  std::vector<std::uint32_t> entries_of_site_;  // bit e: entry e records the site
  std::uint32_t wants_double_ = 0;              // bit e: entry e has a measure of double quantization
  std::uint32_t due_ = 0;                       // bit e: entry e is due in this step
  std::int64_t step_ = -1;
  bool measuring_ = false;      // a quantization inside of a measurement is none of the step's
  std::vector<SiteSums> sums_;  // by site index
};

}  // namespace ng
