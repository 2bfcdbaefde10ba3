// SPDX-License-Identifier: Apache-2.0
//
// Heads before attention: one thread one pair that is rotated, or one element of the result.
#include "plain/heads.hpp"

#include "narrowgauge/numerics/rotation.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

/// The pair (first + i, first + half + i) of a row, rotated by the angle of its token.
struct Rotation {
  TensorView table;  // [sequence_length, 2 * half]: cos, then sin
  bool inverse;

  NG_HD std::int64_t half() const { return table.cols / 2; }
  NG_HD RotatedPair operator()(std::int64_t token, std::int64_t i, float a, float b) const {
    const std::int64_t position = token % table.rows;
    const float sine = load_real(table, position, half() + i);
    return rotate_pair(a, b, load_real(table, position, i), inverse ? -sine : sine);
  }
  NG_HD RotatedPair pair(const TensorView& x, std::int64_t token, std::int64_t first, std::int64_t i) const {
    return (*this)(token, i, load_real(x, token, first + i), load_real(x, token, first + half() + i));
  }
  /// Element j of the 2 * half rotated ones that begin at `first`.
  NG_HD float element(const TensorView& x, std::int64_t token, std::int64_t first, std::int64_t j) const {
    const RotatedPair turned = pair(x, token, first, j % half());
    return j < half() ? turned.a : turned.b;
  }
  NG_HD void store(const TensorView& x, std::int64_t token, std::int64_t first, std::int64_t i, RotatedPair to) const {
    store_real(x, token, first + i, to.a);
    store_real(x, token, first + half() + i, to.b);
  }
};

struct Rope {
  TensorView qkv;
  Rotation rotation;
  std::int64_t turned;  // heads
  NG_HD void operator()(std::int64_t n) const {
    const std::int64_t half = rotation.half();
    const std::int64_t token = n / (turned * half);
    const std::int64_t head = n / half % turned;
    const std::int64_t i = n % half;
    rotation.store(qkv, token, head * 2 * half, i, rotation.pair(qkv, token, head * 2 * half, i));
  }
};

/// Where the parts of a head of latent attention lie; offsets in a row of qkv, q and kv.
struct LatentCols {
  std::int64_t H, D, R, N, V;  // heads, head_dim, rotated, not rotated, value_dim

  LatentCols(const AttentionShape& shape, const TensorView& table)
      : H(shape.heads), D(shape.head_dim), R(table.cols), N(D - R), V(shape.value_dim) {}
  NG_HD std::int64_t query(std::int64_t h) const { return h * D; }
  NG_HD std::int64_t key(std::int64_t h) const { return (H + h) * D; }
  NG_HD std::int64_t value(std::int64_t h) const { return 2 * H * D + h * V; }
  NG_HD std::int64_t kv(std::int64_t h) const { return h * (N + V); }
};

struct LatentHeads {
  TensorView q, kv, shared_key, qkv;
  LatentCols at;
  Rotation rotation;
  NG_HD float element(std::int64_t token, std::int64_t c) const {
    if (c >= at.value(0)) {
      const std::int64_t d = c - at.value(0);
      return load_real(kv, token, at.kv(d / at.V) + at.N + d % at.V);
    }
    const bool is_query = c < at.key(0);
    const std::int64_t h = (is_query ? c : c - at.key(0)) / at.D;
    const std::int64_t d = c % at.D;
    if (d < at.N) return is_query ? load_real(q, token, c) : load_real(kv, token, at.kv(h) + d);
    return is_query ? rotation.element(q, token, at.query(h) + at.N, d - at.N)
                    : rotation.element(shared_key, token, 0, d - at.N);
  }
  NG_HD void operator()(std::int64_t n) const {
    const std::int64_t token = n / qkv.cols;
    const std::int64_t c = n % qkv.cols;
    store_real(qkv, token, c, element(token, c));
  }
};

struct LatentQueriesBackward {
  TensorView d_qkv, d_q;
  LatentCols at;
  Rotation rotation;
  NG_HD void operator()(std::int64_t n) const {
    const std::int64_t token = n / d_q.cols;
    const std::int64_t c = n % d_q.cols;
    const std::int64_t d = c % at.D;
    store_real(d_q, token, c,
               d < at.N ? load_real(d_qkv, token, c) : rotation.element(d_qkv, token, c - d + at.N, d - at.N));
  }
};

struct LatentKeysBackward {
  TensorView d_qkv, d_kv;
  LatentCols at;
  NG_HD void operator()(std::int64_t n) const {
    const std::int64_t token = n / d_kv.cols;
    const std::int64_t c = n % d_kv.cols;
    const std::int64_t h = c / (at.N + at.V);
    const std::int64_t d = c % (at.N + at.V);
    store_real(d_kv, token, c, load_real(d_qkv, token, d < at.N ? at.key(h) + d : at.value(h) + d - at.N));
  }
};

/// Sums over the heads, then rotates back.
struct SharedKeyBackward {
  TensorView d_qkv, d_shared_key;
  LatentCols at;
  Rotation rotation;
  NG_HD void operator()(std::int64_t n) const {
    const std::int64_t half = rotation.half();
    const std::int64_t token = n / half;
    const std::int64_t i = n % half;
    float a = load_real(d_qkv, token, at.key(0) + at.N + i);
    float b = load_real(d_qkv, token, at.key(0) + at.N + half + i);
    for (std::int64_t h = 1; h < at.H; ++h) {
      a = add_rn(a, load_real(d_qkv, token, at.key(h) + at.N + i));
      b = add_rn(b, load_real(d_qkv, token, at.key(h) + at.N + half + i));
    }
    rotation.store(d_shared_key, token, 0, i, rotation(token, i, a, b));
  }
};

}  // namespace

void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse, Stream stream) {
  const std::int64_t turned = shape.heads + shape.kv_heads;
  for_each("rope", qkv.rows * turned * (table.cols / 2), stream, Rope{qkv, {table, inverse}, turned});
}

void latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q, const TensorView& kv,
                  const TensorView& shared_key, const TensorView& qkv, Stream stream) {
  for_each("latent_heads", qkv.rows * qkv.cols, stream,
           LatentHeads{q, kv, shared_key, qkv, LatentCols(shape, table), {table, false}});
}

void latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                           const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key,
                           Stream stream) {
  const LatentCols at(shape, table);
  const Rotation back{table, true};
  for_each("latent_heads_backward, queries", d_q.rows * d_q.cols, stream, LatentQueriesBackward{d_qkv, d_q, at, back});
  for_each("latent_heads_backward, keys", d_kv.rows * d_kv.cols, stream, LatentKeysBackward{d_qkv, d_kv, at});
  for_each("latent_heads_backward, shared key", d_shared_key.rows * (table.cols / 2), stream,
           SharedKeyBackward{d_qkv, d_shared_key, at, back});
}

}  // namespace ng::cuda::plain
