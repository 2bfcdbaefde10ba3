// SPDX-License-Identifier: Apache-2.0
//
// Claim: AdamW and clipping of the optimizer's oracle are torch.optim.AdamW and clip_grad_norm_, in float64.
// Alone: ctest -R torch_golden
#include <gtest/gtest.h>

#include <cmath>

#include "oracle/optimizer_oracle.hpp"
#include "training/torch_golden.hpp"

namespace {

using Doubles = std::vector<double>;

// Parameters of size 1 take 8 updates of size 0.05 at most, each of 15 operations: 120 roundings of 1.1e-16 of numbers
// of size 1, were all of one sign.
constexpr double kRounding = 120 * 0x1p-53;

TEST(TorchAdamW, EightUpdatesWithClippingAndDecay) {
  const std::string path = (ng_test::golden_folder() / "torch_adamw.safetensors").string();
  const auto metadata = ng::list_safetensors(path).metadata;
  const auto number = [&](const std::string& name) { return std::stod(metadata.at(name)); };
  const auto read = [&](const std::string& name) { return ng_test::doubles(ng::read_safetensors(path, name)); };
  const std::vector<std::string> names{"decayed", "plain"};
  const Doubles rates = read("learning_rate"), norms = read("norm");
  std::vector<Doubles> p, m, v;
  for (const std::string& name : names) {
    p.push_back(read("start/" + name));
    m.emplace_back(p.back().size(), 0.0);
    v.emplace_back(p.back().size(), 0.0);
  }
  int clipped = 0;
  for (int step = 0; step < std::stoi(metadata.at("steps")); ++step) {
    const std::string at = "." + std::to_string(step) + "/";
    std::vector<Doubles> gradients;
    for (const std::string& name : names) gradients.push_back(read("gradient" + at + name));
    const double norm = ng_oracle::global_norm(gradients);
    EXPECT_NEAR(norm, norms.at(static_cast<std::size_t>(step)), 1e-14 * norm);
    const double factor = ng_oracle::clip_factor(norm, number("clip"));
    clipped += factor < 1.0 ? 1 : 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      for (double& g : gradients[i]) g *= factor;
      const double decay = names[i] == "decayed" ? number("weight_decay") : 0.0;
      ng_oracle::adamw_update(
          {rates.at(static_cast<std::size_t>(step)), number("beta1"), number("beta2"), number("epsilon"), decay},
          step + 1, gradients[i], m[i], v[i], p[i]);
      const Doubles expected = read("end" + at + names[i]);
      ASSERT_EQ(expected.size(), p[i].size());
      for (std::size_t k = 0; k < expected.size(); ++k)
        EXPECT_NEAR(p[i][k], expected[k], kRounding * (1.0 + std::abs(expected[k])))
            << names[i] << "[" << k << "] after " << step + 1 << " updates";
    }
  }
  EXPECT_GT(clipped, 1);
  EXPECT_LT(clipped, 8);
}

}  // namespace
