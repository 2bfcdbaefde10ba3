// SPDX-License-Identifier: Apache-2.0
//
// Random123's Philox4x32 with ten rounds (Salmon et al.; package librandom123-dev).
#include <Random123/philox.h>

#include "philox_peers.hpp"

namespace ng_test {

std::optional<PhiloxWords> random123_block(const PhiloxWords& counter, std::uint32_t key0, std::uint32_t key1) {
  const philox4x32_ctr_t in = {{counter[0], counter[1], counter[2], counter[3]}};
  const philox4x32_key_t key = {{key0, key1}};
  const philox4x32_ctr_t out = philox4x32_R(10, in, key);
  return PhiloxWords{out.v[0], out.v[1], out.v[2], out.v[3]};
}

}  // namespace ng_test
