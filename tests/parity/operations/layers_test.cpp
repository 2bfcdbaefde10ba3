// SPDX-License-Identifier: Apache-2.0
//
// Claim: embedding, RMS norm, SwiGLU and their gradients have the CPU backend's bytes on the CUDA backend, in every mix
// of f32 and bf16, for odd and whole sizes, with strides, in place where the contract allows it, for every dtype of
// ids; an id out of range is reported with the CPU's words.
// Alone: bin/operations_on_host --gtest_filter='LayersParity*'
#include <array>

#include "backend/cuda_backend.hpp"
#include "narrowgauge/base/error.hpp"
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

class LayersParity : public OperationParity {};

constexpr Dtype kReals[] = {Dtype::f32, Dtype::bf16};
constexpr Dtype kIntegers[] = {Dtype::u8, Dtype::u16, Dtype::u32, Dtype::i32, Dtype::i64};

struct Size {
  std::int64_t rows, cols, padding;
};

TEST_F(LayersParity, Embedding) {
  std::uint32_t seed = 0;
  for (const Dtype ids_type : kIntegers)
    for (const Dtype dtype : kReals)
      for (const Size size : {Size{1, 1, 0}, Size{37, 13, 3}, Size{300, 64, 0}, Size{65, 264, 8}}) {
        ++seed;
        expect_parity("embedding", [&](Backend& b) {
          const std::int64_t vocabulary = 23;
          const Tensor table = tensor_of(b, Dtype::f32, vocabulary, size.cols, Values::special, seed, size.padding);
          const Tensor d_table =
              tensor_of(b, Dtype::f32, vocabulary, size.cols, Values::normal, seed + 1, size.padding);
          const Tensor ids = integers_of(b, ids_type, 1, size.rows, vocabulary, seed);
          const Tensor dy = tensor_of(b, dtype, size.rows, size.cols, Values::wide, seed + 2, size.padding);
          const Tensor y = b.zeros(dtype, size.rows, size.cols + 2);
          b.embedding(table.view, ids.view, col_slice(y.view, 1, size.cols));
          b.embedding_backward(ids.view, dy.view, d_table.view);
          Outputs out;
          out.add(b, "y", y.view);
          out.add(b, "d_table", d_table.view);
          return out;
        });
      }
}

TEST_F(LayersParity, IdsInRows) {
  expect_parity("ids of sequences, with a stride", [](Backend& b) {
    const Tensor table = tensor_of(b, Dtype::f32, 50, 24, Values::normal, 1), y = b.tensor(Dtype::bf16, 60, 24);
    const Tensor ids = integers_of(b, Dtype::i32, 5, 17, 50, 2);
    b.embedding(table.view, col_slice(ids.view, 2, 12), y.view);
    b.embedding_backward(col_slice(ids.view, 2, 12), y.view, table.view);
    Outputs out;
    out.add(b, "y", y.view);
    out.add(b, "table", table.view);
    return out;
  });
}

/// What `run` complains about, without the place in the source.
template <class Run>
std::string complaint(const Run& run) {
  try {
    run();
  } catch (const LogicError& error) {
    const std::string text = error.what();
    return text.substr(text.rfind(": token"));
  }
  return "nothing";
}

TEST_F(LayersParity, BadIdsAreReported) {
  for (const cuda::KernelChoice choice : {cuda::KernelChoice::plain, cuda::KernelChoice::fastest}) {
    const auto b = cuda::make_backend_of({}, choice);
    const Tensor table = b->zeros(Dtype::f32, 7, 8), y = b->zeros(Dtype::f32, 3, 8), ids = b->tensor(Dtype::i64, 1, 3);
    const Tensor logits = b->zeros(Dtype::f32, 3, 7), loss = b->tensor(Dtype::f32, 1, 3);
    std::array<float, 24> host{};
    const auto look = [&] { b->download(host.data(), y.view); };
    using Ids = std::array<std::int64_t, 3>;
    const auto upload = [&](const Ids& list) { b->upload(ids.view, list.data()); };
    upload({0, 6, 3});
    b->embedding(table.view, ids.view, y.view);
    b->embedding_backward(ids.view, y.view, table.view);
    b->cross_entropy(logits.view, ids.view, 1.0f, loss.view, {});
    EXPECT_NO_THROW(look());
    upload({0, 7, -2});
    b->embedding(table.view, ids.view, y.view);
    EXPECT_EQ(complaint(look), ": token 1: id 7 of a vocabulary of 7");
    EXPECT_NO_THROW(look()) << "said once";
    upload({3, 2, -2});
    b->embedding_backward(ids.view, y.view, table.view);
    upload({8, 2, -2});
    b->cross_entropy(logits.view, ids.view, 1.0f, loss.view, {});
    EXPECT_EQ(complaint(look), ": token 2: id -2 of a vocabulary of 7") << "the first operation's";
    b->cross_entropy(logits.view, ids.view, 1.0f, loss.view, {});
    EXPECT_EQ(complaint(look), ": token 0: target 8 of a vocabulary of 7");
    upload({std::int64_t{1} << 40, 0, 0});
    b->embedding(table.view, ids.view, y.view);
    EXPECT_EQ(complaint(look), ": token 0: id 34359738367 of a vocabulary of 7") << "bounded by the word";
    const auto fill_up = [&] {
      upload({0, 0, 0});
      for (int i = 0; i < 200; ++i) b->embedding(table.view, ids.view, y.view);
    };
    EXPECT_NO_THROW(fill_up()) << "more operations than words";
    upload({0, 0, 9});
    b->embedding(table.view, ids.view, y.view);
    EXPECT_EQ(complaint(fill_up), ": token 2: id 9 of a vocabulary of 7");
  }
}

TEST_F(LayersParity, RmsNorm) {
  std::uint32_t seed = 0;
  for (const Dtype x_type : kReals)
    for (const Dtype y_type : kReals)
      for (const Values kind : {Values::normal, Values::wide, Values::special})
        for (const Size size : {Size{1, 1, 0}, Size{9, 7, 2}, Size{21, 64, 0}, Size{13, 300, 0}, Size{5, 1024, 8},
                                Size{33, 2048, 0}, Size{3, 8192, 0}, Size{70, 128, 64}}) {
          ++seed;
          expect_parity("rms_norm", [&](Backend& b) {
            const auto [T, C, padding] = size;
            const Tensor x = tensor_of(b, x_type, T, C, kind, seed, padding);
            const Tensor gain = tensor_of(b, Dtype::f32, 1, C, Values::normal, seed + 1);
            const Tensor y = b.zeros(y_type, T, C + padding), rstd = b.tensor(Dtype::f32, 1, T);
            b.rms_norm(x.view, gain.view, 1e-5f, col_slice(y.view, 0, C), rstd.view);
            Outputs out;
            out.add(b, "y", y.view);
            out.add(b, "rstd", rstd.view);
            return out;
          });
        }
}

TEST_F(LayersParity, RmsNormBackward) {
  std::uint32_t seed = 0;
  for (const Dtype x_type : kReals)
    for (const Dtype dy_type : kReals)
      for (const Dtype dx_type : kReals)
        for (const bool accumulate : {false, true})
          for (const Size size : {Size{1, 1, 0}, Size{9, 7, 2}, Size{200, 64, 0}, Size{13, 300, 0}, Size{130, 1024, 8},
                                  Size{9, 2048, 0}, Size{3, 8192, 0}, Size{300, 40, 0}}) {
            ++seed;
            expect_parity("rms_norm_backward", [&](Backend& b) {
              const auto [T, C, padding] = size;
              const Values kind = seed % 3 == 0 ? Values::special : Values::wide;
              const Tensor x = tensor_of(b, x_type, T, C, kind, seed, padding);
              const Tensor dy = tensor_of(b, dy_type, T, C, kind, seed + 1, padding);
              const Tensor dx = tensor_of(b, dx_type, T, C, Values::normal, seed + 2, padding);
              const Tensor gain = tensor_of(b, Dtype::f32, 1, C, Values::normal, seed + 3);
              const Tensor d_gain = tensor_of(b, Dtype::f32, 1, C, Values::normal, seed + 4);
              const Tensor rstd = tensor_of(b, Dtype::f32, T, 1, Values::normal, seed + 5);
              b.rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dx.view, accumulate, d_gain.view);
              b.rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dy.view, accumulate, d_gain.view);
              Outputs out;
              out.add(b, "dx", dx.view);
              out.add(b, "dx in dy", dy.view);
              out.add(b, "d_gain", d_gain.view);
              return out;
            });
          }
}

TEST_F(LayersParity, Swiglu) {
  std::uint32_t seed = 0;
  for (const Dtype x_type : kReals)
    for (const Dtype y_type : kReals)
      for (const Dtype dx_type : kReals)
        for (const Values kind : {Values::normal, Values::wide, Values::special})
          for (const Size size : {Size{1, 1, 0}, Size{9, 7, 2}, Size{21, 64, 0}, Size{13, 40, 16}, Size{3, 1032, 0}}) {
            ++seed;
            expect_parity("swiglu", [&](Backend& b) {
              const auto [R, F, padding] = size;
              const Tensor x = tensor_of(b, x_type, R, 2 * F, kind, seed, padding);
              const Tensor dy = tensor_of(b, y_type, R, F, kind, seed + 1, padding);
              const Tensor y = b.zeros(y_type, R, F + padding), dx = b.zeros(dx_type, R, 2 * F + padding);
              b.swiglu(x.view, col_slice(y.view, 0, F));
              b.swiglu_backward(x.view, dy.view, col_slice(dx.view, 0, 2 * F));
              Outputs out;
              out.add(b, "y", y.view);
              out.add(b, "dx", dx.view);
              return out;
            });
          }
}

}  // namespace
}  // namespace ng_test
