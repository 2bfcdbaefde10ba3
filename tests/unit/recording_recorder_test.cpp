// SPDX-License-Identifier: Apache-2.0
//
// Claim: the recorder's ratios over micro-batches are those of the whole, it sees only planned sites in due training
// steps, and asks for double quantization only where it is wanted. Alone: unit_recording --gtest_filter=Recorder.*
//
// The measurer here is the test's own: D is X rounded to a multiple of 1/2, the scale of a row its first element. All
// values are small multiples of 1/8, so that every sum is exact and any grouping gives the same bytes.
#include "narrowgauge/recording/recorder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "recording_support.hpp"

namespace ng {
namespace {

Measurement sums_of(const QuantizationEvent& event, const MeasureRequest& request) {
  Measurement measurement;
  MeasureSums& s = measurement.sums;
  for (std::int64_t r = 0; r < event.original.rows; ++r) {
    const auto* row = reinterpret_cast<const float*>(event.original.row(r));
    const double scale = std::log2(std::fabs(row[0]));
    s.scale_log2_min = s.scale_count == 0 ? scale : std::min(s.scale_log2_min, scale);
    s.scale_log2_max = s.scale_count == 0 ? scale : std::max(s.scale_log2_max, scale);
    s.scale_log2_sum += scale;
    s.scale_count += 1;
    for (std::int64_t c = 0; c < event.original.cols; ++c) {
      const double x = row[c], d = std::nearbyint(2 * x) / 2;
      s.count += 1;
      s.nonzero += x != 0;
      s.error2 += (d - x) * (d - x);
      s.square += x * x;
      s.decoded2 += d * d;
      s.product += d * x;
      s.signed_error += (d - x) * (x > 0 ? 1 : x < 0 ? -1 : 0);
      s.absolute += std::fabs(x);
      s.underflow += x != 0 && d == 0;
      s.saturated += std::fabs(x) > 3;
      s.max_abs_error = std::max(s.max_abs_error, std::fabs(d - x));
      if (x != 0) s.max_rel_error = std::max(s.max_rel_error, std::fabs((d - x) / x));
      if (request.double_quantization) s.double_error2 += d * d;
    }
  }
  return measurement;
}

class RecorderTest : public testing::Test {
 protected:
  RecorderTest() {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      values_[i] = static_cast<float>(static_cast<int>(i * 7 % 61) - 30) / 8.0f;
      if (i % kCols == 0) values_[i] = 0.25f * static_cast<float>(1 << (i / kCols));  // scales: powers of two
    }
  }

  Recorder recorder(const std::vector<RecordingEntry>& entries, std::map<std::uint32_t, QuantizerSpec> row_specs = {}) {
    std::vector<BoundEntry> bound;
    for (const RecordingEntry& entry : entries) bound.push_back({entry, {sites_[0], sites_[2]}});
    return Recorder(bound, 100,
                    Measurer{[this](const QuantizationEvent& event, const MeasureRequest& request) {
                               ++calls_;
                               row_spec_ = request.row_spec == nullptr ? QuantizerSpec{} : *request.row_spec;
                               with_row_spec_ = request.row_spec != nullptr;
                               return sums_of(event, request);
                             },
                             nullptr},
                    std::move(row_specs));
  }

  // As a backend does: rows [first, first + count) of the tensor at a site.
  void show(Tap& tap, const StepContext& context, std::size_t site, std::int64_t first, std::int64_t count,
            Orientation orientation = Orientation::row) {
    if (!tap.wants(context, sites_[site])) return;
    TensorView view{values_.data(), Dtype::f32, kRows, kCols, kCols, {}};
    view = row_slice(view, first, count);
    const RowGroups groups;
    QuantizedTensor quantized;
    quantized.spec = quantizer_presets()[4].spec;
    quantized.orientation = orientation;
    tap.quantized({context, sites_[site], view, groups, quantized});
  }

  static constexpr std::int64_t kRows = 6, kCols = 40;
  std::vector<float> values_ = std::vector<float>(static_cast<std::size_t>(kRows * kCols));
  std::vector<Site> sites_ = {{"layer.0/fc1/activation/fprop", 0, 1},
                              {"layer.0/fc1/weight/fprop", 1, 2},
                              {"layer.0/fc1/activation/wgrad", 2, 3}};
  int calls_ = 0;
  bool with_row_spec_ = false;
  QuantizerSpec row_spec_;
};

std::vector<Measure> all_measures() {
  std::vector<Measure> list;
  for (const NamedMeasure& measure : measure_table())
    if (measure.source != MeasureSource::product) list.push_back(measure.id);
  return list;
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> result;
  for (const float value : values) result.push_back(std::isnan(value) ? 0x7fc00000u : bits_of(value));
  return result;
}

TEST_F(RecorderTest, MicroBatchesGiveTheRatiosOfTheWhole) {
  Recorder whole = recorder({{"a", {"*"}, all_measures(), 10, {}}});
  Recorder parts = recorder({{"a", {"*"}, all_measures(), 10, {}}});
  ASSERT_TRUE(whole.begin_step(20));
  ASSERT_TRUE(parts.begin_step(20));
  for (const std::size_t site : {std::size_t{0}, std::size_t{2}}) {
    const Orientation orientation = site == 2 ? Orientation::column : Orientation::row;
    show(whole, {1, 20, 0, Phase::train}, site, 0, kRows, orientation);
    show(parts, {1, 20, 0, Phase::train}, site, 0, 2, orientation);
    show(parts, {1, 20, 1, Phase::train}, site, 2, 4, orientation);
  }
  const auto a = whole.finish_step(), b = parts.finish_step();
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(b.size(), 1u);
  EXPECT_EQ(a[0].step, 20);
  ASSERT_EQ(a[0].values.size(), 2 * all_measures().size());
  EXPECT_EQ(bits(a[0].values), bits(b[0].values));
  // Against the definition, not only against itself.
  double error = 0, square = 0;
  for (const float x : values_) {
    const double d = std::nearbyint(2.0 * x) / 2;
    error += (d - x) * (d - x);
    square += double{x} * x;
  }
  EXPECT_EQ(b[0].values[0], static_cast<float>(error / square));
  EXPECT_EQ(b[0].values[static_cast<std::size_t>(Measure::scale_log2_min)], -2.0f);
  EXPECT_EQ(b[0].values[static_cast<std::size_t>(Measure::scale_log2_max)], 3.0f);
}

TEST_F(RecorderTest, OnlyPlannedSitesInDueTrainingSteps) {
  Recorder r = recorder({{"a", {"*"}, {Measure::rel_mse}, 10, {}}});
  EXPECT_FALSE(r.begin_step(3));
  show(r, {1, 3, 0, Phase::train}, 0, 0, 1);
  EXPECT_TRUE(r.finish_step().empty());
  EXPECT_TRUE(r.begin_step(99));               // the last
  show(r, {1, 99, 0, Phase::train}, 1, 0, 1);  // not planned
  show(r, {1, 99, 0, Phase::eval}, 0, 0, 1);
  show(r, {1, 99, 0, Phase::recompute}, 0, 0, 1);
  show(r, {1, 98, 0, Phase::train}, 0, 0, 1);  // another step
  EXPECT_EQ(calls_, 0);
  const auto rows = r.finish_step();
  ASSERT_EQ(rows.size(), 1u);
  ASSERT_EQ(rows[0].values.size(), 2u);
  EXPECT_TRUE(std::isnan(rows[0].values[0]) && std::isnan(rows[0].values[1]));
  show(r, {1, 99, 0, Phase::train}, 0, 0, 1);  // after the step
  EXPECT_EQ(calls_, 0);
}

TEST_F(RecorderTest, AStepBegunAgainStartsEmpty) {
  Recorder r = recorder({{"a", {"*"}, {Measure::rel_mse}, 1, {}}});
  (void)r.begin_step(4);
  show(r, {1, 4, 0, Phase::train}, 0, 0, 3);
  (void)r.begin_step(4);
  show(r, {1, 4, 0, Phase::train}, 0, 1, 1);
  const float again = r.finish_step()[0].values[0];
  (void)r.begin_step(5);
  show(r, {1, 5, 0, Phase::train}, 0, 1, 1);
  EXPECT_EQ(r.finish_step()[0].values[0], again);
}

TEST_F(RecorderTest, DoubleQuantizationOnlyForColumnFormsWhereWanted) {
  const std::vector<RecordingEntry> entries = {{"core", {"*"}, {Measure::rel_mse}, 10, {}},
                                               {"double", {"*"}, {Measure::double_quant_error}, 50, {}}};
  QuantizerSpec other = quantizer_presets()[0].spec;
  Recorder r = recorder(entries, {{2, other}});
  (void)r.begin_step(10);  // only core is due
  show(r, {1, 10, 0, Phase::train}, 2, 0, 1, Orientation::column);
  EXPECT_EQ(calls_, 1);
  EXPECT_FALSE(with_row_spec_);
  ASSERT_EQ(r.finish_step().size(), 1u);
  (void)r.begin_step(50);  // both; one call serves both
  show(r, {1, 50, 0, Phase::train}, 0, 0, 1, Orientation::row);
  EXPECT_FALSE(with_row_spec_);
  show(r, {1, 50, 0, Phase::train}, 2, 0, 1, Orientation::column);
  EXPECT_TRUE(with_row_spec_);
  EXPECT_EQ(row_spec_, other);
  EXPECT_EQ(calls_, 3);
  const auto rows = r.finish_step();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].entry, 1u);
  EXPECT_TRUE(std::isnan(rows[1].values[0]));
  EXPECT_GT(rows[1].values[1], 0.0f);
  Recorder plain = recorder(entries);
  (void)plain.begin_step(50);
  show(plain, {1, 50, 0, Phase::train}, 2, 0, 1, Orientation::column);
  EXPECT_EQ(row_spec_, quantizer_presets()[4].spec);  // the column form's own
}

TEST_F(RecorderTest, LayoutsNameTheAxes) {
  const std::vector<BoundEntry> bound = {
      {{"core", {"*"}, {Measure::bias, Measure::rel_mse}, 10, {}}, {sites_[2], sites_[0]}}};
  const auto layouts = record_layouts(bound);
  ASSERT_EQ(layouts.size(), 1u);
  EXPECT_EQ(layouts[0].sites, (std::vector<std::string>{sites_[2].name, sites_[0].name}));
  EXPECT_EQ(layouts[0].measures, (std::vector<std::string>{"bias", "rel_mse"}));
  EXPECT_EQ(layouts[0].definitions.size(), 2u);
}

}  // namespace
}  // namespace ng
