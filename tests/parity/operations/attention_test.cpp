// SPDX-License-Identifier: Apache-2.0
//
// Claim: attention and its backward on a GPU are the CPU backend's: lengths around the tiles, head groups, key and
// value widths, strides, mixed dtypes, huge scores, and values that are not finite.
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

struct Case {
  AttentionShape shape;
  Dtype qkv = Dtype::bf16;
  Values kind = Values::normal;
  float factor = 1.0f;       ///< of qkv
  std::int64_t padding = 4;  ///< elements behind rows
  Dtype out = qkv;
  Dtype gradient = qkv;  ///< d_out and d_qkv
};

/// A tensor of values times a factor.
Tensor scaled_tensor(Backend& b, Dtype dtype, std::int64_t rows, std::int64_t cols, const Case& c, std::uint32_t seed) {
  std::vector<float> list = values(c.kind, rows * cols, seed);
  for (float& x : list) x *= c.factor;
  const std::int64_t stride = cols + c.padding;
  const Tensor f32 = b.tensor(Dtype::f32, rows, cols);
  b.upload(f32.view, list.data());
  Tensor result = b.zeros(dtype, rows, stride);
  result.view.cols = cols;
  b.cast(f32.view, result.view);
  return result;
}

Outputs run(Backend& b, const Case& c) {
  const AttentionShape& s = c.shape;
  const std::int64_t tokens = s.tokens();
  const Tensor qkv = scaled_tensor(b, c.qkv, tokens, s.qkv_cols(), c, 11);
  const Tensor d_out = tensor_of(b, c.gradient, tokens, s.out_cols(), c.kind, 12, c.padding);
  const Tensor out = b.zeros(c.out, tokens, s.out_cols() + c.padding);
  const Tensor lse = b.zeros(Dtype::f32, tokens, s.heads + 1);
  const Tensor d_qkv = b.zeros(c.gradient, tokens, s.qkv_cols() + c.padding);
  const TensorView out_view = col_slice(out.view, 0, s.out_cols());
  const TensorView lse_view = col_slice(lse.view, 1, s.heads);
  b.attention(s, qkv.view, out_view, lse_view);
  b.attention_backward(s, qkv.view, out_view, lse_view, d_out.view, col_slice(d_qkv.view, 0, s.qkv_cols()));
  Outputs outputs;
  outputs.add(b, "out", out.view);
  outputs.add(b, "log_sum_exp", lse.view);
  outputs.add(b, "d_qkv", d_qkv.view);
  return outputs;
}

std::string name_of(const Case& c) {
  const AttentionShape& s = c.shape;
  std::string name;
  for (const std::int64_t n : {s.sequences, s.sequence_length, s.heads, s.kv_heads, s.head_dim, s.value_dim})
    name += std::to_string(n) + " ";
  return name + std::string(ng::name_of(c.qkv)) + ", values " + std::to_string(static_cast<int>(c.kind)) + " times " +
         std::to_string(c.factor);
}

class AttentionParity : public OperationParity {
 protected:
  static void expect(const Case& c) {
    expect_parity(name_of(c), [&](Backend& b) { return run(b, c); });
  }
};

TEST_F(AttentionParity, LengthsAndGroups) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (const std::int64_t length : {1, 63, 64, 65, 128, 130, 200, 300}) {
      expect({{2, length, 2, 2, 16, 16}, dtype});
      expect({{1, length, 4, 1, 8, 20}, dtype});
    }
}

TEST_F(AttentionParity, Widths) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    expect({{1, 70, 2, 1, 64, 64}, dtype});
    expect({{1, 150, 1, 1, 128, 128}, dtype});
    expect({{1, 140, 2, 2, 192, 128}, dtype});
    expect({{1, 129, 1, 1, 36, 132}, dtype});
    expect({{1, 80, 2, 1, 256, 256}, dtype});
    expect({{1, 66, 2, 1, 7, 5}, dtype});
    expect({{2, 66, 1, 1, 6, 10}, dtype, Values::normal, 1.0f, 3});
    expect({{1, 66, 1, 1, 260, 12}, dtype});
  }
}

TEST_F(AttentionParity, LargeScoresAndUnderflow) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (const std::int64_t length : {130, 200}) {
      expect({{1, length, 2, 1, 16, 16}, dtype, Values::normal, 6.0f});
      expect({{1, length, 2, 1, 64, 8}, dtype, Values::normal, 100.0f});
      expect({{2, length, 4, 2, 8, 8}, dtype, Values::wide});
      expect({{2, length, 4, 2, 8, 8}, dtype, Values::wide, 1e-15f});
    }
}

TEST_F(AttentionParity, NotFinite) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (const std::int64_t length : {20, 100, 140}) expect({{3, length, 2, 1, 4, 4}, dtype, Values::special});
}

TEST_F(AttentionParity, MixedDtypes) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    const Dtype other = dtype == Dtype::bf16 ? Dtype::f32 : Dtype::bf16;
    expect({{1, 90, 2, 1, 16, 16}, dtype, Values::normal, 1.0f, 4, other, dtype});
    expect({{1, 90, 2, 1, 16, 16}, dtype, Values::normal, 1.0f, 4, dtype, other});
  }
}

}  // namespace
}  // namespace ng_test
