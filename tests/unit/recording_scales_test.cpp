// SPDX-License-Identifier: Apache-2.0
//
// Claim: comparisons of scales between records are the oracle's, and a history that went through a checkpoint goes on
// as if it had not. Tolerance 1e-12: double logarithms and one rounding of a sum, against long double.
// Alone: unit_recording_scales
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/scale_history.hpp"
#include "oracle/record_measures.hpp"

namespace ng {
namespace {

// Mostly powers of two near one, as block scales are; some zero, NaN, infinite or any number; some places missing.
std::vector<PlacedScale> record(std::mt19937& engine, bool placed) {
  std::vector<PlacedScale> scales;
  for (std::int64_t row = 0; row < 9; ++row) {
    for (std::int64_t tile = 0; tile < 5; ++tile) {
      if (engine() % 13 == 0) continue;
      float scale = std::ldexp(1.0f, static_cast<int>(engine() % 7) - 3);
      const auto kind = engine() % 20;
      if (kind == 0) scale = 0;
      if (kind == 1) scale = NAN;
      if (kind == 2) scale = INFINITY;
      if (kind == 3) scale *= 1.37f;
      scales.push_back({placed ? row * 160 + tile * 32 : -1, scale});
    }
  }
  std::shuffle(scales.begin(), scales.end(), engine);
  return scales;
}

ng_oracle::PlacedScales placed(const std::vector<PlacedScale>& scales) {
  ng_oracle::PlacedScales map;
  for (const PlacedScale& scale : scales) map[static_cast<long>(scale.place)] = scale.scale;
  return map;
}
std::vector<float> values(const std::vector<PlacedScale>& scales) {
  std::vector<float> list;
  for (const PlacedScale& scale : scales) list.push_back(scale.scale);
  return list;
}

TEST(ScaleHistory, IsTheOracles) {
  std::mt19937 engine(3);
  for (int trial = 0; trial < 50; ++trial) {
    ScaleHistory history(true, true);
    std::vector<std::vector<PlacedScale>> records;
    for (int r = 0; r < 4; ++r) {
      records.push_back(record(engine, true));
      const ScaleChange change = history.advance(records.back());
      if (r == 0) {
        for (const double nothing :
             {change.drift, change.flip_rate, change.drift_from_start, change.shift, change.distance})
          EXPECT_TRUE(std::isnan(nothing));
        continue;
      }
      const auto& before = records[records.size() - 2];
      const auto drift = ng_oracle::scale_drift(placed(records.back()), placed(before));
      const auto from_start = ng_oracle::scale_drift(placed(records.back()), placed(records.front()));
      EXPECT_NEAR(change.drift, drift.mean, 1e-12);
      EXPECT_EQ(change.flip_rate, drift.flip_rate);
      EXPECT_NEAR(change.drift_from_start, from_start.mean, 1e-12);
      EXPECT_NEAR(change.distance, ng_oracle::scale_distance(values(records.back()), values(before)), 1e-12);
      EXPECT_NEAR(change.shift, ng_oracle::mean_log2(values(records.back())) - ng_oracle::mean_log2(values(before)),
                  1e-12);
      EXPECT_GT(change.drift, 0);
      EXPECT_GT(change.distance, 0);
    }
  }
}

TEST(ScaleHistory, ByHand) {
  ScaleHistory history(true, true);
  (void)history.advance({{0, 1.0f}, {32, 2.0f}, {64, 4.0f}, {96, 0.0f}});
  const ScaleChange change = history.advance({{32, 1.0f}, {64, 4.0f}, {96, 1.0f}, {128, 8.0f}});
  EXPECT_EQ(change.drift, 0.5);                 // |0 - 1|, |2 - 2|
  EXPECT_EQ(change.flip_rate, 2.0 / 3);         // of three common places
  EXPECT_EQ(change.shift, 1.25 - 1.0);          // means of 0, 2, 0, 3 and of 0, 1, 2
  EXPECT_DOUBLE_EQ(change.distance, 7.0 / 12);  // twelve quantiles: 1 twice, 1 twice, 1 three times
}

TEST(ScaleHistory, ScalesWithoutAPlaceAreNotComparedPlaceByPlace) {
  std::mt19937 engine(4);
  ScaleHistory history(true, true);
  (void)history.advance(record(engine, false));
  const ScaleChange change = history.advance(record(engine, false));
  EXPECT_TRUE(std::isnan(change.drift) && std::isnan(change.flip_rate));
  EXPECT_GT(change.distance, 0);
}

TEST(ScaleHistory, GoesOnAfterACheckpoint) {
  std::mt19937 engine(5);
  for (const bool places : {false, true}) {
    for (const bool distribution : {false, true}) {
      ScaleHistory whole(places, distribution), cut(places, distribution);
      for (int r = 0; r < 6; ++r) {
        std::map<std::string, Array> saved;
        cut.save("recorder/a/site", saved);
        ScaleHistory resumed(places, distribution);
        resumed.load("recorder/a/site", saved);
        const auto scales = record(engine, true);
        const ScaleChange a = whole.advance(scales), b = resumed.advance(scales);
        EXPECT_EQ(std::memcmp(&a, &b, sizeof a), 0) << r;
        EXPECT_EQ(saved.empty(), r == 0 || !(places || distribution));
        cut = resumed;
      }
    }
  }
}

TEST(ScaleHistory, WhatDoesNotFitIsRefused) {
  std::mt19937 engine(6);
  ScaleHistory history(true, false);
  (void)history.advance(record(engine, true));
  std::map<std::string, Array> saved;
  history.save("p", saved);
  std::map<std::string, Array> shorter = saved;
  shorter["p/previous_scales"] = shorter["p/first_places"];
  EXPECT_THROW(history.load("p", shorter), UserError);
  saved.erase("p/previous_places");
  EXPECT_THROW(history.load("p", saved), UserError);
}

}  // namespace
}  // namespace ng
