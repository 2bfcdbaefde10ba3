// SPDX-License-Identifier: Apache-2.0
//
// Claim: backends are made by name, what is not there says why, memory is aligned and a request that cannot be met is
// an error of the machine; sums of measures merge in order. Alone: bin/unit_backend_layers
// --gtest_filter='Registry*:Memory*:Merge*'
#include "narrowgauge/base/error.hpp"
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

TEST(Registry, MakesBackendsByName) {
  EXPECT_EQ(ng::make_backend("cpu", {})->name(), "cpu");
  EXPECT_THROW(ng::make_backend("gpu", {}), ng::UserError);
  ng::BackendOptions none;
  none.threads = 0;
  EXPECT_THROW(ng::make_backend("cpu", none), ng::UserError);
  if (!ng::cuda_absent_reason().empty()) {
    try {
      ng::make_backend("cuda", {});
      FAIL() << "made an absent backend";
    } catch (const ng::UserError& error) {
      EXPECT_NE(std::string(error.what()).find(ng::cuda_absent_reason()), std::string::npos) << error.what();
    }
  }
}

TEST(Memory, IsAlignedAndCopiedWithStrides) {
  const auto b = cpu();
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1000}})
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b->allocate(bytes).data.get()) % 64, 0u);
  const Tensor t = b->zeros(Dtype::f32, 4, 6);
  const std::vector<float> data = {1, 2, 3, 4};
  const TensorView inner = col_slice(row_slice(t.view, 1, 2), 3, 2);
  b->upload(inner, data.data());
  std::vector<float> back(4);
  b->download(back.data(), inner);
  EXPECT_EQ(back, data);
  EXPECT_EQ(t.view.as<float>()[6 + 3], 1.0f);
  EXPECT_EQ(t.view.as<float>()[12 + 4], 4.0f);
  b->fill_zero(inner);
  EXPECT_EQ(b->sum_of_squares(t.view), 0.0);
}

// A sanitizer's allocator aborts instead.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define NG_TEST_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NG_TEST_SANITIZED
#endif
#if !defined(NG_TEST_SANITIZED)
TEST(Memory, TooMuchIsAnErrorOfTheMachine) {
  EXPECT_THROW(cpu()->allocate(std::size_t{1} << 60), ng::MachineError);
}
#endif

TEST(Merge, AddsSumsAndKeepsExtremes) {
  ng::MeasureSums a, b, nothing;
  a.count = 3, a.error2 = 0.5, a.max_abs_error = 2, a.scale_count = 2, a.scale_log2_min = 1, a.scale_log2_max = 4;
  b.count = 4, b.error2 = 0.25, b.max_abs_error = 1, b.scale_count = 1, b.scale_log2_min = -3, b.scale_log2_max = 2;
  ng::MeasureSums sum = nothing;
  merge(sum, a);
  EXPECT_EQ(sum.scale_log2_min, 1.0);  // not the 0 of nothing
  merge(sum, b);
  merge(sum, nothing);
  EXPECT_EQ(sum.count, 7.0);
  EXPECT_EQ(sum.error2, 0.75);
  EXPECT_EQ(sum.max_abs_error, 2.0);
  EXPECT_EQ(sum.scale_log2_min, -3.0);
  EXPECT_EQ(sum.scale_log2_max, 4.0);
}

}  // namespace
}  // namespace layers_test
