// SPDX-License-Identifier: Apache-2.0
//
// Claim: the CUDA backend's quantizer with its plain kernels, and with those fast ones that are written for the host
// too, run one thread after the other, gives the CPU backend's bytes: addressing, tails, groups and packing are right
// before any GPU sees them. Patches serve every quantizer and every tensor that is not empty.
// Alone: build/release/bin/parity_on_host
#include <gtest/gtest.h>

#include "backend/cuda_quantizer.hpp"
#include "cases.hpp"

namespace ng_test {
namespace {

using namespace ng;
using namespace ng::cuda;

/// A case's tensor, in what is the device's memory here.
struct HostTensor {
  std::vector<std::byte> data;
  TensorView view;

  explicit HostTensor(const ParityCase& c) : data(c.data()) {
    view = TensorView{data.data(), c.dtype, c.rows, c.cols, c.stride, c.placement};
    if (!c.row_ids.empty()) view.placement.row_ids = c.row_ids.data();
  }
};

Outcome outcome_of(const QuantizedTensor& q, KernelChoice choice) {
  Outcome outcome;
  outcome.codes = to_host<std::uint8_t>(q.codes.data.get(), q.codes.bytes);
  if (q.scales.data != nullptr) outcome.scales = to_host<std::uint8_t>(q.scales.data.get(), q.scales.bytes);
  if (q.has_tensor_scale())
    outcome.tensor_scales = to_host<float>(q.tensor_scales.data.get(), static_cast<std::size_t>(q.groups.count()));
  outcome.nan_inputs = q.nan_inputs;
  const CudaQuantizer quantizer(choice);
  outcome.decoded.resize(static_cast<std::size_t>(q.rows * q.cols));
  outcome.decoded_bf16.resize(outcome.decoded.size());
  quantizer.dequantize(q, TensorView{outcome.decoded.data(), Dtype::f32, q.rows, q.cols, q.cols, {}});
  quantizer.dequantize(q, TensorView{outcome.decoded_bf16.data(), Dtype::bf16, q.rows, q.cols, q.cols, {}});
  return outcome;
}

QuantizePlan plan_of(const ParityCase& c, const HostTensor& x, KernelChoice choice) {
  return QuantizePlan(c.context, x.view, c.groups, c.spec, c.orientation, c.site, choice);
}

void expect_equal(const std::vector<ParityCase>& cases) {
  int failures = 0;
  ASSERT_GT(cases.size(), 100u);
  for (const ParityCase& c : cases) {
    const HostTensor x(c);
    const Outcome cpu = run_on_cpu(c, 1);
    for (const KernelChoice choice : {KernelChoice::plain, KernelChoice::fastest}) {
      QuantizePlan plan = plan_of(c, x, choice);
      const bool patches = choice == KernelChoice::fastest && c.rows * c.cols > 0;
      EXPECT_EQ(plan.path(), patches ? KernelPath::patches : KernelPath::plain) << c.name;
      plan.run(nullptr);
      const std::string what = difference(c, cpu, outcome_of(plan.result(), choice));
      if (!what.empty() && ++failures <= 10) ADD_FAILURE() << (patches ? "patches: " : "plain kernels: ") << what;
    }
  }
  EXPECT_EQ(failures, 0) << "of " << cases.size() << " cases";
}

TEST(QuantizeOnHost, CatalogueRulesRoundings) {
  expect_equal(catalogue_cases());
}
TEST(QuantizeOnHost, PresetsShapes) {
  expect_equal(preset_cases());
}
TEST(QuantizeOnHost, EveryBf16) {
  expect_equal(every_bf16_cases());
}

TEST(QuantizeOnHost, Patches) {
  expect_equal(patch_cases());
}

// Both forms from one read, the column transformed or not, each with its own random numbers, are those of two.
TEST(QuantizeOnHost, BothFormsFromOneRead) {
  int together = 0;
  int pairs = 0;
  std::vector<ParityCase> cases = patch_cases();
  std::vector<ParityCase> catalogue = catalogue_cases();
  for (std::size_t i = 0; i < catalogue.size(); i += 3) cases.push_back(std::move(catalogue[i]));
  for (ParityCase& c : cases) {
    if (c.orientation != Orientation::column || c.rows * c.cols == 0) continue;
    ParityCase row = c;
    row.orientation = Orientation::row;
    row.spec.hadamard = HadamardSpec{};
    row.site.tensor_id ^= 0x5a5a5a5au;
    const HostTensor x(c);
    RowAndColumnPlan both(plan_of(row, x, KernelChoice::fastest), plan_of(c, x, KernelChoice::fastest));
    both.run(nullptr);
    const auto alone = [&](const ParityCase& p) {
      QuantizePlan plan = plan_of(p, x, KernelChoice::plain);
      plan.run(nullptr);
      return outcome_of(plan.result(), KernelChoice::plain);
    };
    EXPECT_EQ(difference(row, alone(row), outcome_of(both.row(), KernelChoice::fastest)), "");
    EXPECT_EQ(difference(c, alone(c), outcome_of(both.column(), KernelChoice::fastest)), "");
    ++pairs;
    together += both.from_one_read() ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(together, pairs * 9 / 10) << "of " << pairs;
}

}  // namespace
}  // namespace ng_test
