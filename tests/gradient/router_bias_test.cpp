// SPDX-License-Identifier: Apache-2.0
//
// Claim: over the steps of a run, the router's bias follows the loads of each whole step by the oracle's rule, however
// the step is cut into micro-batches, and ends in the checkpoint. Alone: ctest -R router_bias
#include <gtest/gtest.h>

#include <cstring>

#include "oracle/optimizer_oracle.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::Folder;

constexpr double kRate = 0x1p-7;  // so that sums of a few are exact in FP32

ng::RunRequest request_with(const std::string& options, const std::string& micro_batches) {
  ng::RunRequest request = ng_test::small_request("f32", {{"train.micro_batches", micro_batches}});
  request.model_text += "bias_rate = 0.0078125\n" + options;
  return request;
}

struct RouterRun {
  std::vector<float> bias;
  std::vector<ng::MoeRow> rows;
};

RouterRun run(const Folder& folder, const ng::RunRequest& request) {
  const std::string file = folder.file("run.h5");
  ng::train_run(ng::plan_run(request), file, {});
  RouterRun result;
  result.rows = ng::RunReader(file).moe();
  for (const auto& [name, bytes] : ng_test::end_of(file).tensors) {
    if (!name.ends_with("router_bias")) continue;
    EXPECT_TRUE(result.bias.empty()) << "more than one state of the only router's bias: " << name;
    result.bias.resize(bytes.size() / sizeof(float));
    std::memcpy(result.bias.data(), bytes.data(), bytes.size());
  }
  return result;
}

TEST(RouterBias, FollowsTheLoadOfWholeSteps) {
  for (const std::string options : {"", "gate = \"sigmoid\"\n", "gate = \"sigmoid\"\ncapacity_factor = 0.75\n"}) {
    for (const std::string micro_batches : {"4", "1"}) {
      SCOPED_TRACE(options + "micro_batches " + micro_batches);
      const Folder folder("router-bias");
      const RouterRun run_end = run(folder, request_with(options, micro_batches));
      ASSERT_EQ(run_end.rows.size(), 6u);
      std::vector<double> bias(4, 0.0);
      for (const ng::MoeRow& row : run_end.rows) {
        const std::vector<std::int64_t> counts(row.load.begin(), row.load.end());
        ASSERT_EQ(counts.size(), 4u);
        std::int64_t slots = 0;
        for (const std::int64_t count : counts) slots += count;
        EXPECT_EQ(slots, 4 * 64 * 2);  // batch, sequence length, top_k
        ng_oracle::update_router_bias(kRate, counts, bias);
        EXPECT_EQ(row.dropped.at(0) > 0.0f, options.find("capacity") != std::string::npos);
      }
      EXPECT_EQ(run_end.bias, std::vector<float>(bias.begin(), bias.end()));
      EXPECT_NE(bias, std::vector<double>(4, 0.0));
    }
  }
}

}  // namespace
