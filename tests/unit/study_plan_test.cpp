// SPDX-License-Identifier: Apache-2.0
//
// Claim: study.toml is read strictly, names become files, and a run's identity changes exactly with what decides its
// numbers. Alone: build/bin/unit_study --gtest_filter='StudyPlan.*'
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/study/run_plan.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;

// A small repository: the real recipes and data, a model of a few thousand parameters, one study.
class StudyPlan : public testing::Test {
 protected:
  StudyPlan() {
    std::string name = (fs::temp_directory_path() / "ng_study_XXXXXX").string();
    root_ = fs::canonical(::mkdtemp(name.data()));
    fs::create_directories(root_ / "studies/models");
    fs::create_directories(root_ / "data");
    fs::create_directory_symlink(fs::path(NG_SOURCE_DIR) / "studies/recipes", root_ / "studies/recipes");
    fs::create_directory_symlink(fs::path(NG_SOURCE_DIR) / "data/corpora", root_ / "data/corpora");
    write("studies/models/micro.toml",
          "name = \"micro\"\nvocabulary = 256\nlayers = 2\nhidden = 32\nheads = 1\nkv_heads = 1\nhead_dim = 32\n"
          "rope_theta = 10000.0\nnorm_epsilon = 1e-5\ndense_layers = 0\ndense_width = 0\nexperts = 2\ntop_k = 1\n"
          "expert_width = 32\nshared_experts = 0\nrenormalize = true\naux_coefficient = 0.01\nz_coefficient = 0.001\n"
          "tied_head = false\ninit_std = 0.02\ncontext = 32\n");
  }
  ~StudyPlan() override { fs::remove_all(root_); }

  void write(const fs::path& name, const std::string& text) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }

  static std::string study_text() {
    return "name = \"s\"\nquestion = \"q\"\nprediction = \"p\"\nmodel = \"micro\"\ndata = \"austen\"\n"
           "recipes = [\"bf16\", \"mxfp4\"]\nbaseline = \"bf16\"\nseeds = [3, 1]\nsteps = 200\ntolerance_nats = 0.01\n"
           "[train]\nbatch = 4\nsequence_length = 16\nlearning_rate = 1e-3\nwarmup_steps = 150\n";
  }

  StudyFile parse(const std::string& text) {
    write("studies/s/study.toml", text);
    return StudyFile::from_folder(root_ / "studies/s");
  }
  RunPlan plan(const std::string& text) { return make_run_plan(parse(text)); }

  std::string error_of(const std::string& text) {
    try {
      (void)plan(text);
    } catch (const UserError& error) {
      return error.what();
    }
    return "(no error)";
  }

  static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }

  fs::path root_;
};

TEST_F(StudyPlan, ReadsEverything) {
  const StudyFile study =
      parse(replaced(study_text(), "[train]",
                     "title = \"T\"\njobs = 3\nrecord = \"none\"\n[[arm]]\nname = \"zero\"\n"
                     "recipe = \"mxfp4\"\nset = { recipe.quantizer.block.rounding = \"toward_zero\", "
                     "train.clip = 2.0, train.batch = 2 }\n[train]"));
  EXPECT_EQ(study.title, "T");
  EXPECT_EQ(study.model, root_ / "studies/models/micro.toml");
  EXPECT_EQ(study.data, root_ / "data/corpora/austen.toml");
  EXPECT_EQ(study.record, "none");
  EXPECT_EQ(study.jobs, 3);
  EXPECT_EQ(study.seeds, (std::vector<std::uint32_t>{3, 1}));
  EXPECT_EQ(study.training.steps, 200);
  EXPECT_EQ(study.training.learning_rate, 1e-3);
  EXPECT_EQ(study.tokens_per_run(), 200 * 4 * 16);
  ASSERT_EQ(study.arms.size(), 3u);
  EXPECT_EQ(study.arms[1].name, "mxfp4");
  EXPECT_EQ(study.arms[2].recipe, root_ / "studies/recipes/mxfp4.toml");
  const std::vector<Setting> set = {
      {"recipe.quantizer.block.rounding", "\"toward_zero\""}, {"train.clip", "2.0"}, {"train.batch", "2"}};
  EXPECT_EQ(study.arms[2].set, set);
}

TEST_F(StudyPlan, MistakesNamePlaceAndRemedy) {
  const auto expect = [&](const std::string& from, const std::string& to, const std::vector<std::string>& parts) {
    const std::string message = error_of(replaced(study_text(), from, to));
    for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect("baseline", "basline", {"study.toml:", "basline", "baseline"});
  expect("\"mxfp4\"]", "\"mxpf4\"]", {"study.toml:6:", "mxpf4", "did you mean 'mxfp4'"});
  expect("\"micro\"", "\"mikro\"", {"mikro", "did you mean 'micro'"});
  expect("\"austen\"", "\"./text.txt\"", {"there is no file", "text.txt"});
  expect("\"bf16\", \"mxfp4\"", "\"mxfp4\", \"mxfp4\"", {"two arms called 'mxfp4'"});
  expect("baseline = \"bf16\"", "baseline = \"bf61\"", {"'bf61' is no arm", "did you mean 'bf16'"});
  expect("[3, 1]", "[3, 3]", {"seed 3"});
  expect("[3, 1]", "[]", {"at least one seed"});
  expect("batch = 4", "bacth = 4", {"study.toml:", "bacth", "did you mean 'batch'"});
  expect("batch = 4", "batch = 4\nsteps = 3", {"steps stands at the top"});
  expect("warmup_steps = 150", "warmup_steps = 201", {"warmup_steps"});
  expect("sequence_length = 16", "sequence_length = 33", {"context"});
  EXPECT_NE(
      error_of(study_text() + "[[arm]]\nname = \"x\"\nrecipe = \"mxfp4\"\nset = { recipe.quantizer.blok.rounding = "
                              "\"toward_zero\" }\n")
          .find("blok"),
      std::string::npos);
  EXPECT_NE(error_of(study_text() + "[[arm]]\nname = \"x\"\nrecipe = \"mxfp4\"\nset = { lr = 1 }\n").find("unknown"),
            std::string::npos);
  try {
    (void)StudyFile::from_folder(root_ / "studies");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("it has no study.toml"), std::string::npos) << error.what();
  }
}

TEST_F(StudyPlan, RunsAreSeedsTimesArms) {
  const RunPlan p = plan(study_text());
  ASSERT_EQ(p.runs.size(), 4u);
  const std::vector<std::string> labels = {"bf16 seed 3", "mxfp4 seed 3", "bf16 seed 1", "mxfp4 seed 1"};
  std::set<std::string> ids;
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(p.runs[i].index, i);
    EXPECT_EQ(p.runs[i].label(), labels[i]);
    EXPECT_EQ(p.runs[i].id.size(), 12u);
    EXPECT_EQ(p.runs[i].file.parent_path(), root_ / "studies/s/runs");
    EXPECT_NE(p.runs[i].file.filename().string().find(p.runs[i].id), std::string::npos);
    ids.insert(p.runs[i].id);
  }
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_FALSE(fs::exists(p.runs_folder())) << "planning writes nothing";
  const std::string table = plan_table(p);
  EXPECT_NE(table.find("4 runs of 200 steps, 0 finished; 51200 tokens in all, 51200 still"), std::string::npos)
      << table;
}

// What changes the numbers changes the identity of the runs concerned, and nothing else does.
TEST_F(StudyPlan, IdentityIsWhatDecidesTheNumbers) {
  const auto ids = [](const RunPlan& p) {
    std::vector<std::string> out;
    for (const PlannedRun& run : p.runs) out.push_back(run.id);
    return out;
  };
  const std::vector<std::string> base = ids(plan(study_text()));
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"name = \"s\"", "name = \"other\""},
           {"question = \"q\"", "question = \"x\"\njobs = 7"},
           {"tolerance_nats = 0.01", "tolerance_nats = 0.5\nrecord = \"none\""},
           {"batch = 4", "batch = 4\neval_every = 7"},
           {"learning_rate = 1e-3", "learning_rate = 0.0010"}}) {
    EXPECT_EQ(ids(plan(replaced(study_text(), from, to))), base) << to;
  }
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"steps = 200", "steps = 201"},
                                                        {"batch = 4", "batch = 8"},
                                                        {"learning_rate = 1e-3", "learning_rate = 1.1e-3"},
                                                        {"[3, 1]", "[4, 2]"},
                                                        {"\"bf16\", \"mxfp4\"", "\"bf16\", \"nvfp4\""}}) {
    const std::vector<std::string> other = ids(plan(replaced(study_text(), from, to)));
    EXPECT_NE(other[1], base[1]) << to;
    EXPECT_NE(other[3], base[3]) << to;
  }
  // An arm that sets what its recipe says anyway is the same run; one that sets another thing is not.
  const RunPlan arms = plan(replaced(study_text(), "[train]",
                                     "[[arm]]\nname = \"same\"\nrecipe = \"mxfp4\"\nset = { train.clip = 1.0 }\n"
                                     "[[arm]]\nname = \"zero\"\nrecipe = \"mxfp4\"\n"
                                     "set = { recipe.quantizer.block.rounding = \"toward_zero\" }\n[train]"));
  EXPECT_EQ(arms.runs[2].id, arms.runs[1].id);
  EXPECT_NE(arms.runs[3].id, arms.runs[1].id);
  EXPECT_EQ(arms.runs[1].id, base[1]);
}

TEST_F(StudyPlan, ArgumentsSayAllOfIt) {
  const RunPlan p = plan(replaced(study_text(), "[train]",
                                  "[[arm]]\nname = \"zero\"\nrecipe = \"mxfp4\"\n"
                                  "set = { recipe.quantizer.block.rounding = \"toward_zero\" }\n[train]"));
  const std::vector<std::string> words = train_arguments(p, p.runs[5], 2);
  const auto has = [&](const std::string& option, const std::string& value) {
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      if (words[i] == option && words[i + 1] == value) return true;
    }
    return false;
  };
  EXPECT_EQ(words.front(), "train");
  EXPECT_TRUE(has("--model", (root_ / "studies/models/micro.toml").string()));
  EXPECT_TRUE(has("--recipe", (root_ / "studies/recipes/mxfp4.toml").string()));
  EXPECT_TRUE(has("--seed", "1"));
  EXPECT_TRUE(has("--set", "train.steps=200"));
  EXPECT_TRUE(has("--set", "train.batch=4"));
  EXPECT_TRUE(has("--set", "train.learning_rate=0.001"));
  EXPECT_TRUE(has("--set", "recipe.quantizer.block.rounding=\"toward_zero\""));
  EXPECT_TRUE(has("--out", p.runs[5].file.string()));
  EXPECT_TRUE(has("--threads", "2"));
  EXPECT_NE(std::find(words.begin(), words.end(), "--quiet"), words.end());
}

// Every study of the tree can be planned.
TEST(Studies, CanBePlanned) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(NG_SOURCE_DIR) / "studies")) {
    if (!fs::exists(entry.path() / "study.toml")) continue;
    SCOPED_TRACE(entry.path());
    const RunPlan p = make_run_plan(StudyFile::from_folder(entry.path()));
    EXPECT_EQ(p.study.name, entry.path().filename());
    EXPECT_FALSE(p.study.prediction.empty());
    EXPECT_TRUE(fs::exists(entry.path() / "README.md"));
    ++count;
  }
  EXPECT_GE(count, 1);
}

}  // namespace
}  // namespace ng
