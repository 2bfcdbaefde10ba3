// SPDX-License-Identifier: Apache-2.0
//
// cuRAND's host generator: part of the CUDA toolkit, runs on the CPU.
#include <curand.h>

#include "philox_peers.hpp"

namespace ng_test {

std::optional<std::vector<std::uint32_t>> curand_host_words(std::uint64_t seed, std::size_t words, std::string& why) {
  curandGenerator_t generator = nullptr;
  std::vector<std::uint32_t> result(words);
  const auto done = [&](const char* call, curandStatus_t status) {
    if (status != CURAND_STATUS_SUCCESS) why = std::string(call) + ": status " + std::to_string(status);
    return status == CURAND_STATUS_SUCCESS;
  };
  if (!done("curandCreateGeneratorHost", curandCreateGeneratorHost(&generator, CURAND_RNG_PSEUDO_PHILOX4_32_10)))
    return std::nullopt;
  const bool made = done("curandSetPseudoRandomGeneratorSeed", curandSetPseudoRandomGeneratorSeed(generator, seed)) &&
                    done("curandGenerate", curandGenerate(generator, result.data(), words));
  (void)curandDestroyGenerator(generator);
  if (!made) return std::nullopt;
  return result;
}

}  // namespace ng_test
