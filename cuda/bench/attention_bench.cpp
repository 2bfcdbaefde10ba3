// SPDX-License-Identifier: Apache-2.0
//
// Speeds of attention against FP32 multiply-adds. Operations by definition: of the pairs of a query and a key that it
// sees, a product over D and one over Dv forward, three over D and two over Dv backward (what a kernel makes again does
// not count).
#include "bench/kernel_bench.hpp"
#include "narrowgauge/backend/attention_shape.hpp"

namespace ng::cuda {

namespace {

struct Entry {
  const char* name;
  AttentionShape shape;
  Dtype dtype = Dtype::bf16;
};

constexpr Entry kEntries[] = {
    {"", {8, 2048, 16, 16, 128, 128}},
    {" groups of 4", {8, 2048, 16, 4, 128, 128}},
    {" narrow", {8, 2048, 16, 16, 64, 64}},
    {" latent", {8, 2048, 16, 16, 192, 128}},
    {" f32", {8, 2048, 16, 16, 128, 128}, Dtype::f32},
};

}  // namespace

void bench_attention(KernelBench& bench) {
  for (const Entry& entry : kEntries) {
    const std::string forward = std::string("attention/forward") + entry.name;
    const std::string backward = std::string("attention/backward") + entry.name;
    if (!bench.wants(forward) && !bench.wants(backward)) continue;
    const AttentionShape& s = entry.shape;
    Backend& b = bench.backend();
    const Tensor qkv = bench.normal(entry.dtype, s.tokens(), s.qkv_cols());
    const Tensor d_out = bench.normal(entry.dtype, s.tokens(), s.out_cols());
    const Tensor out = b.tensor(entry.dtype, s.tokens(), s.out_cols());
    const Tensor d_qkv = b.tensor(entry.dtype, s.tokens(), s.qkv_cols());
    const Tensor log_sum_exp = b.tensor(Dtype::f32, s.tokens(), s.heads);
    const double pairs = static_cast<double>(s.tokens()) * static_cast<double>(s.heads) *
                         static_cast<double>(s.sequence_length + 1) / 2.0;
    const auto D = static_cast<double>(s.head_dim);
    const auto V = static_cast<double>(s.value_dim);
    const std::string shape = std::to_string(s.sequences) + "x" + std::to_string(s.sequence_length) + ", " +
                              std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
                              std::to_string(s.head_dim) + "/" + std::to_string(s.value_dim) + " " +
                              std::string(name_of(entry.dtype));
    const auto run_forward = [&] { b.attention(s, qkv.view, out.view, log_sum_exp.view); };
    run_forward();
    if (bench.wants(forward))
      bench.compute_bound(forward, shape, 2.0 * pairs * (D + V), Ceiling::fp32_fma, run_forward);
    if (bench.wants(backward))
      bench.compute_bound(backward, shape, 2.0 * pairs * (3.0 * D + 2.0 * V), Ceiling::fp32_fma, [&] {
        b.attention_backward(s, qkv.view, out.view, log_sum_exp.view, d_out.view, d_qkv.view);
      });
  }
}

}  // namespace ng::cuda
