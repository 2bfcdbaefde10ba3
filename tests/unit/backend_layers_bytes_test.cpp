// SPDX-License-Identifier: Apache-2.0
//
// Claim: every layer operation gives the same bytes with 1, 2 and 3 threads, and with the kernels for the x86-64
// baseline and for x86-64-v3, in FP32 and BF16, for ragged shapes.
// Alone: bin/unit_backend_layers --gtest_filter='*Bytes*'
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

using Bytes = std::vector<std::byte>;

struct Operation {
  const char* name;
  Bytes (*run)(Backend& b, Dtype dtype, std::int64_t rows, std::int64_t cols);
};

Bytes embedding(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < T; ++t) ids.push_back(static_cast<std::int32_t>(t * t % 17));
  const Tensor id = integers(b, ids), table = random_tensor(b, Dtype::f32, 17, C, 1), y = b.tensor(dtype, T, C);
  const Tensor dy = random_tensor(b, dtype, T, C, 2);
  Bytes bytes;
  b.embedding(table.view, id.view, y.view);
  b.embedding_backward(id.view, dy.view, table.view);
  append(bytes, b, y);
  append(bytes, b, table);
  return bytes;
}

Bytes rms_norm(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const Tensor x = random_tensor(b, dtype, T, C, 3), gain = random_tensor(b, Dtype::f32, 1, C, 4),
               y = b.tensor(dtype, T, C);
  const Tensor rstd = b.tensor(Dtype::f32, 1, T), dy = random_tensor(b, dtype, T, C, 5),
               dx = random_tensor(b, dtype, T, C, 6);
  const Tensor dg = b.zeros(Dtype::f32, 1, C);
  Bytes bytes;
  b.rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
  b.rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dx.view, true, dg.view);
  for (const Tensor& t : {y, rstd, dx, dg}) append(bytes, b, t);
  b.rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dx.view, false, dg.view);
  append(bytes, b, dx);
  return bytes;
}

Bytes add_and_cast(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const Tensor x = random_tensor(b, dtype, T, C, 7), y = random_tensor(b, dtype, T, C, 8), out = b.tensor(dtype, T, C);
  const Tensor wide = b.tensor(Dtype::f32, T, C), narrow = b.tensor(Dtype::bf16, T, C);
  Bytes bytes;
  b.add(x.view, y.view, out.view);
  b.cast(out.view, wide.view);
  b.cast(wide.view, narrow.view);
  for (const Tensor& t : {out, wide, narrow}) append(bytes, b, t);
  return bytes;
}

Bytes swiglu(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const Tensor x = random_tensor(b, dtype, T, 2 * C, 9, 20.0), y = b.tensor(dtype, T, C),
               dx = b.tensor(dtype, T, 2 * C);
  Bytes bytes;
  b.swiglu(x.view, y.view);
  b.swiglu_backward(x.view, y.view, dx.view);
  append(bytes, b, y);
  append(bytes, b, dx);
  return bytes;
}

Bytes attention(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const std::int64_t D = 2 * ((C + 7) / 8);
  const ng::AttentionShape s{2, T, 4, 2, D, D};
  const Tensor qkv = random_tensor(b, dtype, 2 * T, 8 * D, 10), out = b.tensor(dtype, 2 * T, 4 * D);
  const Tensor lse = b.tensor(Dtype::f32, 2 * T, 4), d_out = random_tensor(b, dtype, 2 * T, 4 * D, 11);
  const Tensor d_qkv = b.tensor(dtype, 2 * T, 8 * D), table = random_tensor(b, Dtype::f32, T, D, 12);
  Bytes bytes;
  b.rope(s, table.view, qkv.view, false);
  b.attention(s, qkv.view, out.view, lse.view);
  b.attention_backward(s, qkv.view, out.view, lse.view, d_out.view, d_qkv.view);
  b.rope(s, table.view, d_qkv.view, true);
  for (const Tensor& t : {qkv, out, lse, d_qkv}) append(bytes, b, t);
  for (const ng::QkNorm kind : {ng::QkNorm::head, ng::QkNorm::full}) {
    const std::int64_t width = kind == ng::QkNorm::head ? D : 4 * D, k_width = kind == ng::QkNorm::head ? D : 2 * D;
    const Tensor gain = random_tensor(b, Dtype::f32, 1, width, 17),
                 k_gain = random_tensor(b, Dtype::f32, 1, k_width, 18);
    const Tensor normed = b.tensor(dtype, 2 * T, 8 * D), d_gain = b.zeros(Dtype::f32, 1, width);
    const Tensor d_k_gain = b.zeros(Dtype::f32, 1, k_width);
    const Tensor rstd = b.tensor(Dtype::f32, 2 * T, kind == ng::QkNorm::head ? 6 : 2);
    b.qk_norm(s, kind, qkv.view, gain.view, k_gain.view, 1e-5f, normed.view, rstd.view);
    b.qk_norm_backward(s, kind, qkv.view, gain.view, k_gain.view, rstd.view, d_qkv.view, d_gain.view, d_k_gain.view);
    for (const Tensor& t : {normed, rstd, d_qkv, d_gain, d_k_gain}) append(bytes, b, t);
  }
  return bytes;
}

Bytes latent(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const std::int64_t R = 2 * ((C + 7) / 8), D = R + 3, V = C + 1;
  const ng::AttentionShape s{2, T, 3, 3, D, V};
  const Tensor table = random_tensor(b, Dtype::f32, T, R, 19), q = random_tensor(b, dtype, 2 * T, 3 * D, 20);
  const Tensor kv = random_tensor(b, dtype, 2 * T, 3 * (3 + V), 21), key = random_tensor(b, dtype, 2 * T, R, 22);
  const Tensor qkv = b.tensor(dtype, 2 * T, s.qkv_cols()), out = b.tensor(dtype, 2 * T, s.out_cols());
  const Tensor lse = b.tensor(Dtype::f32, 2 * T, 3), d_out = random_tensor(b, dtype, 2 * T, s.out_cols(), 23);
  const Tensor d_qkv = b.tensor(dtype, 2 * T, s.qkv_cols()), dq = b.tensor(dtype, 2 * T, 3 * D);
  const Tensor d_kv = b.tensor(dtype, 2 * T, 3 * (3 + V)), d_key = b.tensor(dtype, 2 * T, R);
  Bytes bytes;
  b.latent_heads(s, table.view, q.view, kv.view, key.view, qkv.view);
  b.attention(s, qkv.view, out.view, lse.view);
  b.attention_backward(s, qkv.view, out.view, lse.view, d_out.view, d_qkv.view);
  b.latent_heads_backward(s, table.view, d_qkv.view, dq.view, d_kv.view, d_key.view);
  for (const Tensor& t : {qkv, out, lse, d_qkv, dq, d_kv, d_key}) append(bytes, b, t);
  return bytes;
}

Bytes routing(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  ng::RouterSpec spec;
  spec.experts = 11;
  spec.top_k = 3;
  spec.aux_coefficient = spec.z_coefficient = 0.1f;
  Bytes bytes;
  for (const int choice : {0, 1, 2, 3}) {
    spec.gate = choice < 2 ? ng::Gate::softmax : ng::Gate::sigmoid;
    spec.renormalize = choice % 2 == 0;
    const Tensor logits = random_tensor(b, Dtype::f32, T, 11, 13, 3.0), x = random_tensor(b, dtype, T, C, 14);
    const ng::Routing r = b.route(spec, logits.view, {T, 11, 0, 0, nullptr});
    const Tensor rows = b.tensor(dtype, r.rows, C), y = b.tensor(dtype, T, C), dy = random_tensor(b, dtype, T, C, 15);
    const Tensor d_rows = b.tensor(dtype, r.rows, C), dw = b.tensor(Dtype::f32, T, 3),
                 dx = random_tensor(b, dtype, T, C, 16);
    const Tensor d_logits = b.tensor(Dtype::f32, T, 11);
    b.permute(r, x.view, rows.view);
    b.combine(r, rows.view, y.view);
    b.combine_backward(r, rows.view, dy.view, d_rows.view, dw.view);
    b.permute_backward(r, d_rows.view, dx.view, true);
    b.route_backward(spec, r, dw.view, 0.5f, d_logits.view);
    for (const Tensor& t : {r.probabilities, r.scores, r.shares, r.expert, r.weight, r.row_of_slot, r.token_of_row,
                            r.slot_of_row, r.log_sum_exp, rows, y, d_rows, dw, dx, d_logits})
      append(bytes, b, t);
    const double losses[] = {r.aux_loss, r.z_loss, r.entropy};
    const auto* raw = reinterpret_cast<const std::byte*>(losses);
    bytes.insert(bytes.end(), raw, raw + sizeof losses);
  }
  return bytes;
}

Bytes cross_entropy(Backend& b, Dtype dtype, std::int64_t T, std::int64_t V) {
  const Tensor logits = random_tensor(b, dtype, T, V, 17, 3.0), loss = b.tensor(Dtype::f32, 1, T),
               d = b.tensor(dtype, T, V);
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < T; ++t) targets.push_back(static_cast<std::int32_t>(t % V));
  b.cross_entropy(logits.view, integers(b, targets).view, 0.01f, loss.view, d.view);
  Bytes bytes;
  append(bytes, b, loss);
  append(bytes, b, d);
  return bytes;
}

Bytes optimizer(Backend& b, Dtype dtype, std::int64_t T, std::int64_t C) {
  const Tensor p = b.tensor(Dtype::f32, T, 7 * C), g = b.tensor(Dtype::f32, T, 7 * C),
               x = random_tensor(b, dtype, T, 7 * C, 18);
  const Tensor m = b.zeros(Dtype::f32, T, 7 * C), v = b.zeros(Dtype::f32, T, 7 * C);
  b.fill_normal(p.view, {1, ng::RandomPurpose::initial_weights, 2, 0}, 0.02);
  b.fill_normal(g.view, {1, ng::RandomPurpose::initial_weights, 3, 0}, 1e-3);
  for (int step = 0; step < 2; ++step) b.adamw({}, {1e-3f, 0.9f, 2.0f, 4.0f}, {p.view, g.view, m.view, v.view, true});
  const double sums[] = {b.sum(x.view), b.sum_of_squares(x.view), b.sum_of_squares(col_slice(x.view, 1, C))};
  Bytes bytes;
  for (const Tensor& t : {p, m, v}) append(bytes, b, t);
  const auto* raw = reinterpret_cast<const std::byte*>(sums);
  bytes.insert(bytes.end(), raw, raw + sizeof sums);
  return bytes;
}

constexpr Operation kOperations[] = {
    {"embedding", embedding}, {"rms_norm", rms_norm},           {"add_and_cast", add_and_cast},
    {"swiglu", swiglu},       {"attention", attention},         {"latent", latent},
    {"routing", routing},     {"cross_entropy", cross_entropy}, {"optimizer", optimizer},
};

class LayerBytes : public testing::TestWithParam<Operation> {};

TEST_P(LayerBytes, AreEqualForThreadsAndInstructionSets) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 130}, {67, 24}, {300, 131}}) {
      const Bytes expected = GetParam().run(*cpu(1, false), dtype, rows, cols);
      ASSERT_FALSE(expected.empty());
      for (const int threads : {1, 2, 3})
        for (const bool baseline : {false, true})
          EXPECT_TRUE(GetParam().run(*cpu(threads, baseline), dtype, rows, cols) == expected)
              << threads << " threads, " << (baseline ? "baseline" : "best") << ", " << name_of(dtype) << " [" << rows
              << ", " << cols << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, LayerBytes, testing::ValuesIn(kOperations),
                         [](const auto& operation) { return std::string(operation.param.name); });

TEST(BytesOfTables, BothInstructionSetsAreTried) {
  if (cpu(1, false)->device() == cpu(1, true)->device()) GTEST_SKIP() << "this machine has the baseline only";
  EXPECT_NE(cpu(1, false)->device().find("x86-64-v3"), std::string::npos);
}

}  // namespace
}  // namespace layers_test
