// SPDX-License-Identifier: Apache-2.0
//
// Claim: a run whose recipe switches at a step is, byte for byte, the run without the switch before that step and a
// fork of it under the other recipe from there on; resumption across the switch changes nothing and reads no recipe
// file. Alone: ctest -R training_runs
#include <gtest/gtest.h>

#include <cmath>

#include "narrowgauge/base/error.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::differing;
using ng_test::End;
using ng_test::end_of;
using ng_test::expect_equal;
using ng_test::file_text;
using ng_test::Folder;
using ng_test::run;
using ng_test::small_request;

/// `recipe` with an entry of `switch`, as a file of `folder`, beside `other.toml`.
ng::RunRequest switching(const Folder& folder, const std::string& recipe, const std::string& other,
                         const std::string& entry) {
  ng::RunRequest request = small_request(recipe);
  std::ofstream(folder.file("other.toml")) << small_request(other).recipe_text;
  request.recipe_path = folder.file("first.toml");
  const std::size_t at = request.recipe_text.find("rule = [");
  request.recipe_text.insert(at, "switch = [ { recipe = \"other\", " + entry + " } ]\n");
  return request;
}

/// Rows of `whole` under its switch after 4 of 6 steps against those of the run before and of the fork.
void expect_joined(const End& whole, const End& before, const End& after) {
  EXPECT_EQ(differing(after, whole), std::vector<std::string>{});
  std::vector<double> losses(before.losses.begin(), before.losses.begin() + 8);  // two values a step
  losses.insert(losses.end(), after.losses.begin(), after.losses.end());
  EXPECT_EQ(whole.losses, losses);
  ASSERT_EQ(whole.evals.size(), 3u);  // after 0, 3 and 6 steps
  EXPECT_EQ(whole.evals[0], before.evals[0]);
  EXPECT_EQ(whole.evals[1], before.evals[1]);
  EXPECT_EQ(whole.evals[2], after.evals.back());
  EXPECT_NE(whole.losses, before.losses);
}

class EverySwitch : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(EverySwitch, IsAForkAtTheStep) {
  const auto [first, other] = GetParam();
  const Folder folder(std::string("switch-") + first + other);
  const End before = run(folder, "before", small_request(first));
  ng::RunRequest fork = ng::fork_request(folder.file("before.h5"), 4);
  fork.recipe_text = small_request(other).recipe_text;
  const End after = run(folder, "after", fork);
  expect_joined(run(folder, "step", switching(folder, first, other, "at = 4")), before, after);
  expect_joined(run(folder, "fraction", switching(folder, first, other, "at = 0.7")), before, after);
}

INSTANTIATE_TEST_SUITE_P(Recipes, EverySwitch,
                         testing::Values(std::pair("nvfp4", "bf16"), std::pair("bf16", "mxfp4"),
                                         std::pair("fp8_tensor_delayed", "mxfp8"), std::pair("mxfp8", "nvfp4"),
                                         std::pair("mxfp4", "fp8_tensor_delayed"), std::pair("fp4_dge_occ", "bf16")),
                         [](const auto& parameter) {
                           return std::string(parameter.param.first) + "_to_" + parameter.param.second;
                         });

TEST(Switch, OfTheForwardProductsLeavesTheOthers) {
  const Folder folder("switch-fprop");
  const End before = run(folder, "before", small_request("nvfp4"));
  ng::RunRequest fork = ng::fork_request(folder.file("before.h5"), 4);
  fork.recipe_text.insert(fork.recipe_text.find("rule = [") + 8, "\n  { gemm = \"fprop\", use = \"bf16\" },");
  const End after = run(folder, "after", fork);
  expect_joined(run(folder, "whole", switching(folder, "nvfp4", "bf16", "at = 4, gemms = [\"fprop\"]")), before, after);
}

TEST(Switch, ResumesAcrossItWithoutTheFile) {
  const Folder folder("switch-resume");
  const ng::RunRequest request = switching(folder, "mxfp8", "nvfp4", "at = 3");
  const End whole = run(folder, "whole", request);
  const std::string id = ng::plan_run(request).run_id;
  for (int stop = 1; stop < 6; ++stop) {
    std::ofstream(folder.file("other.toml")) << small_request("nvfp4").recipe_text;
    const std::string file = folder.file("cut" + std::to_string(stop) + ".h5");
    ng::RunOptions options;
    int asked = 0;
    options.interrupted = [&] { return asked++ == stop; };
    EXPECT_THROW(ng::train_run(ng::plan_run(request), file, options), ng::InterruptedError);
    std::filesystem::remove(folder.file("other.toml"));
    ng::resume_run(file, ng::RunOptions{});
    const End resumed = end_of(file);
    expect_equal(whole, resumed);
    EXPECT_EQ(whole.recorder, resumed.recorder);
  }
  EXPECT_THROW((void)ng::plan_run(request), ng::UserError) << "a new run needs the file";
  std::ofstream(folder.file("other.toml")) << small_request("mxfp4").recipe_text;
  EXPECT_NE(ng::plan_run(request).run_id, id) << "the other recipe is part of the identity";
}

TEST(Switch, RecordsSitesWhileTheyAreQuantized) {
  const Folder folder("switch-records");
  ng::RunRequest request = switching(folder, "bf16", "mxfp4", "at = 3");
  request.record_path = "every step";
  request.record_text =
      "[[entry]]\nname = \"all\"\nsite = \"layer.*/activation/fprop\"\nmeasure = [\"sqnr_db\"]\nevery = 1\n";
  const End recorded = run(folder, "recorded", request);
  request.record_path = "none";
  request.record_text.clear();
  expect_equal(recorded, run(folder, "unrecorded", request));
  ASSERT_EQ(recorded.records.size(), 1u);
  const std::vector<float>& values = recorded.records[0];
  ASSERT_EQ(values.size() % 6, 0u);
  std::size_t measured = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(i >= values.size() / 2 || std::isnan(values[i])) << i;
    measured += std::isnan(values[i]) ? 0 : 1;
  }
  EXPECT_GT(measured, values.size() / 4);
  const ng::RunReader reader(folder.file("recorded.h5"));
  EXPECT_EQ(reader.files().size(), 4u);  // model, recipe, the other recipe, recording plan
}

}  // namespace
