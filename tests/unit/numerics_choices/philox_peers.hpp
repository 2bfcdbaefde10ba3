// SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10 by others, where they are installed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ng_test {

using PhiloxWords = std::array<std::uint32_t, 4>;

/// One block by Random123's own header; empty where it is not installed.
std::optional<PhiloxWords> random123_block(const PhiloxWords& counter, std::uint32_t key0, std::uint32_t key1);

/// The first `words` 32-bit words of cuRAND's host generator CURAND_RNG_PSEUDO_PHILOX4_32_10 (no GPU involved); empty,
/// with the reason, where the library is absent or refuses.
std::optional<std::vector<std::uint32_t>> curand_host_words(std::uint64_t seed, std::size_t words, std::string& why);

}  // namespace ng_test
