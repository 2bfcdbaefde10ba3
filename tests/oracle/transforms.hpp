// SPDX-License-Identifier: Apache-2.0
//
// Hadamard transform and counter-based random bits of the oracle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ng_oracle {

enum class HadamardSigns { none, te_fixed, seeded };
enum class HadamardOrder { serial, butterfly };
enum class HadamardResult { bf16, f32 };

/// Entry of Sylvester's matrix of any power-of-two size: +1 or -1.
int sylvester(std::size_t row, std::size_t col);

/// Transforms groups of `n` along the rows of x [rows, cols]: y_j = sum over k of (x_k s_k / sqrt n) H[k][j], FP32
/// sums, serial in k or a butterfly with strides 1, 2, 4, ... . 1/sqrt(n) is FP32-rounded where n is not a power of
/// four. `cols` must be a multiple of n. `seeded`: input k is negated where bit k of the 128-bit random block 0 of
/// (seed, purpose 4, tensor 0, step 0) is set.
std::vector<float> hadamard(const std::vector<float>& x, std::size_t rows, std::size_t cols, std::size_t n,
                            HadamardSigns signs, HadamardOrder order, HadamardResult result, std::uint32_t seed = 0);

using Words = std::array<std::uint32_t, 4>;

/// Philox4x32 with ten rounds: counter words lowest first, key words lowest first.
Words philox(Words counter, std::array<std::uint32_t, 2> key);

/// `bits` (8, 16 or 32) random bits of one element of a tensor at a step.
std::uint32_t element_draw(std::uint32_t seed, std::uint32_t purpose, std::uint32_t tensor, std::uint32_t step,
                           std::uint64_t element, int bits);

}  // namespace ng_oracle
