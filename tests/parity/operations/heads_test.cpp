// SPDX-License-Identifier: Apache-2.0
//
// Claim: rotation, norms of queries and keys, and the heads of latent attention have the CPU backend's bytes on the
// CUDA backend, forward and backward, in f32 and bf16 and mixes of both, with strides. Alone: bin/operations_on_host
// --gtest_filter='HeadsParity*'
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

class HeadsParity : public OperationParity {};

constexpr Dtype kReals[] = {Dtype::f32, Dtype::bf16};

// sequences, length, heads, key heads, head_dim, value_dim
constexpr AttentionShape kShapes[] = {
    {1, 1, 1, 1, 2, 1}, {2, 7, 4, 2, 6, 10}, {3, 11, 6, 3, 64, 64}, {1, 40, 2, 1, 128, 72}};

TEST_F(HeadsParity, Rope) {
  std::uint32_t seed = 0;
  for (const AttentionShape& s : kShapes)
    for (const Dtype dtype : kReals)
      for (const bool inverse : {false, true})
        for (const std::int64_t padding : {0, 3, 8}) {
          ++seed;
          const Values kind = seed % 2 == 0 ? Values::wide : Values::special;
          expect_parity("rope", [&](Backend& b) {
            const Tensor table = tensor_of(b, Dtype::f32, s.sequence_length, s.head_dim, Values::normal, seed, padding);
            const Tensor qkv = tensor_of(b, dtype, s.tokens(), s.qkv_cols(), kind, seed + 1, padding);
            b.rope(s, table.view, qkv.view, inverse);
            Outputs out;
            out.add(b, "qkv", qkv.view);
            return out;
          });
        }
}

TEST_F(HeadsParity, QkNorm) {
  std::uint32_t seed = 0;
  for (const AttentionShape& s : kShapes)
    for (const QkNorm kind : {QkNorm::head, QkNorm::full})
      for (const Dtype from : kReals)
        for (const Dtype to : kReals)
          for (const std::int64_t padding : {0, 3, 8}) {
            ++seed;
            expect_parity("qk_norm", [&](Backend& b) {
              const bool head = kind == QkNorm::head;
              const std::int64_t q_width = head ? s.head_dim : s.query_cols(),
                                 k_width = head ? s.head_dim : s.key_cols();
              const Values values_kind = seed % 3 == 0 ? Values::special : Values::wide;
              const Tensor qkv = tensor_of(b, from, s.tokens(), s.qkv_cols(), values_kind, seed, padding);
              const Tensor d_qkv = tensor_of(b, to, s.tokens(), s.qkv_cols(), Values::normal, seed + 1, padding);
              const Tensor q_gain = tensor_of(b, Dtype::f32, 1, q_width, Values::normal, seed + 2);
              const Tensor k_gain = tensor_of(b, Dtype::f32, 1, k_width, Values::normal, seed + 3);
              const Tensor d_q = tensor_of(b, Dtype::f32, 1, q_width, Values::normal, seed + 4);
              const Tensor d_k = tensor_of(b, Dtype::f32, 1, k_width, Values::normal, seed + 5);
              const Tensor y = b.zeros(to, s.tokens(), s.qkv_cols() + padding);
              const Tensor rstd = b.tensor(Dtype::f32, s.tokens(), head ? s.heads + s.kv_heads : 2);
              b.qk_norm(s, kind, qkv.view, q_gain.view, k_gain.view, 1e-3f, col_slice(y.view, 0, s.qkv_cols()),
                        rstd.view);
              b.qk_norm_backward(s, kind, qkv.view, q_gain.view, k_gain.view, rstd.view, d_qkv.view, d_q.view,
                                 d_k.view);
              Outputs out;
              out.add(b, "out", y.view);
              out.add(b, "rstd", rstd.view);
              out.add(b, "d_qkv", d_qkv.view);
              out.add(b, "d_q_gain", d_q.view);
              out.add(b, "d_k_gain", d_k.view);
              return out;
            });
          }
}

TEST_F(HeadsParity, LatentHeads) {
  std::uint32_t seed = 0;
  for (const AttentionShape& s :
       {AttentionShape{2, 5, 3, 3, 10, 7}, AttentionShape{1, 9, 1, 1, 4, 5}, AttentionShape{2, 16, 4, 4, 96, 64}})
    for (const std::int64_t rotated : {std::int64_t{2}, std::int64_t{4}})
      for (const Dtype from : kReals)
        for (const Dtype to : kReals) {
          ++seed;
          expect_parity("latent_heads", [&](Backend& b) {
            const std::int64_t T = s.tokens(), kv_cols = s.heads * (s.head_dim - rotated + s.value_dim);
            const Tensor table = tensor_of(b, Dtype::f32, s.sequence_length, rotated, Values::normal, seed);
            const Tensor q = tensor_of(b, from, T, s.query_cols(), Values::special, seed + 1, 1);
            const Tensor kv = tensor_of(b, to, T, kv_cols, Values::wide, seed + 2, 2);
            const Tensor key = tensor_of(b, from, T, rotated + 5, Values::wide, seed + 3);
            const Tensor qkv = b.zeros(to, T, s.qkv_cols() + 1);
            const TensorView rows = col_slice(qkv.view, 1, s.qkv_cols());
            b.latent_heads(s, table.view, q.view, kv.view, col_slice(key.view, 5, rotated), rows);
            const Tensor d_q = b.tensor(from, T, s.query_cols()), d_kv = b.tensor(to, T, kv_cols),
                         d_key = b.zeros(from, T, rotated + 5);
            b.latent_heads_backward(s, table.view, rows, d_q.view, d_kv.view, col_slice(d_key.view, 5, rotated));
            Outputs out;
            out.add(b, "qkv", qkv.view);
            out.add(b, "d_q", d_q.view);
            out.add(b, "d_kv", d_kv.view);
            out.add(b, "d_shared_key", d_key.view);
            return out;
          });
        }
}

}  // namespace
}  // namespace ng_test
