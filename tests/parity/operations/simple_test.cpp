// SPDX-License-Identifier: Apache-2.0
//
// Claim: memory, cast and add of the CUDA backend are the CPU backend's, with strides.
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

TEST_F(OperationParity, CastAndAdd) {
  std::uint32_t seed = 1;
  for (const Dtype from : {Dtype::f32, Dtype::bf16})
    for (const Dtype to : {Dtype::f32, Dtype::bf16})
      for (const std::int64_t cols : {1, 7, 64, 300, 1032}) {
        ++seed;
        expect_parity("cast and add", [&](Backend& b) {
          const bool whole = cols % 8 == 0;  // and then with strides that fast kernels serve
          const Tensor x = tensor_of(b, from, 9, cols, Values::special, seed, whole ? 16 : 3);
          const Tensor y = tensor_of(b, to, 9, cols, Values::wide, seed + 100, whole ? 8 : 5);
          const Tensor casted = b.tensor(to, 9, cols);
          const Tensor sum = b.zeros(to, 9, cols + 8);
          b.cast(x.view, casted.view);
          b.add(x.view, y.view, col_slice(sum.view, whole ? 8 : 1, cols));
          Outputs out;
          out.add(b, "cast", casted.view);
          out.add(b, "sum", sum.view);
          out.add(b, "x", x.view);
          return out;
        });
      }
}

}  // namespace
}  // namespace ng_test
