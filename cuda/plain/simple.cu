// SPDX-License-Identifier: Apache-2.0
//
// Kernels that only round and add: one thread one element.
#include "plain/simple.hpp"

#include "narrowgauge/numerics/ieee_rn.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct Cast {
  TensorView from, to;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / to.cols;
    const std::int64_t c = i % to.cols;
    store_real(to, r, c, load_real(from, r, c));
  }
};

struct Add {
  TensorView a, b, out;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / out.cols;
    const std::int64_t c = i % out.cols;
    store_real(out, r, c, add_rn(load_real(a, r, c), load_real(b, r, c)));
  }
};

}  // namespace

void cast(const TensorView& from, const TensorView& to, Stream stream) {
  for_each("cast", to.rows * to.cols, stream, Cast{from, to});
}

void add(const TensorView& a, const TensorView& b, const TensorView& out, Stream stream) {
  for_each("add", out.rows * out.cols, stream, Add{a, b, out});
}

}  // namespace ng::cuda::plain
