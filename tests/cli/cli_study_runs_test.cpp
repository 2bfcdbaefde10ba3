// SPDX-License-Identifier: Apache-2.0
//
// Claim: the runs of a study survive: finished ones are left alone, cut ones go on to the bytes of uninterrupted ones,
// failed ones are named with their log, and runs that differ in data or model are not compared unasked.
// Alone: build/bin/cli_study_runs
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/process.hpp"

namespace ng::test {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// A model of a few thousand parameters on the real corpus.
std::string model_text(int layers) {
  return "name = \"micro\"\nvocabulary = 256\nlayers = " + std::to_string(layers) +
         "\nhidden = 32\nheads = 1\nkv_heads = 1\nhead_dim = 32\nrope_theta = 10000.0\nnorm_epsilon = 1e-5\n"
         "dense_layers = 0\ndense_width = 0\nexperts = 2\ntop_k = 1\nexpert_width = 32\nshared_experts = 0\n"
         "renormalize = true\naux_coefficient = 0.01\nz_coefficient = 0.001\ntied_head = false\ninit_std = 0.02\n"
         "context = 32\n";
}

std::string study_text(int steps, const std::string& model = "./micro.toml") {
  const std::string source = NG_SOURCE_DIR;
  return "name = \"micro\"\ntitle = \"A micro study\"\nquestion = \"Which question?\"\nprediction = \"This one.\"\n"
         "model = \"" +
         model + "\"\ndata = \"" + source +
         "/data/corpora/austen.toml\"\n"
         "recipes = [\"" +
         source + "/studies/recipes/bf16.toml\", \"" + source +
         "/studies/recipes/mxfp4.toml\"]\n"
         "baseline = \"bf16\"\nseeds = [0, 1]\ntolerance_nats = 0.01\nsteps = " +
         std::to_string(steps) +
         "\n[train]\nbatch = 2\nsequence_length = 32\neval_windows = 2\nwarmup_steps = 2\ncheckpoint_every = 5\n";
}

std::vector<std::string> run_files(const fs::path& study) {
  std::vector<std::string> files;
  if (!fs::exists(study / "runs")) return files;
  for (const auto& entry : fs::directory_iterator(study / "runs")) {
    if (entry.path().extension() == ".h5") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(StudyRuns, NothingIsDoneTwice) {
  const TemporaryFolder folder;
  folder.write("micro.toml", model_text(1));
  folder.write("study.toml", study_text(20));
  const std::string dir = folder.path().string();
  EXPECT_EQ(narrowgauge({"study", "report", dir}).code, 2) << "there is nothing to report yet";
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"micro.toml", "study.toml"}));

  const Outcome run = narrowgauge({"study", "run", dir, "--jobs", "2"});
  ASSERT_EQ(run.code, 0) << run.err;
  const std::vector<std::string> files = run_files(folder.path());
  ASSERT_EQ(files.size(), 4u);
  const std::string page = content(folder.path() / "report/report.html");
  for (const char* part : {"A micro study", "Which question?", "This one.", "Error per layer and format", "</html>"}) {
    EXPECT_TRUE(contains(page, part)) << part;
  }
  EXPECT_TRUE(fs::exists(folder.path() / "report/error_by_layer.svg"));

  std::vector<std::string> before;
  for (const std::string& file : files) before.push_back(content(file));
  const Outcome again = narrowgauge({"study", "run", dir});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, run.out);
  EXPECT_EQ(narrowgauge({"inspect", files[2], "--measure", "rel_mse"}).code, 0);
  EXPECT_EQ(narrowgauge({"compare", files[0], files[2]}).code, 0);
  for (std::size_t i = 0; i < files.size(); ++i) EXPECT_TRUE(content(files[i]) == before[i]) << files[i];
  EXPECT_TRUE(content(folder.path() / "report/report.html") == page);
}

TEST(StudyRuns, RefusesWhatCannotBeCompared) {
  const TemporaryFolder folder;
  folder.write("micro.toml", model_text(1));
  folder.write("deep.toml", model_text(2));
  fs::create_directories(folder.path() / "a");
  fs::create_directories(folder.path() / "b");
  folder.write("a/study.toml", study_text(3, "../micro.toml"));
  folder.write("b/study.toml", study_text(3, "../deep.toml"));
  for (const char* name : {"a", "b"}) {
    const Outcome run = narrowgauge({"study", "run", folder.file(name), "--index", "0", "--quiet"});
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(run.err, "");
  }
  const std::string a = run_files(folder.path() / "a").at(0), b = run_files(folder.path() / "b").at(0);
  const Outcome refused = narrowgauge({"compare", a, b});
  EXPECT_EQ(refused.code, 2);
  EXPECT_TRUE(contains(refused.err, "differ in their model")) << refused.err;
  EXPECT_TRUE(contains(refused.err, "--allow-mismatch")) << refused.err;
  const Outcome allowed = narrowgauge({"compare", a, b, "--allow-mismatch"});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_TRUE(contains(allowed.out, "asked for nevertheless")) << allowed.out;
  EXPECT_EQ(narrowgauge({"compare", a, a}).code, 2) << "the same file twice";
  EXPECT_EQ(narrowgauge({"compare", a, folder.file("micro.toml")}).code, 2) << "not a run";
}

// Losses over steps as `inspect` prints them.
std::string losses(const std::string& file) {
  const Outcome outcome = narrowgauge({"inspect", file, "--measure", "loss"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return outcome.out;
}

TEST(StudyRuns, InterruptedOnesGoOn) {
  const TemporaryFolder cut, whole;
  for (const TemporaryFolder* folder : {&cut, &whole}) {
    folder->write("micro.toml", model_text(1));
    folder->write("study.toml", study_text(400));
  }
  const std::string dir = cut.path().string();
  {
    Process process({"study", "run", dir, "--jobs", "1"});
    for (int i = 0; i < 1200 && run_files(cut.path()).empty(); ++i) ::usleep(50'000);
    ASSERT_EQ(run_files(cut.path()).size(), 1u);
    process.send(SIGINT);
    const Outcome outcome = process.finish();
    EXPECT_EQ(outcome.code, 130) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "the same command goes on")) << outcome.err;
  }
  ASSERT_EQ(run_files(cut.path()).size(), 1u) << "no other run was begun";
  const Outcome status = narrowgauge({"study", "status", dir});
  EXPECT_TRUE(contains(status.out, "  cut ")) << status.out;
  EXPECT_TRUE(contains(status.out, "0 of 4 runs finished")) << status.out;

  ASSERT_EQ(narrowgauge({"study", "run", dir, "--index", "0"}).code, 0);
  ASSERT_EQ(narrowgauge({"study", "run", whole.path().string(), "--index", "0"}).code, 0);
  EXPECT_EQ(losses(run_files(cut.path())[0]), losses(run_files(whole.path())[0]));
}

TEST(StudyRuns, FailuresAreNamedWithTheirLog) {
  const TemporaryFolder folder;
  folder.write("micro.toml", model_text(1));
  folder.write("study.toml", study_text(3));
  ProcessOptions small;
  small.file_size_limit = 20'000;  // every run file is larger
  const Outcome run = narrowgauge({"study", "run", folder.path().string()}, small);
  EXPECT_EQ(run.code, 1) << run.err;
  EXPECT_TRUE(contains(run.err, "failed, exit code 3: bf16 seed 0, ")) << run.err;
  EXPECT_TRUE(contains(run.err, "the end of ")) << run.err;
  // With room again the same command does it.
  const Outcome again = narrowgauge({"study", "run", folder.path().string(), "--quiet"});
  EXPECT_EQ(again.code, 0) << again.err;
}

}  // namespace
}  // namespace ng::test
