// SPDX-License-Identifier: Apache-2.0
//
// The model of the command line's tests: one layer with four experts, a run of which takes a second.
#pragma once

#include <string>

namespace ng::test {

inline const std::string kModel = R"(name = "small_test"
vocabulary = 256
layers = 1
hidden = 32
heads = 2
kv_heads = 1
head_dim = 16
rope_theta = 10000.0
norm_epsilon = 1e-5
dense_layers = 0
dense_width = 0
experts = 4
top_k = 2
expert_width = 32
shared_experts = 0
renormalize = true
aux_coefficient = 0.01
z_coefficient = 0.001
tied_head = false
init_std = 0.02
context = 32
)";

}  // namespace ng::test
