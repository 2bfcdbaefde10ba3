// SPDX-License-Identifier: Apache-2.0
//
// Layers, loss and optimizer at the sizes of a model with a hidden width of 2048. Bytes by definition: a backward norm
// reads x and dy once although the gradient of the gain reads them again.
#include <vector>

#include "bench/kernel_bench.hpp"

namespace ng::cuda {

namespace {

constexpr std::int64_t kTokens = 16384;
constexpr std::int64_t kHidden = 2048;
constexpr std::int64_t kWidth = 8192;
constexpr std::int64_t kVocabulary = 50304;
constexpr std::int64_t kParameters = std::int64_t{1} << 28;

double bytes_of(std::initializer_list<const Tensor*> tensors) {
  double bytes = 0.0;
  for (const Tensor* tensor : tensors)
    bytes += static_cast<double>(tensor->view.count()) * static_cast<double>(size_of(tensor->view.dtype));
  return bytes;
}

/// Ids of which a few are frequent.
Tensor some_ids(Backend& backend) {
  std::vector<std::int32_t> ids;
  std::uint64_t state = 1;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double u = static_cast<double>(state >> 32) / 4294967296.0;
    ids.push_back(static_cast<std::int32_t>(u * u * u * static_cast<double>(kVocabulary)));
  }
  const Tensor tensor = backend.tensor(Dtype::i32, 1, kTokens);
  backend.upload(tensor.view, ids.data());
  return tensor;
}

void bench_norms(KernelBench& bench, Dtype dtype) {
  const std::string type(name_of(dtype));
  const std::string forward = "layers/rms_norm " + type, backward = "layers/rms_norm backward " + type;
  if (!bench.wants(forward) && !bench.wants(backward)) return;
  Backend& b = bench.backend();
  const std::string shape = shape_text(dtype, kTokens, kHidden);
  const Tensor x = bench.normal(dtype, kTokens, kHidden), y = bench.normal(dtype, kTokens, kHidden);
  const Tensor gain = bench.normal(Dtype::f32, 1, kHidden), d_gain = bench.normal(Dtype::f32, 1, kHidden);
  const Tensor rstd = b.tensor(Dtype::f32, 1, kTokens), dx = bench.normal(dtype, kTokens, kHidden);
  b.rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
  bench.memory_bound(forward, shape, bytes_of({&x, &y}),
                     [&] { b.rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view); });
  bench.memory_bound(backward, shape + ", added to dx", bytes_of({&x, &y, &dx, &dx}),
                     [&] { b.rms_norm_backward(x.view, gain.view, rstd.view, y.view, dx.view, true, d_gain.view); });
}

void bench_swiglu(KernelBench& bench, Dtype dtype) {
  const std::string type(name_of(dtype));
  const std::string forward = "layers/swiglu " + type, backward = "layers/swiglu backward " + type;
  if (!bench.wants(forward) && !bench.wants(backward)) return;
  Backend& b = bench.backend();
  const std::string shape = shape_text(dtype, kTokens, kWidth);
  const Tensor x = bench.normal(dtype, kTokens, 2 * kWidth), y = bench.normal(dtype, kTokens, kWidth);
  const Tensor dx = bench.normal(dtype, kTokens, 2 * kWidth);
  bench.memory_bound(forward, shape, bytes_of({&x, &y}), [&] { b.swiglu(x.view, y.view); });
  bench.memory_bound(backward, shape, bytes_of({&x, &y, &dx}), [&] { b.swiglu_backward(x.view, y.view, dx.view); });
}

void bench_heads(KernelBench& bench) {
  const char* const names[] = {"layers/rope", "layers/qk_norm", "layers/qk_norm backward"};
  if (!bench.wants(names[0]) && !bench.wants(names[1]) && !bench.wants(names[2])) return;
  Backend& b = bench.backend();
  const AttentionShape s{4, kTokens / 4, 16, 4, 128, 128};
  const std::string shape = shape_text(Dtype::bf16, kTokens, s.qkv_cols()) + ", 16 + 4 heads of 128";
  const Tensor qkv = bench.normal(Dtype::bf16, kTokens, s.qkv_cols()),
               out = b.zeros(Dtype::bf16, kTokens, s.qkv_cols());
  const Tensor table = bench.normal(Dtype::f32, s.sequence_length, s.head_dim);
  const Tensor gain = bench.normal(Dtype::f32, 1, s.head_dim), d_gain = b.zeros(Dtype::f32, 1, s.head_dim);
  const Tensor rstd = b.tensor(Dtype::f32, kTokens, s.heads + s.kv_heads);
  const double turned = bytes_of({&qkv}) * 20.0 / 24.0;  // queries and keys
  bench.memory_bound(names[0], shape, 2.0 * turned, [&] { b.rope(s, table.view, qkv.view, false); });
  b.qk_norm(s, QkNorm::head, qkv.view, gain.view, gain.view, 1e-5f, out.view, rstd.view);
  bench.memory_bound(names[1], shape, bytes_of({&qkv, &out}),
                     [&] { b.qk_norm(s, QkNorm::head, qkv.view, gain.view, gain.view, 1e-5f, out.view, rstd.view); });
  bench.memory_bound(names[2], shape, 3.0 * turned, [&] {
    b.qk_norm_backward(s, QkNorm::head, qkv.view, gain.view, gain.view, rstd.view, out.view, d_gain.view, d_gain.view);
  });
}

void bench_embedding(KernelBench& bench) {
  const char* const names[] = {"layers/embedding", "layers/embedding backward"};
  if (!bench.wants(names[0]) && !bench.wants(names[1])) return;
  Backend& b = bench.backend();
  const std::string shape = shape_text(Dtype::bf16, kTokens, kHidden) + ", vocabulary 50304";
  const Tensor table = bench.normal(Dtype::f32, kVocabulary, kHidden), ids = some_ids(b);
  const Tensor y = bench.normal(Dtype::bf16, kTokens, kHidden);
  bench.memory_bound(names[0], shape, 3.0 * bytes_of({&y}), [&] { b.embedding(table.view, ids.view, y.view); });
  bench.memory_bound(names[1], shape, 5.0 * bytes_of({&y}),
                     [&] { b.embedding_backward(ids.view, y.view, table.view); });
}

void bench_loss(KernelBench& bench, Dtype dtype) {
  const std::string name = "loss/cross_entropy " + std::string(name_of(dtype));
  if (!bench.wants(name)) return;
  Backend& b = bench.backend();
  const Tensor logits = bench.normal(dtype, kTokens, kVocabulary), d_logits = b.tensor(dtype, kTokens, kVocabulary);
  const Tensor targets = some_ids(b), loss = b.tensor(Dtype::f32, 1, kTokens);
  bench.memory_bound(name, shape_text(dtype, kTokens, kVocabulary), bytes_of({&logits, &d_logits}),
                     [&] { b.cross_entropy(logits.view, targets.view, 1e-4f, loss.view, d_logits.view); });
}

void bench_optimizer(KernelBench& bench) {
  const char* const names[] = {"optimizer/adamw", "optimizer/sum_of_squares", "optimizer/cast to bf16"};
  if (!bench.wants(names[0]) && !bench.wants(names[1]) && !bench.wants(names[2])) return;
  Backend& b = bench.backend();
  const std::string shape = shape_text(Dtype::f32, 1, kParameters);
  const Tensor master = bench.normal(Dtype::f32, 1, kParameters), gradient = bench.normal(Dtype::f32, 1, kParameters);
  const Tensor first = b.zeros(Dtype::f32, 1, kParameters), second = b.zeros(Dtype::f32, 1, kParameters);
  const Tensor narrow = b.tensor(Dtype::bf16, 1, kParameters);
  StepScalars scalars;
  scalars.learning_rate = 1e-4f;
  bench.memory_bound(names[0], shape, 7.0 * bytes_of({&master}), [&] {
    b.adamw({}, scalars, {master.view, gradient.view, first.view, second.view, true});
  });
  bench.memory_bound(names[1], shape, bytes_of({&gradient}), [&] { (void)b.sum_of_squares(gradient.view); });
  bench.memory_bound(names[2], shape, bytes_of({&master, &narrow}), [&] { b.cast(master.view, narrow.view); });
}

}  // namespace

void bench_layers(KernelBench& bench) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    bench_norms(bench, dtype);
    bench_swiglu(bench, dtype);
    bench_loss(bench, dtype);
  }
  const std::string addition = "layers/add bf16";
  if (bench.wants(addition)) {
    Backend& b = bench.backend();
    const Tensor x = bench.normal(Dtype::bf16, kTokens, kWidth), y = bench.normal(Dtype::bf16, kTokens, kWidth);
    const Tensor out = b.tensor(Dtype::bf16, kTokens, kWidth);
    bench.memory_bound(addition, shape_text(Dtype::bf16, kTokens, kWidth), bytes_of({&x, &y, &out}),
                       [&] { b.add(x.view, y.view, out.view); });
  }
  bench_heads(bench);
  bench_embedding(bench);
  bench_optimizer(bench);
}

}  // namespace ng::cuda
