// SPDX-License-Identifier: Apache-2.0
//
// Claim: options of the program's model that must not matter change no byte of losses, decisions and gradients: groups
// of which all are kept, a capacity that nothing reaches, a bias of zero, the cut of a step into micro-batches.
// Alone: ctest -R program_options
#include <gtest/gtest.h>

#include <cstring>

#include "gradient/option_cases.hpp"
#include "gradient/production.hpp"

namespace {

using namespace ng_oracle;
using ng_test::Case;
using ng_test::Program;
using ng_test::ProgramResult;

Case case_with(const std::vector<std::string>& levels) {
  const auto factors = ng_test::option_factors();
  return ng_test::with_telling_seed(case_of(factors, choice_with(factors, levels)));
}

ProgramResult train(const Case& c) {
  const ng_test::Inputs in = ng_test::inputs_of(c);
  Program program(ng_test::program_config(c.config), "f32");
  program.load(in.parameters);
  return program.train(in.ids, in.targets, c.B, c.T);
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_same_gradients(const ProgramResult& a, const ProgramResult& b) {
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (const auto& [name, gradient] : a.gradients) EXPECT_TRUE(same_bytes(gradient, b.gradients.at(name))) << name;
}

void expect_same(const ProgramResult& a, const ProgramResult& b) {
  EXPECT_EQ(a.decisions.experts, b.decisions.experts);
  EXPECT_EQ(a.decisions.kept, b.decisions.kept);
  EXPECT_TRUE(same_bytes(a.token_losses, b.token_losses));
  EXPECT_EQ(a.aux, b.aux);
  EXPECT_EQ(a.z, b.z);
  expect_same_gradients(a, b);
}

TEST(ProgramOptions, KeepingAllGroupsIsHavingNone) {
  const Case none = case_with({"gate=sigmoid", "bias_rate=0.01"});
  for (const std::int64_t groups : {2, 3}) {
    for (const GroupScore score : {GroupScore::max, GroupScore::top2_sum}) {
      Case all = none;
      all.config.route_groups = all.config.route_groups_kept = groups;
      all.config.group_score = score;
      expect_same(train(none), train(all));
    }
  }
  Case some = none;
  some.config.route_groups = 2;
  EXPECT_NE(train(none).decisions.experts, train(some).decisions.experts);
}

TEST(ProgramOptions, ACapacityThatNothingReachesIsNone) {
  const Case dropless = case_with({"routed_scaling=2.5"});
  for (const Drop drop : {Drop::probability, Drop::position}) {
    Case roomy = dropless;
    roomy.config.capacity_factor = 3.0;  // 6 slots: every token of a sequence
    roomy.config.drop = drop;
    expect_same(train(dropless), train(roomy));
    roomy.config.capacity_factor = 0.75;
    EXPECT_NE(train(dropless).decisions.kept, train(roomy).decisions.kept);
  }
}

TEST(ProgramOptions, ABiasOfZeroIsNone) {
  const Case without = case_with({"gate=sigmoid"});
  Case biased = without;
  biased.config.bias_rate = 0.01;
  ng_test::Inputs in = ng_test::inputs_of(without);
  for (const std::string layer : {"layer.0/", "layer.1/"})
    in.parameters[layer + "router_bias"] = std::vector<double>(static_cast<std::size_t>(biased.config.experts), 0.0);
  Program program(ng_test::program_config(biased.config), "f32");
  program.load(in.parameters);
  expect_same(train(without), program.train(in.ids, in.targets, biased.B, biased.T));
}

/// The gradients of four sequences, trained in so many micro-batches.
ProgramResult train_in(std::int64_t pieces, const Case& c) {
  const ng_test::Inputs in = ng_test::inputs_of(c);
  Program program(ng_test::program_config(c.config), "f32");
  program.load(in.parameters);
  const std::int64_t tokens = c.B / pieces * c.T;
  ProgramResult last;
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const auto part = [&](const std::vector<std::int64_t>& ids) {
      return std::vector<std::int64_t>(ids.begin() + piece * tokens, ids.begin() + (piece + 1) * tokens);
    };
    last = program.train(part(in.ids), part(in.targets), c.B / pieces, c.T, c.B * c.T, piece * tokens,
                         static_cast<std::int32_t>(piece));
  }
  return last;
}

// Every chain of the `ieee` arithmetic goes on where the last micro-batch ended, and the share of a micro-batch in the
// means is a power of two here.
TEST(ProgramOptions, MicroBatchesOfSequencesChangeNoByte) {
  for (const auto& levels :
       std::vector<std::vector<std::string>>{{"capacity_factor=0.75 drop=probability", "balance=sequence"},
                                             {"capacity_factor=0.75 drop=position", "balance=sequence", "gate=sigmoid"},
                                             {"aux_coefficient=0", "z_coefficient=0", "bias_rate=0.01"}}) {
    Case c = case_with(levels);
    c.B = 4;
    SCOPED_TRACE(c.config.name);
    const ProgramResult whole = train_in(1, c);
    for (const std::int64_t pieces : {2, 4}) expect_same_gradients(whole, train_in(pieces, c));
  }
  Case batch = case_with({});  // its auxiliary loss is that of each micro-batch
  batch.B = 4;
  const std::string router = "layer.0/router";
  EXPECT_FALSE(same_bytes(train_in(1, batch).gradients.at(router), train_in(2, batch).gradients.at(router)));
}

}  // namespace
