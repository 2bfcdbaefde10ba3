// SPDX-License-Identifier: Apache-2.0
//
// The configurations on which gradients are judged: the full product of the model's options, in small and
// deliberately uneven sizes.
#pragma once

#include <string>
#include <vector>

#include "oracle/model_oracle.hpp"

namespace ng_test {

struct Case {
  ng_oracle::ModelConfig config;
  std::int64_t B = 2;
  std::int64_t T = 5;
  std::uint64_t seed = 1;
};

/// Inputs of a case, from its seed.
struct Inputs {
  ng_oracle::Parameters parameters;
  std::vector<std::int64_t> ids, targets;
};

inline Inputs inputs_of(const Case& c) {
  return {ng_oracle::random_parameters(c.config, c.seed, 0.3),
          ng_oracle::random_ids(c.B * c.T, c.config.vocabulary, c.seed + 1000),
          ng_oracle::random_ids(c.B * c.T, c.config.vocabulary, c.seed + 2000)};
}

inline double router_margin(const Case& c) {
  const Inputs in = inputs_of(c);
  return loss(c.config, in.parameters, in.ids, in.targets, c.B, c.T).router_margin;
}

/// The case with the first seed from its own on whose router decides nothing more narrowly than 1e-3.
inline Case with_clear_router(Case c) {
  while (router_margin(c) < 1e-3) ++c.seed;
  return c;
}

/// Grouped or full heads x tied x shared experts (none, 2) x first layer dense x renormalize x top_k 1, 2, 3: 96 cases.
inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int kv_heads : {2, 4})
    for (bool tied : {false, true})
      for (int shared : {0, 2})
        for (int dense : {0, 1})
          for (bool renormalize : {false, true})
            for (int top_k : {1, 2, 3}) {
              Case c;
              c.config.name = "kv" + std::to_string(kv_heads) + (tied ? "_tied" : "_untied") + "_shared" +
                              std::to_string(shared) + "_dense" + std::to_string(dense) +
                              (renormalize ? "_renormalized" : "_raw") + "_top" + std::to_string(top_k);
              c.config.vocabulary = 11;
              c.config.layers = 2;
              c.config.hidden = 12;
              c.config.heads = 4;
              c.config.kv_heads = kv_heads;
              c.config.head_dim = 4;
              c.config.rope_theta = 100.0;
              c.config.norm_epsilon = 1e-3;  // large enough that forgetting it would be seen
              c.config.dense_layers = dense;
              c.config.dense_width = 10;
              c.config.experts = 5;
              c.config.top_k = top_k;
              c.config.expert_width = 6;
              c.config.shared_experts = shared;
              c.config.renormalize = renormalize;
              c.config.aux_coefficient = 0.1;
              c.config.z_coefficient = 0.05;
              c.config.tied_head = tied;
              c.config.context = 8;
              c.seed = 100 + 1000 * cases.size();
              cases.push_back(with_clear_router(c));
            }
  return cases;
}

/// Name of a case for GoogleTest.
struct CaseName {
  template <class Info>
  std::string operator()(const Info& info) const {
    return info.param.config.name;
  }
};

}  // namespace ng_test
