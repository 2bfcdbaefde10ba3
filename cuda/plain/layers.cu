// SPDX-License-Identifier: Apache-2.0
//
// Embedding and SwiGLU: one thread one element; the gradient of the embedding one thread one column, down the tokens.
#include "plain/layers.hpp"

#include "narrowgauge/numerics/ieee_rn.hpp"
#include "narrowgauge/numerics/swiglu.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct IdsAsList {
  TensorView ids;
  std::int64_t below;
  std::int32_t* list;
  FaultWord* fault;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t id = load_integer(ids, i);
    const bool valid = id >= 0 && id < below;
    list[i] = valid ? static_cast<std::int32_t>(id) : -1;
    if (!valid) note_fault(fault, i, id);
  }
};

struct Embedding {
  TensorView table, ids, y;
  FaultWord* fault;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / y.cols;
    const std::int64_t c = i % y.cols;
    const std::int64_t id = load_integer(ids, t);
    if (id < 0 || id >= table.rows) return note_fault(fault, t, id);
    store_real(y, t, c, load_real(table, id, c));
  }
};

struct EmbeddingBackward {
  TensorView ids, dy, d_table;
  FaultWord* fault;
  NG_HD void operator()(std::int64_t c) const {
    for (std::int64_t t = 0; t < dy.rows; ++t) {
      const std::int64_t id = load_integer(ids, t);
      if (id < 0 || id >= d_table.rows)
        note_fault(fault, t, id);
      else
        store_real(d_table, id, c, add_rn(load_real(d_table, id, c), load_real(dy, t, c)));
    }
  }
};

struct Swiglu {
  TensorView x, y;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / y.cols;
    const std::int64_t c = i % y.cols;
    store_real(y, r, c, swiglu_value(load_real(x, r, c), load_real(x, r, y.cols + c)));
  }
};

struct SwigluBackward {
  TensorView x, dy, dx;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / dy.cols;
    const std::int64_t c = i % dy.cols;
    const SwigluGradient gradient =
        swiglu_gradient(load_real(x, r, c), load_real(x, r, dy.cols + c), load_real(dy, r, c));
    store_real(dx, r, c, gradient.gate);
    store_real(dx, r, dy.cols + c, gradient.up);
  }
};

}  // namespace

void ids_as_list(const TensorView& ids, std::int64_t below, std::int32_t* list, FaultWord* fault, Stream stream) {
  for_each("ids_as_list", ids.rows * ids.cols, stream, IdsAsList{ids, below, list, fault});
}

void embedding(const TensorView& table, const TensorView& ids, const TensorView& y, FaultWord* fault, Stream stream) {
  for_each("embedding", y.rows * y.cols, stream, Embedding{table, ids, y, fault});
}

void embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table, FaultWord* fault,
                        Stream stream) {
  for_each("embedding_backward", dy.cols, stream, EmbeddingBackward{ids, dy, d_table, fault});
}

void swiglu(const TensorView& x, const TensorView& y, Stream stream) {
  for_each("swiglu", y.rows * y.cols, stream, Swiglu{x, y});
}

void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx, Stream stream) {
  for_each("swiglu_backward", dy.rows * dy.cols, stream, SwigluBackward{x, dy, dx});
}

}  // namespace ng::cuda::plain
