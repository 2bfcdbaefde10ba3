// SPDX-License-Identifier: Apache-2.0
//
// Claim: loss, long sums, AdamW and normal numbers have the CPU backend's bytes on the CUDA backend: every mix of f32
// and bf16, in place where the contract allows it, lengths around the leaves and levels of the sum's tree, placements.
// Alone: bin/operations_on_host --gtest_filter='OptimizerParity*'
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

class OptimizerParity : public OperationParity {};

constexpr Dtype kReals[] = {Dtype::f32, Dtype::bf16};

TEST_F(OptimizerParity, CrossEntropy) {
  std::uint32_t seed = 0;
  for (const Dtype logits_type : kReals)
    for (const Dtype gradient_type : kReals)
      for (const Dtype targets_type : {Dtype::u8, Dtype::u16, Dtype::u32, Dtype::i32, Dtype::i64})
        for (const Values kind : {Values::normal, Values::wide, Values::special})
          for (const std::int64_t vocabulary : {1, 7, 64, 1003, 2056}) {
            if (vocabulary > 255 && targets_type == Dtype::u8) continue;
            ++seed;
            expect_parity("cross_entropy", [&](Backend& b) {
              const std::int64_t T = vocabulary > 1000 ? 3 : 11;
              const std::int64_t padding = seed % 2 == 0 ? 0 : 8;
              const Tensor logits = tensor_of(b, logits_type, T, vocabulary, kind, seed, padding);
              const Tensor targets = integers_of(b, targets_type, 1, T, vocabulary, seed);
              const Tensor loss = b.tensor(Dtype::f32, 1, T), loss_alone = b.tensor(Dtype::f32, 1, T);
              const Tensor gradient = b.zeros(gradient_type, T, vocabulary + padding);
              const TensorView d_logits = col_slice(gradient.view, 0, vocabulary);
              b.cross_entropy(logits.view, targets.view, 0.3f, loss_alone.view, {});
              b.cross_entropy(logits.view, targets.view, 1.0f / 48.0f, loss.view, d_logits);
              b.cross_entropy(logits.view, targets.view, 0.3f, loss.view, logits.view);
              Outputs out;
              out.add(b, "loss alone", loss_alone.view);
              out.add(b, "loss", loss.view);
              out.add(b, "d_logits", gradient.view);
              out.add(b, "d_logits in logits", logits.view);
              return out;
            });
          }
}

TEST_F(OptimizerParity, CrossEntropyOfALargeVocabulary) {
  for (const Dtype dtype : kReals)
    expect_parity("cross_entropy, 50304", [&](Backend& b) {
      const Tensor logits = tensor_of(b, dtype, 2, 50304, Values::normal, 5);
      const Tensor targets = integers_of(b, Dtype::i32, 1, 2, 50304, 6), loss = b.tensor(Dtype::f32, 1, 2);
      b.cross_entropy(logits.view, targets.view, 0.5f, loss.view, logits.view);
      Outputs out;
      out.add(b, "loss", loss.view);
      out.add(b, "d_logits", logits.view);
      return out;
    });
}

TEST_F(OptimizerParity, Sums) {
  std::uint32_t seed = 0;
  for (const Dtype dtype : kReals)
    for (const Values kind : {Values::wide, Values::special})
      for (const std::int64_t cols :
           {1, 255, 256, 257, 1024, 8191, 8192, 16384, 16640, 65 * 256, 70001, 64 * 64 * 256 + 1}) {
        ++seed;
        if (cols > 1000000 && seed % 4 != 0) continue;
        expect_parity("sums of " + std::to_string(cols), [&](Backend& b) {
          const Tensor flat = tensor_of(b, dtype, 1, cols, kind, seed);
          Outputs out;
          out.add("sum", b.sum(flat.view));
          out.add("sum of squares", b.sum_of_squares(flat.view));
          if (cols > 10000) return out;
          const Tensor rows = tensor_of(b, dtype, 5, cols, kind, seed + 1, 3);
          out.add("sum of rows", b.sum(rows.view));
          out.add("sum of squares of rows", b.sum_of_squares(rows.view));
          return out;
        });
      }
  expect_parity("sum of nothing", [](Backend& b) {
    const Tensor nothing = b.tensor(Dtype::f32, 0, 5);
    Outputs out;
    out.add("sum", b.sum(nothing.view));
    return out;
  });
}

TEST_F(OptimizerParity, AdamW) {
  AdamWSpec spec;
  StepScalars scalars;
  scalars.learning_rate = 3e-4f;
  scalars.clip_factor = 0.37f;
  scalars.bias_correction1 = 2.9f;
  scalars.bias_correction2 = 6.1f;
  std::uint32_t seed = 0;
  for (const Values kind : {Values::normal, Values::wide, Values::special})
    for (const bool decay : {false, true})
      for (const std::int64_t count : {1, 7, 64, 1003, 4096}) {
        ++seed;
        expect_parity("adamw", [&](Backend& b) {
          const Tensor master = tensor_of(b, Dtype::f32, 1, count, kind, seed);
          const Tensor gradient = tensor_of(b, Dtype::f32, 1, count, kind, seed + 1);
          const Tensor first = tensor_of(b, Dtype::f32, 1, count, Values::normal, seed + 2);
          const Tensor second = tensor_of(b, Dtype::f32, 1, count, kind, seed + 3);
          for (int step = 0; step < 2; ++step)
            b.adamw(spec, scalars, {master.view, gradient.view, first.view, second.view, decay});
          Outputs out;
          out.add(b, "master", master.view);
          out.add(b, "gradient", gradient.view);
          out.add(b, "first", first.view);
          out.add(b, "second", second.view);
          return out;
        });
      }
}

TEST_F(OptimizerParity, NormalNumbers) {
  const RandomStream stream{42, RandomPurpose::initial_weights, 0x1234567u, 3};
  expect_parity("fill_normal", [&](Backend& b) {
    Outputs out;
    const Tensor whole = b.tensor(Dtype::f32, 33, 65);
    b.fill_normal(whole.view, stream, 0.02);
    out.add(b, "whole", whole.view);
    const Tensor block = b.zeros(Dtype::f32, 9, 21);
    TensorView part = col_slice(block.view, 1, 19);
    part.placement = Placement{1000, 77, 12, 5, nullptr};
    b.fill_normal(part, stream, 1.0);
    out.add(b, "part", block.view);
    const Tensor rows = b.tensor(Dtype::i64, 1, 9);
    const std::int64_t ids[9] = {4, 3, 999, 0, 5000000000, 17, 1, 2, 40};
    b.upload(rows.view, ids);
    part.placement.row_ids = rows.view.as<const std::int64_t>();
    b.fill_normal(part, stream, 3.5);
    out.add(b, "rows by id", block.view);
    return out;
  });
}

}  // namespace
}  // namespace ng_test
