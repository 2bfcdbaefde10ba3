// SPDX-License-Identifier: Apache-2.0
//
// Claim: a recording plan says exactly which sites are measured in which steps, and a mistake in one is answered with
// place and nearest valid name. Alone: unit_recording --gtest_filter=RecordingPlan.*
#include "narrowgauge/recording/recording_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "recording_support.hpp"

namespace ng {
namespace {

using recording_test::message_of_error;

std::vector<Site> sites() {
  std::vector<Site> list;
  for (const char* layer : {"layer.0", "layer.1", "layer.10"}) {
    for (const char* linear : {"fc1", "fc2", "shared_fc1"}) {
      for (const char* edge : {"activation/fprop", "weight/dgrad", "activation/wgrad"}) {
        list.push_back({std::string(layer) + "/" + linear + "/" + edge, static_cast<std::uint32_t>(list.size()), 0});
      }
    }
  }
  return list;
}

SiteCatalogue catalogue() {
  static const std::vector<Site> all = sites();
  static const std::vector<Site> products = {{"layer.0/fc1/fprop", 0, 0}, {"layer.0/fc1/wgrad", 1, 0}};
  return {all, all, products};
}

RecordingPlan plan(const std::string& text) {
  return RecordingPlan::from_toml(TomlDocument::from_text("plan.toml", text));
}

TEST(RecordingPlan, Patterns) {
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("layer.*/fc1/activation/*", "layer.3/fc1/activation/fprop"));
  EXPECT_TRUE(matches_pattern("layer.?/fc1", "layer.3/fc1"));
  EXPECT_FALSE(matches_pattern("layer.?/fc1", "layer.13/fc1"));
  EXPECT_FALSE(matches_pattern("*/fc1/*", "layer.3/shared_fc1/weight"));
  EXPECT_TRUE(matches_pattern("*/wgrad", "a/wgrad/wgrad"));
  EXPECT_TRUE(matches_pattern("a*b*c", "a-bb-b-c"));
  EXPECT_FALSE(matches_pattern("a*b*c", "a-bb-b-"));
  EXPECT_FALSE(matches_pattern("", "a"));
}

TEST(RecordingPlan, EntriesSitesAndCadence) {
  const RecordingPlan p = plan(
      "[[entry]]\nname = \"experts\"\nsite = [\"layer.1/fc*\", \"*/shared_fc1/weight/*\"]\n"
      "measure = [\"rel_mse\", \"bias\"]\nevery = 4\n"
      "[[entry]]\nname = \"once\"\nsite = \"*\"\nmeasure = \"double_quant_error\"\nsteps = [9, 0]\n");
  const auto bound = p.bind(catalogue());
  ASSERT_EQ(bound.size(), 2u);
  ASSERT_EQ(bound[0].sites.size(), 9u);  // 6 of layer 1's fc1 and fc2, 3 of the shared experts' weights
  EXPECT_EQ(bound[0].sites[0].name, "layer.0/shared_fc1/weight/dgrad");
  EXPECT_EQ(bound[0].sites[0].index, 7u);
  EXPECT_EQ(bound[1].sites.size(), 27u);
  const RecordingEntry& every = p.entries()[0];
  std::vector<std::int64_t> due;
  for (std::int64_t step = 0; step < 11; ++step) {
    if (every.due(step, 11)) due.push_back(step);
  }
  EXPECT_EQ(due, (std::vector<std::int64_t>{0, 4, 8, 10}));
  EXPECT_TRUE(p.entries()[1].due(0, 11));
  EXPECT_TRUE(p.entries()[1].due(9, 11));
  EXPECT_FALSE(p.entries()[1].due(10, 11));
  EXPECT_EQ(
      p.json().canonical(),
      R"({"entry":[{"every":4,"measure":["rel_mse","bias"],"name":"experts","site":["layer.1/fc*","*/shared_fc1/weight/*"]},)"
      R"({"measure":["double_quant_error"],"name":"once","site":["*"],"steps":[0,9]}]})");
}

TEST(RecordingPlan, OnlyRecordableSites) {
  const auto all = sites();
  const std::vector<Site> some = {all[3], all[4]};
  const RecordingPlan p = plan(
      "[[entry]]\nname = \"a\"\nsite = \"*/fc2/*\"\nmeasure = \"bias\"\nevery = 1\n"
      "[[entry]]\nname = \"b\"\nsite = \"*/wgrad\"\nmeasure = \"bias\"\nevery = 1\n");
  const auto bound = p.bind({some, all, {}});
  ASSERT_EQ(bound.size(), 1u);
  EXPECT_EQ(bound[0].entry.name, "a");
  EXPECT_EQ(bound[0].sites.size(), 2u);
  EXPECT_TRUE(p.bind({{}, all, {}}).empty());
}

TEST(RecordingPlan, BuiltInCoversTheCoreMeasures) {
  const RecordingPlan p = RecordingPlan::built_in();
  std::vector<std::string> names;
  for (const RecordingEntry& entry : p.entries()) {
    EXPECT_TRUE(entry.due(0, 100));
    EXPECT_TRUE(entry.due(99, 100));
    EXPECT_FALSE(entry.due(1, 100));
    for (const Measure measure : entry.measures) names.emplace_back(named(measure).name);
  }
  for (const char* core : {"rel_mse", "sqnr_db", "underflow_rate", "saturation_rate", "scale_log2_mean",
                           "scale_log2_min", "scale_log2_max", "double_quant_error", "cosine", "bias"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), core), 1) << core;
  }
  const auto bound = p.bind(catalogue());
  ASSERT_EQ(bound.size(), 3u);
  EXPECT_EQ(bound[0].sites.size(), 27u);
  EXPECT_EQ(bound[1].sites.size(), 18u);  // the column forms
  EXPECT_TRUE(p.bind({}).empty());
}

TEST(RecordingPlan, MistakesAreNamed) {
  const std::string head = "[[entry]]\nname = \"a\"\nsite = \"*\"\n";
  const auto error = [](const std::string& text) { return message_of_error([&] { (void)plan(text); }); };
  const auto expect = [&](const std::string& text, const std::string& part) {
    EXPECT_NE(error(text).find(part), std::string::npos) << error(text);
  };
  expect(head + "measure = \"rel_mes\"\nevery = 1\n", "did you mean 'rel_mse'");
  expect(head + "measure = \"rel_mes\"\nevery = 1\n", "plan.toml:4");
  expect(head + "mesure = \"rel_mse\"\nevery = 1\n", "measure");
  expect(head + "measure = [\"bias\", \"bias\"]\nevery = 1\n", "twice");
  expect(head + "measure = \"bias\"\nevery = 0\n", "every");
  expect(head + "measure = \"bias\"\n", "every");
  expect(head + "measure = \"bias\"\nevery = 2\nsteps = [1]\n", "beside");
  expect(head + "measure = \"bias\"\nsteps = [-1]\n", "steps");
  expect(head + "measure = \"bias\"\nsteps = [1, 1]\n", "twice");
  expect(head + "measure = \"bias\"\nevery = 1\n" + head + "measure = \"bias\"\nevery = 1\n", "earlier entry");
  expect("[[entry]]\nname = \"a/b\"\nsite = \"*\"\nmeasure = \"bias\"\nevery = 1\n", "letters");
  expect("entries = 1\n", "entry");
  expect(head + "measure = [\"gemm_error\", \"bias\"]\nevery = 1\n", "two entries");
  expect(head + "measure = [\"gemm_error\", \"gemm_error_total\"]\nevery = 1\n", "gemm_error_total' twice");
  expect(head + "measure = \"bias\"\nevery = 1\nbatch = \"probes\"\n", "valid: step, probe");
  expect(head + "measure = \"gemm_error\"\nevery = 1\nbatch = \"probe\"\n", "step only");
  expect(head + "measure = \"gemm_error\"\nevery = 1\ncode_histogram_every = 2\n", "no codes");
  expect(head + "measure = \"bias\"\nevery = 1\ncode_histogram_every = 0\n", "code_histogram_every");
  const RecordingPlan lost = plan("[[entry]]\nname = \"a\"\nsite = \"layer.2/*\"\nmeasure = \"bias\"\nevery = 1\n");
  const std::string message = message_of_error([&] { (void)lost.bind(catalogue()); });
  EXPECT_NE(message.find("plan.toml"), std::string::npos) << message;
  EXPECT_NE(message.find("layer.2/*"), std::string::npos) << message;
}

TEST(RecordingPlan, ProductsHaveEntriesOfTheirOwn) {
  const RecordingPlan p = plan("[[entry]]\nname = \"p\"\nsite = \"*\"\nmeasure = \"gemm_error\"\nevery = 1\n");
  const auto bound = p.bind(catalogue());
  ASSERT_EQ(bound.size(), 1u);
  EXPECT_EQ(bound[0].sites.size(), 2u);
  EXPECT_EQ(bound[0].entry.measures.size(), 4u);
  EXPECT_TRUE(bound[0].entry.measures_products());
}

TEST(RecordingPlan, MeasuresWithoutMeaningAtASiteAreRefused) {
  const auto message = [](const std::string& site, const std::string& rest) {
    return message_of_error(
        [&] { (void)plan("[[entry]]\nname = \"a\"\nsite = \"" + site + "\"\nevery = 1\n" + rest).bind(catalogue()); });
  };
  for (const char* measure : {"scale_drift", "scale_flip_rate", "scale_drift_from_start"}) {
    const std::string text = std::string("measure = \"") + measure + "\"\n";
    const std::string said = message("*/activation/fprop", text);
    EXPECT_NE(said.find(std::string(measure) + " compares"), std::string::npos) << said;
    EXPECT_NE(said.find("entry 'a'"), std::string::npos) << said;
    EXPECT_EQ(message("*/weight/*", text), "(no error)");
    EXPECT_EQ(message("*/activation/fprop", text + "batch = \"probe\"\n"), "(no error)");
  }
  EXPECT_EQ(message("*/activation/*", "measure = \"scale_distance\"\n"), "(no error)");
  for (const char* site : {"*/weight/*", "*/activation/wgrad"}) {
    const std::string said = message(site, "measure = \"rel_mse\"\nbatch = \"probe\"\n");
    EXPECT_NE(said.find("valid sites: */activation/fprop"), std::string::npos) << said;
  }
}

TEST(RecordingPlan, HistogramsHaveTheirOwnCadence) {
  const RecordingPlan p =
      plan("[[entry]]\nname = \"a\"\nsite = \"*\"\nmeasure = \"bias\"\nevery = 3\ncode_histogram_every = 4\n");
  std::vector<std::int64_t> due;
  for (std::int64_t step = 0; step < 10; ++step) {
    if (p.entries()[0].codes_due(step, 10)) due.push_back(step);
  }
  EXPECT_EQ(due, (std::vector<std::int64_t>{0, 4, 8, 9}));
  EXPECT_FALSE(RecordingPlan::built_in().entries()[0].codes_due(0, 10));
}

}  // namespace
}  // namespace ng
