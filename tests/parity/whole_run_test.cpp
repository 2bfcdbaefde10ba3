// SPDX-License-Identifier: Apache-2.0
//
// Claim: a training run on the CUDA backend ends with the CPU's bytes: weights, optimizer state, losses, records. And
// on the way every operation on every tensor of the run has the same result (the checking backend). Built twice:
// whole_run_on_host (everywhere, plain kernels against the host's memory) and whole_run_gpu. Alone:
// build/release/bin/whole_run_on_host
#include <gtest/gtest.h>

#include "runtime/device.hpp"
#include "training/small_run.hpp"

namespace ng_test {
namespace {

class WholeRun : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto problem = ng::cuda::device_problem()) GTEST_SKIP() << "NOT TESTED, no GPU: " << *problem;
  }

  static ng::RunRequest request_of(const std::string& recipe, Settings settings = {}) {
    Settings all = {{"train.steps", "2"},      {"train.batch", "2"},        {"train.sequence_length", "48"},
                    {"train.eval_every", "1"}, {"train.eval_windows", "2"}, {"train.checkpoint_every", "1"}};
    for (auto& setting : settings) all.push_back(std::move(setting));
    return small_request(recipe, std::move(all));
  }

  static void expect_same_run(const std::string& name, ng::RunRequest request) {
    SCOPED_TRACE(name);
    const Folder folder("whole-" + name);
    const End cpu = run(folder, "cpu", request, 2);
    request.backend = "cuda";
    const End cuda = run(folder, "cuda", request);
    expect_equal(cpu, cuda);
    EXPECT_EQ(cpu.recorder, cuda.recorder);
    EXPECT_TRUE(same_bytes(cpu.records, cuda.records));
    EXPECT_EQ(cpu.histograms, cuda.histograms);
  }
};

const char* const kRecipes[] = {"bf16",         "mxfp8",      "mxfp4",         "nvfp4",
                                "mxfp4_sr_all", "fp8_tensor", "fp8_blockwise", "fp8_tensor_delayed",
                                "fp4_dge_occ"};

TEST_F(WholeRun, EveryRecipeUnderIeee) {
  expect_same_run("f32", request_of("f32"));
  for (const char* recipe : kRecipes) expect_same_run(recipe, request_of(recipe));
}

TEST_F(WholeRun, EveryRecipeUnderHopper) {
  for (const char* recipe : kRecipes) {
    ng::RunRequest request = request_of(recipe);
    request.arithmetic = "hopper";
    expect_same_run(std::string(recipe) + "-hopper", request);
  }
}

TEST_F(WholeRun, OptionsOfTheModel) {
  const std::pair<const char*, Settings> cases[] = {
      {"sigmoid gate, groups, bias",
       {{"model.gate", "sigmoid"},
        {"model.bias_rate", "0.01"},
        {"model.route_groups", "2"},
        {"model.route_groups_kept", "1"},
        {"model.group_score", "top2_sum"},
        {"model.routed_scaling", "2.5"},
        {"model.balance", "sequence"}}},
      {"capacity", {{"model.capacity_factor", "1.0"}, {"model.qk_norm", "head"}}},
      {"capacity by position",
       {{"model.capacity_factor", "1.25"}, {"model.drop", "position"}, {"model.qk_norm", "full"}}},
      {"micro-batches, tied head", {{"train.micro_batches", "2"}, {"model.tied_head", "true"}}},
      {"more sequences than keys of a tile", {{"train.sequence_length", "64"}, {"train.batch", "4"}}},
  };
  for (const auto& [name, settings] : cases)
    for (const char* recipe : {"bf16", "nvfp4"})
      expect_same_run(std::string(name) + ", " + recipe, request_of(recipe, settings));
}

TEST_F(WholeRun, LatentAttention) {
  for (const char* recipe : {"bf16", "mxfp4"}) {
    ng::RunRequest request = request_of(recipe);
    request.model_path = (source_root() / "studies/models/tiny_mla.toml").string();
    request.model_text = file_text(request.model_path);
    expect_same_run(std::string("mla, ") + recipe, request);
  }
}

// Every tensor of a run, through every operation, on both.
TEST_F(WholeRun, EveryOperationOnEveryTensor) {
  for (const char* recipe : {"nvfp4", "fp4_dge_occ", "fp8_blockwise"}) {
    const Folder folder(std::string("checked-") + recipe);
    ng::RunRequest request = request_of(recipe);
    request.backend = "checked:cpu/cuda";
    const End checked = run(folder, "checked", request);
    request.backend = "cpu";
    expect_equal(run(folder, "cpu", request), checked);
  }
}

}  // namespace
}  // namespace ng_test
