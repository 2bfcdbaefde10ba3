// SPDX-License-Identifier: Apache-2.0
//
// Claims about delayed scaling: scales of a step follow from the amaxes of the steps before, never from its own; each
// step adds one entry, the largest over its micro-batches; evaluation adds none; the history is as long as the recipe
// says, and experts without tokens repeat their last entry. (That runs with it resume byte for byte: runs_test.cpp.)
// Alone: ctest -R training_delayed
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/tensor/amax_history.hpp"

namespace {

using namespace ng;

AmaxHistory history_of(int steps, AmaxReduce reduce) {
  AmaxHistory history;
  history.spec = {steps, reduce};
  return history;
}

TEST(AmaxHistory, KeepsTheLastStepsAndReducesThem) {
  for (const AmaxReduce reduce : {AmaxReduce::max, AmaxReduce::most_recent}) {
    AmaxHistory history = history_of(3, reduce);
    EXPECT_TRUE(history.reduced().empty());
    std::vector<float> seen;
    for (const float amax : {5.0f, 2.0f, 7.0f, 1.0f, 3.0f, 2.0f, 2.0f}) {
      history.note(&amax, 1);
      history.advance();
      seen.push_back(amax);
      if (seen.size() > 3) seen.erase(seen.begin());
      EXPECT_EQ(history.past, seen);
      const float expected = reduce == AmaxReduce::max ? *std::max_element(seen.begin(), seen.end()) : amax;
      EXPECT_EQ(history.reduced(), std::vector<float>{expected});
    }
  }
}

TEST(AmaxHistory, MicroBatchesMakeOneEntryAndEmptyExpertsRepeat) {
  AmaxHistory history = history_of(4, AmaxReduce::most_recent);
  const float first[] = {1.0f, 4.0f}, second[] = {3.0f, 2.0f}, none[] = {5.0f, 0.0f};
  history.note(first, 2);
  history.note(second, 2);
  history.advance();
  EXPECT_EQ(history.past, (std::vector<float>{3.0f, 4.0f}));
  history.note(none, 2);
  history.advance();
  EXPECT_EQ(history.past, (std::vector<float>{3.0f, 4.0f, 5.0f, 4.0f}));
  history.advance();  // nothing seen: no step
  EXPECT_EQ(history.past.size(), 4u);
  const float nan[] = {std::numeric_limits<float>::quiet_NaN(), 1.0f};
  history.note(nan, 2);
  history.note(first, 2);
  EXPECT_TRUE(std::isnan(history.current[0]));
}

TEST(DelayedScaling, ScalesFollowThePastAndEvaluationLeavesNoTrace) {
  const auto backend = make_cpu_backend({1, Arithmetic::ieee, false});
  const Site site{"edge", 0, 1};
  AmaxHistory history = history_of(2, AmaxReduce::max);
  FormRequest request{Gemm::fprop, Operand::activation, {}, &site, &history};
  request.spec.kind = OperandKind::quantized;
  request.spec.quantizer = parse_quantizer("fp8_tensor");
  request.spec.amax = history.spec;
  const auto scale = [&](Phase phase, float largest) {
    Tensor x = backend->tensor(Dtype::f32, 2, 4);
    const float values[] = {0.5f, -largest, 0.25f, 0.0f, 0.125f, 0.5f, 0.5f, 0.5f};
    backend->upload(x.view, values);
    const TensorForms forms = backend->produce({0, 0, 0, phase}, x, RowGroups{}, std::span(&request, 1));
    return forms.forms[0].quantized->scales.as<float>()[0];
  };
  const auto expected = [](float amax) { return 1.0f / (448.0f / amax); };
  EXPECT_EQ(scale(Phase::eval, 8.0f), expected(8.0f)) << "no past: the tensor's own amax";
  EXPECT_TRUE(history.current.empty());
  EXPECT_EQ(scale(Phase::train, 2.0f), expected(2.0f));
  EXPECT_EQ(scale(Phase::train, 3.0f), expected(3.0f)) << "a micro-batch of the same step";
  history.advance();
  EXPECT_EQ(scale(Phase::train, 100.0f), expected(3.0f));
  EXPECT_EQ(scale(Phase::eval, 500.0f), expected(3.0f));
  EXPECT_EQ(scale(Phase::recompute, 500.0f), expected(3.0f));
  history.advance();
  EXPECT_EQ(scale(Phase::train, 1.0f), expected(100.0f));
  EXPECT_EQ(history.past, (std::vector<float>{3.0f, 100.0f}));
  history.advance();
  history.note(&history.past[0], 1);
  EXPECT_EQ(history.past, (std::vector<float>{100.0f, 1.0f}));
}

}  // namespace
