// SPDX-License-Identifier: Apache-2.0
//
// Claim: the end of a run is a function of its identity. Threads, kernels for older processors, recording, evaluation
// cadence, interruption and resumption change no byte of weights, optimizer state, losses and records.
// Alone: ctest -R training_runs
#include <gtest/gtest.h>
#include <unistd.h>

#include "narrowgauge/base/error.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::differing;
using ng_test::End;
using ng_test::end_of;
using ng_test::expect_equal;
using ng_test::Folder;
using ng_test::run;
using ng_test::same_bytes;
using ng_test::Settings;
using ng_test::small_request;

class EveryRecipe : public testing::TestWithParam<const char*> {};

TEST_P(EveryRecipe, ThreadsChangeNothing) {
  const Folder folder(std::string("threads-") + GetParam());
  const ng::RunRequest request = small_request(GetParam());
  const End one = run(folder, "one", request, 1);
  expect_equal(one, run(folder, "two", request, 2));
  expect_equal(one, run(folder, "three", request, 3));
  EXPECT_LT(one.evals.back().first, one.evals.front().first) << "the run learnt nothing: the comparison would be empty";
}

TEST_P(EveryRecipe, RecordingChangesNothing) {
  const Folder folder(std::string("recording-") + GetParam());
  ng::RunRequest request = small_request(GetParam());
  const End recorded = run(folder, "recorded", request);
  request.record_path = "none";
  const End unrecorded = run(folder, "unrecorded", request);
  expect_equal(recorded, unrecorded);
  EXPECT_TRUE(unrecorded.records.empty());
  const bool quantizes = std::string(GetParam()) != "bf16" && std::string(GetParam()) != "f32";
  EXPECT_EQ(recorded.records.empty(), !quantizes);
}

TEST_P(EveryRecipe, ResumedEqualsUninterrupted) {
  const Folder folder(std::string("resume-") + GetParam());
  const ng::RunRequest request = small_request(GetParam());
  const End whole = run(folder, "whole", request);
  for (int stop = 0; stop < 6; ++stop) {  // before each step: on and between checkpoints
    const std::string file = folder.file("cut" + std::to_string(stop) + ".h5");
    ng::RunOptions options;
    int asked = 0;
    options.interrupted = [&] { return asked++ == stop; };
    EXPECT_THROW(ng::train_run(ng::plan_run(request), file, options), ng::InterruptedError);
    EXPECT_EQ(ng::RunReader(file).status(), ng::RunStatus::interrupted);
    ng::resume_run(file, ng::RunOptions{});
    const End resumed = end_of(file);
    expect_equal(whole, resumed);
    EXPECT_EQ(whole.recorder, resumed.recorder);
    EXPECT_TRUE(same_bytes(whole.records, resumed.records));
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, EveryRecipe,
                         testing::Values("f32", "bf16", "fp8_blockwise", "mxfp8", "mxfp4", "nvfp4", "mxfp4_toward_zero",
                                         "mxfp4_sr_all", "fp8_tensor_delayed", "fp4_dge_occ"),
                         [](const auto& parameter) { return std::string(parameter.param); });

// Tensor-core arithmetic: another end than `ieee`, the same for any number of threads, and it learns. FP32 operands
// have no tensor core.
TEST_P(EveryRecipe, TrainsUnderHopper) {
  const Folder folder(std::string("hopper-") + GetParam());
  ng::RunRequest request = small_request(GetParam(), {{"train.steps", "3"}});
  const End ieee = run(folder, "ieee", request);
  request.arithmetic = "hopper";
  if (std::string(GetParam()) == "f32") {
    EXPECT_THROW((void)ng::plan_run(request), ng::UserError);
    return;
  }
  const End one = run(folder, "one", request, 1);
  expect_equal(one, run(folder, "three", request, 3));
  EXPECT_FALSE(differing(one, ieee).empty());
  EXPECT_LT(one.evals.back().first, one.evals.front().first);
}

// The baseline kernels round every fma through the C library: a run of two steps is enough, and slow enough.
TEST(Runs, BaselineKernelsChangeNothing) {
  const Folder folder("isa");
  for (const char* recipe : {"bf16", "nvfp4"}) {
    const ng::RunRequest request =
        small_request(recipe, {{"train.steps", "2"}, {"train.eval_every", "0"}, {"train.batch", "2"}});
    expect_equal(run(folder, std::string("best-") + recipe, request),
                 run(folder, std::string("baseline-") + recipe, request, 1, true));
  }
}

TEST(Runs, EvaluationAndCheckpointCadenceChangeNothing) {
  const Folder folder("cadence");
  const End often =
      run(folder, "often", small_request("mxfp4_sr_all", {{"train.eval_every", "1"}, {"train.checkpoint_every", "1"}}));
  const End never =
      run(folder, "never", small_request("mxfp4_sr_all", {{"train.eval_every", "0"}, {"train.checkpoint_every", "0"}}));
  EXPECT_EQ(differing(often, never), std::vector<std::string>{});
  EXPECT_EQ(often.losses, never.losses);
}

// A second run with another seed must differ, or the comparisons above could not fail.
TEST(Runs, SeedAndRecipeChangeTheEnd) {
  const Folder folder("seed");
  ng::RunRequest request = small_request("mxfp4");
  const End zero = run(folder, "zero", request);
  request.seed = 1;
  EXPECT_FALSE(differing(zero, run(folder, "one", request)).empty());
  EXPECT_FALSE(differing(zero, run(folder, "other", small_request("mxfp4_toward_zero"))).empty());
}

// One step cut into micro-batches. Under `ieee` every chain goes on where the last micro-batch ended, so the bytes are
// equal wherever no statistic of the whole step enters a rounding: BF16 and FP32 with the load-balancing loss off (its
// f_e and P_e are means over the tokens at hand). Tiles of experts restart in every micro-batch, and NVFP4 has an amax
// of the whole tensor: there the bytes may differ, and for NVFP4 they do.
TEST(Runs, MicroBatchesChangeNothingWhereNoStatisticOfTheStepEnters) {
  const Folder folder("micro");
  const Settings off = {{"model.aux_coefficient", "0.0"}, {"model.z_coefficient", "0.0"}};
  const auto with = [&](int pieces) {
    Settings settings = off;
    settings.emplace_back("train.micro_batches", std::to_string(pieces));
    return settings;
  };
  for (const char* recipe : {"f32", "bf16"}) {
    const End whole = run(folder, std::string(recipe) + "1", small_request(recipe, with(1)));
    for (const int pieces : {2, 4})
      expect_equal(whole, run(folder, recipe + std::to_string(pieces), small_request(recipe, with(pieces))));
  }
  const End nvfp4 = run(folder, "nvfp4-1", small_request("nvfp4", with(1)));
  EXPECT_FALSE(differing(nvfp4, run(folder, "nvfp4-2", small_request("nvfp4", with(2)))).empty());
}

// Without experts, block formats are equal too: tiles of 32 tokens never straddle micro-batches of 64.
TEST(Runs, MicroBatchesOfADenseModelChangeNothingForBlockFormats) {
  const Folder folder("micro-dense");
  for (const char* recipe : {"mxfp4", "mxfp8", "mxfp4_toward_zero", "mxfp4_sr_all"}) {
    const auto with = [&](int pieces) {
      return Settings{{"model.dense_layers", "2"}, {"train.micro_batches", std::to_string(pieces)}};
    };
    const End whole = run(folder, std::string(recipe) + "1", small_request(recipe, with(1)));
    for (const int pieces : {2, 4})
      expect_equal(whole, run(folder, recipe + std::to_string(pieces), small_request(recipe, with(pieces))));
  }
}

// A fork under the same recipe repeats the run from there on, byte for byte; under another it goes elsewhere, with an
// identity of its own that a resumption keeps.
TEST(Runs, AForkBeginsWithTheOtherRunsState) {
  const Folder folder("fork");
  const ng::RunRequest request = small_request("fp8_tensor_delayed");
  const End whole = run(folder, "whole", request);
  const std::string file = folder.file("whole.h5");
  const ng::RunRequest same = ng::fork_request(file, 4);
  const End again = run(folder, "again", same);
  EXPECT_EQ(differing(whole, again), std::vector<std::string>{});
  EXPECT_EQ(again.losses, std::vector<double>(whole.losses.end() - 4, whole.losses.end()));  // two values a step
  EXPECT_NE(ng::plan_run(same).run_id, ng::plan_run(request).run_id);

  ng::RunRequest other = ng::fork_request(file, 4);
  other.recipe_text = small_request("mxfp4").recipe_text;
  const End forked = run(folder, "forked", other);
  EXPECT_NE(whole.tensors, forked.tensors);
  EXPECT_EQ(forked.losses.size(), 4u);
  ng::RunOptions options;
  int asked = 0;
  options.interrupted = [&] { return asked++ == 1; };
  EXPECT_THROW(ng::train_run(ng::plan_run(other), folder.file("cut.h5"), options), ng::InterruptedError);
  ng::resume_run(folder.file("cut.h5"), ng::RunOptions{});
  expect_equal(forked, end_of(folder.file("cut.h5")));
  EXPECT_THROW((void)ng::fork_request(file, 3), ng::UserError);
}

TEST(Runs, ADivergedRunSaysSoAndKeepsItsRows) {
  const Folder folder("diverged");
  const std::string file = folder.file("run.h5");
  const ng::RunRequest request = small_request("bf16", {{"train.divergence_loss", "1.0"}});
  EXPECT_THROW(ng::train_run(ng::plan_run(request), file, ng::RunOptions{}), ng::DivergedError);
  const ng::RunReader reader(file);
  EXPECT_EQ(reader.status(), ng::RunStatus::diverged);
  EXPECT_EQ(reader.train().size(), 1u);
  EXPECT_THROW(ng::resume_run(file, ng::RunOptions{}), ng::UserError);
}

TEST(Runs, ChangedSettingsGiveAnotherIdentity) {
  const std::string id = ng::plan_run(small_request("mxfp4")).run_id;
  EXPECT_EQ(ng::plan_run(small_request("mxfp4", {{"train.eval_every", "1"}})).run_id, id)
      << "looking is not part of a run";
  EXPECT_NE(ng::plan_run(small_request("mxfp8")).run_id, id);
  EXPECT_NE(ng::plan_run(small_request("mxfp4", {{"train.learning_rate", "1e-4"}})).run_id, id);
  EXPECT_NE(ng::plan_run(small_request("mxfp4", {{"model.top_k", "1"}})).run_id, id);
}

TEST(Runs, MisspeltAndMisfittingSettingsAreUserErrors) {
  const auto message = [](const Settings& settings) -> std::string {
    try {
      static_cast<void>(ng::plan_run(small_request("mxfp4", settings)));
    } catch (const ng::UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message({{"train.learning_rat", "1e-3"}}).find("learning_rate"), std::string::npos);
  EXPECT_NE(message({{"train.sequence_length", "128"}}).find("context"), std::string::npos);
  EXPECT_NE(message({{"model.vocabulary", "100"}}).find("vocabulary"), std::string::npos);
  EXPECT_NE(message({{"train.micro_batches", "3"}}).find("micro_batches"), std::string::npos);
  EXPECT_NE(message({{"modle.layers", "2"}}).find("model."), std::string::npos);
}

}  // namespace
