// SPDX-License-Identifier: Apache-2.0
//
// Claim: `train` does what it says, and every way to fail ends with one message, the documented exit code and a disk
// that holds nothing half-made: mistyped keys, missing data, misfitting shapes, broken files, no permission, a full
// disk, NaN, a diverging run, Ctrl-C, SIGTERM, kill -9. Alone: build/bin/cli_train
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "cli/process.hpp"
#include "cli/small_model.hpp"
#include "narrowgauge/recording/run_file.hpp"

namespace ng::test {
namespace {

// A model of its own, the shipped corpus, a few steps.
class Train : public testing::Test {
 protected:
  Train() : model_(folder_.write("m.toml", kModel)), run_(folder_.file("run.h5")) {}

  std::vector<std::string> words(const std::string& recipe, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"train",
                                    "--model",
                                    model_,
                                    "--recipe",
                                    recipe,
                                    "--data",
                                    "austen",
                                    "--out",
                                    run_,
                                    "--steps",
                                    "4",
                                    "--set",
                                    "train.batch=2",
                                    "--set",
                                    "train.sequence_length=32",
                                    "--set",
                                    "train.eval_windows=2"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  // One message, this code, these pieces.
  static void expect_failure(const Outcome& outcome, int code, const std::vector<std::string>& pieces) {
    SCOPED_TRACE(outcome.err);
    EXPECT_EQ(outcome.code, code);
    EXPECT_EQ(outcome.out, "");
    const std::size_t at = outcome.err.find("narrowgauge: ");
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(outcome.err.find("narrowgauge: ", at + 1), std::string::npos);
    for (const std::string& piece : pieces)
      EXPECT_NE(outcome.err.find(piece, at), std::string::npos) << "lacks '" << piece << "'";
  }

  TemporaryFolder folder_;
  std::string model_;
  std::string run_;
};

TEST_F(Train, ARunEndsWithOneLine) {
  const Outcome outcome = narrowgauge(words("mxfp4"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with(run_ + ": 4 steps, last training loss ")) << outcome.out;
  EXPECT_NE(outcome.err.find("4/4"), std::string::npos) << outcome.err;
  const RunReader run(run_);
  EXPECT_EQ(run.status(), RunStatus::done);
  EXPECT_EQ(run.train().size(), 4u);
  EXPECT_FALSE(std::filesystem::exists(run_ + ".part"));
  expect_failure(narrowgauge(words("mxfp4")), 2, {run_, "--resume"});  // it is there already
  EXPECT_EQ(RunReader(run_).train().size(), 4u);
  EXPECT_EQ(narrowgauge({"train", "--resume", run_}).code, 0);  // finished: says its result again
}

TEST_F(Train, QuietIsQuiet) {
  const Outcome outcome = narrowgauge(words("bf16", {"--quiet"}));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Train, MistakesAreFoundBeforeAnythingIsWritten) {
  const std::string bad_recipe = folder_.write("r.toml", "name = \"r\"\nrule = [ { uze = \"bf16\" } ]\n");
  const std::string bad_model = folder_.write("bad.toml", kModel + "headz = 2\n");
  const std::string not_toml = folder_.write("not.toml", "\x89PNG\r\n\x1a\n\xff\xfe");
  std::filesystem::create_directory(folder_.file("folder.toml"));
  const std::string plan = folder_.write("plan.toml", "[[entry]]\nnmae = \"x\"\n");
  const std::string empty = folder_.write("empty.txt", "");
  const std::string short_text = folder_.write("short.txt", "too short for a window");
  const std::string npy = folder_.write("cut.npy", "\x93NUMPY\x01");
  const std::vector<std::string> before = folder_.names();
  struct Mistake {
    std::string option;  // replaced by, or added as
    std::string value;
    std::vector<std::string> pieces;
  };
  const Mistake mistakes[] = {
      {"--recipe", "mxpf4", {"did you mean 'mxfp4'"}},
      {"--recipe", bad_recipe, {"r.toml:2:", "did you mean 'use'"}},
      {"--recipe", folder_.file("absent.toml"), {"absent.toml"}},
      {"--recipe", folder_.file("folder.toml"), {"folder.toml"}},
      {"--recipe", not_toml, {"not.toml:"}},
      {"--model", folder_.file("folder.toml"), {"folder.toml", "Is a directory"}},
      {"--record", folder_.file("folder.toml"), {"folder.toml", "Is a directory"}},
      {"--model", "tyni", {"did you mean 'tiny'"}},
      {"--model", bad_model, {"bad.toml:22:", "headz"}},
      {"--data", "asuten", {"did you mean 'austen'"}},
      {"--data", folder_.file("absent.txt"), {"absent.txt"}},
      {"--data", empty, {"empty.txt"}},
      {"--data", short_text, {"sequence"}},
      {"--data", npy, {"cut.npy"}},
      {"--record", plan, {"plan.toml:"}},
      {"--record", folder_.file("absent.toml"), {"absent.toml"}},
      {"--backend", "gpu", {"--backend 'gpu' is unknown", "valid: cpu, cuda"}},
      {"--arithmetic", "hoper", {"hoper", "ieee, hopper"}},
      {"--steps", "0", {"--steps 0"}},
      {"--steps", "many", {"--steps many"}},
      {"--threads", "0", {"--threads 0"}},
      {"--set", "train.stepz=3", {"stepz", "did you mean 'steps'"}},
      {"--set", "train.batch", {"train.batch"}},
      {"--set", "train.batch=two", {"train.batch=two"}},
      {"--set", "tarin.batch=2", {"tarin.batch"}},
      {"--set", "model.head_dim=15", {"head_dim", "15 is odd"}},
      {"--set", "model.kv_heads=3", {"kv_heads"}},
      {"--set", "model.top_k=5", {"top_k", "5 is more than experts = 4"}},
      {"--set", "model.vocabulary=100", {"vocabulary of 256"}},
      {"--set", "model.context=16", {"sequence_length 32 is longer than the model's context of 16"}},
      {"--set", "train.micro_batches=3", {"micro_batches"}},
      {"--set", "recipe.quantizer.block.rounding=sideways", {"sideways", "toward_zero"}},
      {"--set", "recipe.gemm.wgrad.hadamard={ size = 64, signs = \"none\" }", {"hadamard"}},
      {"--out", folder_.file("no/such/folder/run.h5"), {"no/such/folder/run.h5"}},
      {"--out", folder_.path().string(), {folder_.path().string()}},
  };
  for (const Mistake& m : mistakes) {
    SCOPED_TRACE(m.option + " " + m.value);
    std::vector<std::string> all = words("mxfp4");
    const auto at = std::find(all.begin(), all.end(), m.option);
    if (at == all.end() || m.option == "--set") {
      all.insert(all.end(), {m.option, m.value});
    } else {
      *(at + 1) = m.value;
    }
    expect_failure(narrowgauge(all), 2, m.pieces);
    EXPECT_EQ(folder_.names(), before);
  }
}

TEST_F(Train, MissingOptionsAreNamed) {
  expect_failure(narrowgauge({"train"}), 2, {"--model is needed"});
  expect_failure(narrowgauge({"train", "--model", "tiny", "--recipe", "bf16", "--out", run_}), 2, {"--data is needed"});
  expect_failure(narrowgauge({"train", "--resume", run_, "--model", "tiny"}), 2,
                 {"--model cannot be given with --resume"});
  expect_failure(narrowgauge({"train", "--resume", run_}), 2, {"run.h5"});
}

TEST_F(Train, ATransformMustDivideTheTokens) {
  expect_failure(narrowgauge(words("nvfp4", {"--set", "train.sequence_length=20"})), 2,
                 {"nvfp4.toml", "size 16", "40 tokens"});
  EXPECT_FALSE(std::filesystem::exists(run_));
  EXPECT_EQ(narrowgauge(words("nvfp4", {"--set", "train.sequence_length=24"})).code, 0);
}

TEST_F(Train, AModelThatCannotFitIsRefused) {
  const std::vector<std::string> before = folder_.names();
  Outcome outcome =
      narrowgauge(words("mxfp4", {"--set", "model.hidden=16777216", "--set", "model.expert_width=16777216"}));
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("parameters; valid: at most"), std::string::npos) << outcome.err;
  outcome = narrowgauge(words("mxfp4", {"--set", "model.hidden=1048576", "--set", "model.expert_width=1048576"}));
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("parameters, which need"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder_.names(), before);
}

TEST_F(Train, NoPermission) {
  std::filesystem::permissions(folder_.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec |
                                                   std::filesystem::perms::others_read |
                                                   std::filesystem::perms::others_exec);
  ProcessOptions options;
  options.as_nobody = true;
  const Outcome outcome = narrowgauge(words("bf16"), options);
  if (outcome.code == 127) GTEST_SKIP() << "the program cannot be run as another user here";
  expect_failure(outcome, 2, {"run.h5", "ermission denied"});
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"m.toml"});
}

TEST_F(Train, AFullDisk) {
  for (const long bytes : {4096L, 60000L, 400000L}) {
    SCOPED_TRACE(bytes);
    ProcessOptions options;
    options.file_size_limit = bytes;
    const Outcome outcome = narrowgauge(words("mxfp4", {"--set", "train.checkpoint_every=2"}), options);
    if (outcome.code == 0) {
      EXPECT_GT(bytes, 100000);
      continue;
    }
    expect_failure(outcome, 3, {"run"});
    EXPECT_FALSE(std::filesystem::exists(run_ + ".part"));
    if (std::filesystem::exists(run_)) {  // begun: it reads, or says why not, and never claims to be done
      const Outcome inspected = narrowgauge({"inspect", run_});
      EXPECT_TRUE(inspected.code == 0 || inspected.code == 2) << inspected.err;
      EXPECT_EQ(inspected.out.find("status    done"), std::string::npos) << inspected.out;
    }
    std::filesystem::remove_all(run_);
    std::filesystem::remove_all(folder_.file("run.checkpoints"));
  }
}

TEST_F(Train, ADivergingRunSaysSo) {
  const Outcome outcome =
      narrowgauge(words("bf16", {"--set", "train.learning_rate=1e3", "--set", "train.warmup_steps=0", "--set",
                                 "train.clip=0", "--set", "train.steps=40"}));
  expect_failure(outcome, 4, {"run.h5", "diverged in step"});
  const RunReader run(run_);
  EXPECT_EQ(run.status(), RunStatus::diverged);
  EXPECT_FALSE(run.train().empty());
  expect_failure(narrowgauge({"train", "--resume", run_}), 2, {"diverged"});
}

// Cut runs end as an uncut one does: the same losses, to the last bit.
class Cut : public Train, public testing::WithParamInterface<int> {};

TEST_P(Cut, AndResumed) {
  const std::vector<std::string> more = {"--set", "train.steps=60",     "--set", "train.checkpoint_every=7",
                                         "--set", "train.eval_every=30"};
  const std::string cut = run_;
  Process process(words("mxfp4", more));
  ASSERT_TRUE(process.wait_for_stderr("1/60"));
  process.send(GetParam());
  const Outcome outcome = process.finish();
  const bool killed = GetParam() == SIGKILL;
  if (outcome.code == 0) GTEST_SKIP() << "the run was done before the signal arrived";
  EXPECT_EQ(outcome.code, killed ? 128 + SIGKILL : 130) << outcome.err;
  if (!killed) {
    expect_failure(outcome, 130, {"interrupted after ", " of 60 steps", "narrowgauge train --resume " + cut});
    EXPECT_EQ(RunReader(cut).status(), RunStatus::interrupted);
  }
  EXPECT_FALSE(std::filesystem::exists(cut + ".part"));
  const Outcome resumed = narrowgauge({"train", "--resume", cut});
  ASSERT_EQ(resumed.code, 0) << resumed.err;

  run_ = folder_.file("whole.h5");
  ASSERT_EQ(narrowgauge(words("mxfp4", more)).code, 0);
  const RunReader a(cut);
  const RunReader b(run_);
  EXPECT_EQ(a.status(), RunStatus::done);
  const std::vector<TrainRow> left = a.train();
  const std::vector<TrainRow> right = b.train();
  ASSERT_EQ(left.size(), 60u);
  ASSERT_EQ(right.size(), 60u);
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].loss, right[i].loss) << i;
    EXPECT_EQ(left[i].grad_norm, right[i].grad_norm) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Signals, Cut, testing::Values(SIGINT, SIGTERM, SIGKILL), [](const auto& instance) {
  return std::string(instance.param == SIGINT ? "CtrlC" : instance.param == SIGTERM ? "SigTerm" : "Kill");
});

TEST_F(Train, ATruncatedRunFileIsRefused) {
  ASSERT_EQ(narrowgauge(words("bf16")).code, 0);
  const auto size = std::filesystem::file_size(run_);
  for (const auto left : {size / 2, size / 10, std::uintmax_t{600}, std::uintmax_t{0}}) {
    const std::string cut = folder_.file("cut.h5");
    std::filesystem::remove(cut);
    std::filesystem::copy_file(run_, cut);
    std::filesystem::resize_file(cut, left);
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"inspect", cut}, {"train", "--resume", cut}, {"compare", run_, cut}}) {
      SCOPED_TRACE(command[0] + " of " + std::to_string(left) + " bytes");
      expect_failure(narrowgauge(command), 2, {"cut.h5"});
    }
  }
}

TEST_F(Train, AResumedRunNeedsNoFileButItsData) {
  Process process(words("bf16", {"--set", "train.steps=200", "--set", "train.checkpoint_every=5"}));
  ASSERT_TRUE(process.wait_for_stderr("1/200"));
  process.send(SIGINT);
  if (process.finish().code != 130) GTEST_SKIP() << "the run was done before the signal arrived";
  // The model's text is in the run file: changing the file on disk changes nothing, so the run goes on.
  folder_.write("m.toml", "name = \"other\"\n");
  EXPECT_EQ(narrowgauge({"train", "--resume", run_}).code, 0);
}

}  // namespace
}  // namespace ng::test
