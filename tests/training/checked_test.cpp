// SPDX-License-Identifier: Apache-2.0
//
// Claim: the checking backend changes nothing, sees every operation of a training run, and stops at the first byte in
// which two backends differ, naming operation, site and place.
// Alone: ctest -R training_checked
#include <gtest/gtest.h>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "training/small_run.hpp"

namespace {

using namespace ng;

class CheckedRecipe : public testing::TestWithParam<const char*> {};

TEST_P(CheckedRecipe, ARunIsTheSame) {
  const ng_test::Folder folder(std::string("checked-") + GetParam());
  ng::RunRequest request = ng_test::small_request(GetParam(), {{"train.steps", "2"}, {"train.batch", "2"}});
  const ng_test::End plain = ng_test::run(folder, "plain", request);
  request.backend = "checked:cpu/cpu";
  const ng_test::End checked = ng_test::run(folder, "checked", request);
  ng_test::expect_equal(plain, checked);
  EXPECT_TRUE(ng_test::same_bytes(plain.records, checked.records));
  EXPECT_EQ(plain.recorder, checked.recorder);
}

INSTANTIATE_TEST_SUITE_P(Recipes, CheckedRecipe, testing::Values("f32", "nvfp4", "fp8_tensor_delayed", "fp4_dge_occ"),
                         [](const auto& parameter) { return std::string(parameter.param); });

/// A matrix of small odd numbers over 16.
Tensor matrix(Backend& backend, Dtype dtype, std::int64_t rows, std::int64_t cols) {
  std::vector<float> numbers;
  for (std::int64_t i = 0; i < rows * cols; ++i)
    numbers.push_back(static_cast<float>((i * 7919) % 61 * 2 - 61) / 16.0f);
  const Tensor wide = backend.tensor(Dtype::f32, rows, cols);
  backend.upload(wide.view, numbers.data());
  if (dtype == Dtype::f32) return wide;
  const Tensor rounded = backend.tensor(dtype, rows, cols);
  backend.cast(wide.view, rounded.view);
  return rounded;
}

TEST(Checked, AnotherArithmeticIsFoundAtItsProduct) {
  BackendOptions options;
  auto first = make_cpu_backend(options);
  options.arithmetic = Arithmetic::hopper;
  const auto backend = make_checked_backend(std::move(first), make_cpu_backend(options));
  EXPECT_EQ(backend->name(), "checked:cpu/cpu");
  Form a, b;
  // Terms of very different sizes: the tensor core cuts what the FP32 chain rounds.
  a.plain = matrix(*backend, Dtype::bf16, 3, 320);
  b.plain = matrix(*backend, Dtype::bf16, 5, 320);
  const std::vector<std::uint16_t> huge = {0x4b80, 0x3f81};  // 2^24, then 1 + 2^-7
  backend->upload(TensorView{a.plain.view.data, Dtype::bf16, 1, 2, 2, {}}, huge.data());
  const Tensor out = backend->zeros(Dtype::f32, 3, 5);
  Product product;
  const Site site{"layer.0/test", 0, 0};
  product.site = &site;
  product.a = &a;
  product.b = &b;
  product.out = out.view;
  try {
    backend->matmul(StepContext{}, product);
    FAIL() << "the two arithmetics gave the same bytes";
  } catch (const LogicError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("differ in matmul layer.0/test: argument "), std::string::npos) << what;
    EXPECT_NE(what.find("first (0, 0): 0x"), std::string::npos) << what;
  }
}

TEST(Checked, UnknownNamesSayWhatThereIs) {
  for (const char* name : {"checked:", "checked:cpu", "checked:cpu/tpu", "rocm"}) {
    try {
      (void)make_backend(name, {});
      FAIL() << name;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("checked:cuda/cpu"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
