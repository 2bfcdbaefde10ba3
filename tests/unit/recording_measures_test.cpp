// SPDX-License-Identifier: Apache-2.0
//
// Claim: every measure is the ratio that numerics.md section 6 defines, on numbers worked out by hand; an empty and an
// all-zero tensor give 0 for errors and NaN for ratios without meaning. Alone: unit_recording --gtest_filter=Measures.*
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "narrowgauge/recording/measures.hpp"

namespace ng {
namespace {

// X = (1, -2, 0, 4, 0.5), D = (1.5, -2, 0, 3, 0): errors 0.5, 0, 0, -1, -0.5. Scales 2^-3, 2^1, 2^1.
MeasureSums by_hand() {
  MeasureSums s;
  s.count = 5;
  s.nonzero = 4;
  s.error2 = 0.25 + 1 + 0.25;
  s.square = 1 + 4 + 16 + 0.25;
  s.decoded2 = 2.25 + 4 + 9;
  s.product = 1.5 + 4 + 12;
  s.signed_error = 0.5 - 1 - 0.5;
  s.absolute = 7.5;
  s.underflow = 1;
  s.saturated = 2;
  s.max_abs_error = 1;
  s.max_rel_error = 1;
  s.scale_count = 3;
  s.scale_log2_sum = -1;
  s.scale_log2_min = -3;
  s.scale_log2_max = 1;
  s.double_error2 = 4.25;
  s.double_total2 = 3.5;
  s.single_total2 = 1.5;
  s.double_changed = 3;
  return s;
}

float value(const std::string& name, const MeasureSums& sums) {
  const NamedMeasure* measure = find_measure(name);
  EXPECT_NE(measure, nullptr) << name;
  return form_measure(measure->id, Measured{sums, {}, {}});
}

TEST(Measures, WorkedByHand) {
  const MeasureSums s = by_hand();
  EXPECT_EQ(value("rel_mse", s), static_cast<float>(1.5 / 21.25));
  EXPECT_FLOAT_EQ(value("sqnr_db", s), 11.512675f);  // -10 log10(0.0705882)
  EXPECT_FLOAT_EQ(value("cosine", s), 0.97212847f);  // 17.5 / sqrt(15.25 * 21.25)
  EXPECT_EQ(value("bias", s), static_cast<float>(-1.0 / 7.5));
  EXPECT_EQ(value("underflow_rate", s), 0.25f);
  EXPECT_EQ(value("saturation_rate", s), 0.4f);
  EXPECT_EQ(value("max_abs_error", s), 1.0f);
  EXPECT_EQ(value("max_rel_error", s), 1.0f);
  EXPECT_EQ(value("scale_log2_mean", s), static_cast<float>(-1.0 / 3));
  EXPECT_EQ(value("scale_log2_min", s), -3.0f);
  EXPECT_EQ(value("scale_log2_max", s), 1.0f);
  EXPECT_EQ(value("double_quant_error", s), 0.2f);
  EXPECT_EQ(value("double_quant_excess", s), static_cast<float>(2 / 21.25));
  EXPECT_EQ(value("double_quant_changed", s), 0.6f);
}

TEST(Measures, ZeroAndEmptyTensors) {
  MeasureSums zero;
  for (const double count : {0.0, 8.0}) {
    zero.count = count;
    EXPECT_EQ(value("rel_mse", zero), 0.0f);
    EXPECT_EQ(value("bias", zero), 0.0f);
    EXPECT_EQ(value("max_abs_error", zero), 0.0f);
    EXPECT_EQ(value("double_quant_error", zero), 0.0f);
    for (const char* name : {"sqnr_db", "cosine", "underflow_rate", "scale_log2_mean", "scale_log2_min"}) {
      EXPECT_TRUE(std::isnan(value(name, zero))) << name;
    }
    EXPECT_EQ(std::isnan(value("saturation_rate", zero)), count == 0);
  }
}

TEST(Measures, NoErrorIsInfinitelyGood) {
  MeasureSums exact = by_hand();
  exact.error2 = 0;
  EXPECT_EQ(value("sqnr_db", exact), std::numeric_limits<float>::infinity());
}

TEST(Measures, TableIsComplete) {
  EXPECT_EQ(measure_table().size(), kMeasureCount);
  for (const NamedMeasure& measure : measure_table()) {
    EXPECT_EQ(find_measure(measure.name), &measure);
    EXPECT_EQ(&named(measure.id), &measure);
    EXPECT_GT(std::string(measure.definition).size(), 5u) << measure.name;
  }
  EXPECT_EQ(find_measure("rel_mes"), nullptr);
}

}  // namespace
}  // namespace ng
