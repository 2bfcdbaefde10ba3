// SPDX-License-Identifier: Apache-2.0
//
// Operations on single elements: a thread loads its eights, calls the arithmetic of one element eight times, stores.
#include "fast/elements.hpp"

#include "fast/eight_views.cuh"
#include "narrowgauge/numerics/rotation.hpp"
#include "narrowgauge/numerics/swiglu.hpp"

namespace ng::cuda::fast {

namespace {

struct Cast {
  TensorView from, to;
  __device__ void operator()(std::int64_t r, std::int64_t c) const { store_eight(to, r, c, load_eight(from, r, c)); }
};

struct Add {
  TensorView a, b, out;
  __device__ void operator()(std::int64_t r, std::int64_t c) const {
    const Eight x = load_eight(a, r, c);
    const Eight y = load_eight(b, r, c);
    Eight sum;
#pragma unroll
    for (int i = 0; i < kEight; ++i) sum.value[i] = add_rn(x.value[i], y.value[i]);
    store_eight(out, r, c, sum);
  }
};

struct Swiglu {
  TensorView x, y;
  __device__ void operator()(std::int64_t r, std::int64_t c) const {
    const Eight gate = load_eight(x, r, c);
    const Eight up = load_eight(x, r, y.cols + c);
    Eight value;
#pragma unroll
    for (int i = 0; i < kEight; ++i) value.value[i] = swiglu_value(gate.value[i], up.value[i]);
    store_eight(y, r, c, value);
  }
};

struct SwigluBackward {
  TensorView x, dy, dx;
  __device__ void operator()(std::int64_t r, std::int64_t c) const {
    const Eight gate = load_eight(x, r, c);
    const Eight up = load_eight(x, r, dy.cols + c);
    const Eight d = load_eight(dy, r, c);
    Eight d_gate, d_up;
#pragma unroll
    for (int i = 0; i < kEight; ++i) {
      const SwigluGradient gradient = swiglu_gradient(gate.value[i], up.value[i], d.value[i]);
      d_gate.value[i] = gradient.gate;
      d_up.value[i] = gradient.up;
    }
    store_eight(dx, r, c, d_gate);
    store_eight(dx, r, dy.cols + c, d_up);
  }
};

struct Embedding {
  TensorView table, ids, y;
  FaultWord* fault;
  __device__ void operator()(std::int64_t t, std::int64_t c) const {
    const std::int64_t id = load_integer(ids, t);
    if (id < 0 || id >= table.rows)
      note_fault(fault, t, id);
    else
      store_eight(y, t, c, load_eight(table, id, c));
  }
};

/// `c`: eight pairs, counted over the halves of all heads that are turned.
struct Rope {
  TensorView table, qkv;
  bool inverse;
  __device__ void operator()(std::int64_t token, std::int64_t c) const {
    const std::int64_t half = table.cols / 2;
    const RowAndEight at = place_of(c, half);
    const std::int64_t first = at.row * 2 * half + at.eight;
    const std::int64_t position = place_of(token, table.rows).eight;
    const Eight cosine = load_eight(table, position, at.eight);
    const Eight sine = load_eight(table, position, half + at.eight);
    Eight a = load_eight(qkv, token, first);
    Eight b = load_eight(qkv, token, first + half);
#pragma unroll
    for (int i = 0; i < kEight; ++i) {
      const RotatedPair pair =
          rotate_pair(a.value[i], b.value[i], cosine.value[i], inverse ? -sine.value[i] : sine.value[i]);
      a.value[i] = pair.a;
      b.value[i] = pair.b;
    }
    store_eight(qkv, token, first, a);
    store_eight(qkv, token, first + half, b);
  }
};

constexpr int kAdamWElements = 4;

/// Four parameters a thread; the thread behind the last whole four does the rest one by one.
__global__ void __launch_bounds__(kThreadsPerBlock)
    adamw_kernel(const __grid_constant__ AdamWScalars scalars, const float* gradient, float* master, float* first,
                 float* second, std::int64_t count) {
  const std::int64_t begin = thread_number() * kAdamWElements;
  if (begin + kAdamWElements <= count) {
    const float4 g = *reinterpret_cast<const float4*>(gradient + begin);
    const float4 p = *reinterpret_cast<const float4*>(master + begin);
    const float4 m = *reinterpret_cast<const float4*>(first + begin);
    const float4 v = *reinterpret_cast<const float4*>(second + begin);
    const AdamWState a = adamw_step(scalars, {p.x, m.x, v.x}, g.x);
    const AdamWState b = adamw_step(scalars, {p.y, m.y, v.y}, g.y);
    const AdamWState c = adamw_step(scalars, {p.z, m.z, v.z}, g.z);
    const AdamWState d = adamw_step(scalars, {p.w, m.w, v.w}, g.w);
    *reinterpret_cast<float4*>(master + begin) = float4{a.master, b.master, c.master, d.master};
    *reinterpret_cast<float4*>(first + begin) = float4{a.first, b.first, c.first, d.first};
    *reinterpret_cast<float4*>(second + begin) = float4{a.second, b.second, c.second, d.second};
    return;
  }
  for (std::int64_t i = begin; i < count; ++i) {
    const AdamWState state = adamw_step(scalars, {master[i], first[i], second[i]}, gradient[i]);
    master[i] = state.master;
    first[i] = state.first;
    second[i] = state.second;
  }
}

bool is_aligned(const float* list) {
  return reinterpret_cast<std::uintptr_t>(list) % 16 == 0;
}

}  // namespace

bool elements_serve(std::initializer_list<const TensorView*> views) {
  return are_eight_views(views);
}

void cast(const TensorView& from, const TensorView& to, Stream stream) {
  for_eights("cast", to.rows, to.cols, stream, Cast{from, to});
}

void add(const TensorView& a, const TensorView& b, const TensorView& out, Stream stream) {
  for_eights("add", out.rows, out.cols, stream, Add{a, b, out});
}

void swiglu(const TensorView& x, const TensorView& y, Stream stream) {
  for_eights("swiglu", y.rows, y.cols, stream, Swiglu{x, y});
}

void swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx, Stream stream) {
  for_eights("swiglu_backward", dy.rows, dy.cols, stream, SwigluBackward{x, dy, dx});
}

void embedding(const TensorView& table, const TensorView& ids, const TensorView& y, FaultWord* fault, Stream stream) {
  for_eights("embedding", y.rows, y.cols, stream, Embedding{table, ids, y, fault});
}

bool rope_serves(const TensorView& table, const TensorView& qkv) {
  return table.cols % (2 * kEight) == 0 && is_eight_view(table) && (qkv.rows <= 1 || qkv.stride % kEight == 0) &&
         reinterpret_cast<std::uintptr_t>(qkv.data) % 16 == 0;
}

void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse, Stream stream) {
  const std::int64_t pairs = (shape.heads + shape.kv_heads) * (table.cols / 2);
  for_eights("rope", qkv.rows, pairs, stream, Rope{table, qkv, inverse});
}

bool adamw_serves(const float* gradient, const float* master, const float* first, const float* second) {
  return is_aligned(gradient) && is_aligned(master) && is_aligned(first) && is_aligned(second);
}

void adamw(const AdamWScalars& scalars, const float* gradient, float* master, float* first, float* second,
           std::int64_t count, Stream stream) {
  launch("adamw", adamw_kernel, (count + kAdamWElements - 1) / kAdamWElements, stream, scalars, gradient, master, first,
         second, count);
}

}  // namespace ng::cuda::fast
