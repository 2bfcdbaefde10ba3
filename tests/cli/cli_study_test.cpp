// SPDX-License-Identifier: Apache-2.0
//
// Claim: `study`, `compare` and `inspect` work end to end on real runs, find finished ones again, and refuse what is no
// study or run. Alone: build/bin/cli_train --gtest_filter='Study*'
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/process.hpp"

namespace ng::test {
namespace {

constexpr const char* kStudy = R"(name = "two_arms"
title = "Two arms"
question = "Does it run?"
prediction = "It does."
model = "tiny"
data = "austen"
recipes = ["bf16", "mxfp4"]
baseline = "bf16"
seeds = [0, 1]
steps = 2
tolerance_nats = 0.01
[train]
batch = 2
sequence_length = 32
eval_windows = 2
)";

// A study beside the shipped recipes, models and corpora.
class Study : public testing::Test {
 protected:
  Study() {
    const std::filesystem::path source(NG_SOURCE_DIR);
    std::filesystem::create_directory_symlink(source / "studies", home_.path() / "studies");
    std::filesystem::create_directory_symlink(source / "data", home_.path() / "data");
    std::filesystem::create_directory(home_.path() / "mine");
  }
  void write(const std::string& text) const { (void)home_.write("mine/study.toml", text); }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      found.push_back(entry.path().filename().string());
    return found;
  }

  TemporaryFolder home_;
  std::filesystem::path folder_ = home_.path() / "mine";
};

TEST_F(Study, FromThePlanToTheReport) {
  write(kStudy);
  const std::string dir = folder_.string();

  const Outcome plan = narrowgauge({"study", "plan", dir});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_NE(plan.out.find("mxfp4"), std::string::npos);
  EXPECT_EQ(names(), std::vector<std::string>{"study.toml"});  // costs nothing

  const Outcome ran = narrowgauge({"study", "run", dir, "--jobs", "2"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("report: "), std::string::npos) << ran.out;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "report/report.html"));

  const Outcome again = narrowgauge({"study", "run", dir});  // finished runs are skipped
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.err.find("4 done"), std::string::npos) << again.err;
  const Outcome status = narrowgauge({"study", "status", dir});
  EXPECT_EQ(status.code, 0);
  EXPECT_NE(status.out.find("done"), std::string::npos) << status.out;
  EXPECT_EQ(narrowgauge({"study", "report", dir}).code, 0);

  std::vector<std::string> runs;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "runs"))
    if (entry.path().extension() == ".h5") runs.push_back(entry.path().string());
  ASSERT_EQ(runs.size(), 4u);
  std::sort(runs.begin(), runs.end());
  std::vector<std::string> compare = {"compare"};
  compare.insert(compare.end(), runs.begin(), runs.end());
  compare.insert(compare.end(), {"--out", home_.file("c.html")});
  const Outcome compared = narrowgauge(compare);
  EXPECT_EQ(compared.code, 0) << compared.err;
  EXPECT_NE(compared.out.find("mxfp4"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(home_.file("c.html")));

  const std::string narrow = runs.back();
  EXPECT_NE(narrowgauge({"inspect", narrow}).out.find("record '"), std::string::npos);
  EXPECT_NE(narrowgauge({"inspect", narrow, "--measure", "rel_mse"}).out.find("layer.0/"), std::string::npos);
  const Outcome no_measure = narrowgauge({"inspect", narrow, "--measure", "rel_mes"});
  EXPECT_EQ(no_measure.code, 2);
  EXPECT_NE(no_measure.err.find("did you mean 'rel_mse'"), std::string::npos) << no_measure.err;
  EXPECT_EQ(narrowgauge({"inspect", narrow, "--site", "layer.9/*"}).code, 2);
  EXPECT_EQ(narrowgauge({"compare", narrow, narrow}).code, 2);  // twice the same file
}

TEST_F(Study, TheShippedOnesCanBePlanned) {
  int studies = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::filesystem::path(NG_SOURCE_DIR) / "studies")) {
    if (entry.path().filename() != "study.toml") continue;
    ++studies;
    const Outcome plan = narrowgauge({"study", "plan", entry.path().parent_path().string()});
    EXPECT_EQ(plan.code, 0) << plan.err;
  }
  EXPECT_GE(studies, 1);
}

TEST_F(Study, MistakesAreRefused) {
  struct Mistake {
    std::string from, to;
    std::vector<std::string> pieces;
  };
  const Mistake mistakes[] = {
      {"seeds = ", "seedz = ", {"study.toml:9:", "did you mean 'seeds'"}},
      {"\"mxfp4\"]", "\"mxpf4\"]", {"did you mean 'mxfp4'"}},
      {"\"tiny\"", "\"tyni\"", {"did you mean 'tiny'"}},
      {"baseline = \"bf16\"", "baseline = \"mxfp8\"", {"baseline", "mxfp8"}},
      {"batch = 2", "bacth = 2", {"did you mean 'batch'"}},
      {"seeds = [0, 1]", "seeds = [0, 0]", {"seeds"}},
  };
  for (const Mistake& m : mistakes) {
    std::string text = kStudy;
    text.replace(text.find(m.from), m.from.size(), m.to);
    write(text);
    const Outcome outcome = narrowgauge({"study", "run", folder_.string()});
    SCOPED_TRACE(outcome.err);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    for (const std::string& piece : m.pieces)
      EXPECT_NE(outcome.err.find(piece), std::string::npos) << "lacks '" << piece << "'";
    EXPECT_EQ(names(), std::vector<std::string>{"study.toml"});
  }
  EXPECT_EQ(narrowgauge({"study", "run", home_.file("nowhere")}).code, 2);
  EXPECT_EQ(narrowgauge({"study", "run"}).code, 2);
  const Outcome action = narrowgauge({"study", "rnu", folder_.string()});
  EXPECT_EQ(action.code, 2);
  EXPECT_NE(action.err.find("did you mean 'run'"), std::string::npos) << action.err;
  EXPECT_EQ(narrowgauge({"study", "plan", folder_.string(), "--jobs", "2"}).code, 2);
  EXPECT_EQ(narrowgauge({"inspect", home_.file("nowhere.h5")}).code, 2);
  EXPECT_EQ(narrowgauge({"compare", home_.file("nowhere.h5"), home_.file("neither.h5")}).code, 2);
}

}  // namespace
}  // namespace ng::test
