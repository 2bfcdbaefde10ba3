// SPDX-License-Identifier: Apache-2.0
//
// Claim: quantize and dequantize on the GPU give the CPU backend's bytes, by the plain kernels and by the fast ones,
// over catalogue x rules x roundings x shapes x special values. Needs a GPU; skips, saying why, without. Alone:
// build/release/bin/parity_gpu   (a reduced set for slow instruments: --gtest_filter='Reduced.*')
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "backend/cuda_quantizer.hpp"
#include "cases.hpp"
#include "narrowgauge/numerics/bits.hpp"

namespace ng_test {
namespace {

using namespace ng;
using cuda::KernelChoice;

int threads() {
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency() / 2));
}

/// Skips the test where there is no GPU.
class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto problem = cuda::device_problem()) GTEST_SKIP() << "NOT TESTED, no GPU: " << *problem;
  }
};
using Parity = OnGpu;
using Reduced = OnGpu;

template <class T>
std::vector<T> downloaded(const Buffer& buffer, std::size_t count) {
  std::vector<T> values(count);
  cuda::copy_to_host(values.data(), buffer.data.get(), count * sizeof(T));
  return values;
}

/// A case's tensor in device memory.
struct DeviceTensor {
  Buffer data;
  Buffer row_ids;
  TensorView view;

  explicit DeviceTensor(const ParityCase& c) {
    const std::vector<std::byte> host = c.data();
    data = cuda::allocate(host.size());
    cuda::copy_to_device(data.data.get(), host.data(), host.size());
    view = TensorView{data.data.get(), c.dtype, c.rows, c.cols, c.stride, c.placement};
    if (c.row_ids.empty()) return;
    row_ids = cuda::allocate(c.row_ids.size() * sizeof(std::int64_t));
    cuda::copy_to_device(row_ids.data.get(), c.row_ids.data(), row_ids.bytes);
    view.placement.row_ids = row_ids.as<std::int64_t>();
  }
};

Outcome downloaded_outcome(const QuantizedTensor& q, KernelChoice choice = KernelChoice::fastest) {
  Outcome outcome;
  outcome.codes = downloaded<std::uint8_t>(q.codes, q.codes.bytes);
  if (q.scales.data != nullptr) outcome.scales = downloaded<std::uint8_t>(q.scales, q.scales.bytes);
  if (q.has_tensor_scale())
    outcome.tensor_scales = downloaded<float>(q.tensor_scales, static_cast<std::size_t>(q.groups.count()));
  outcome.nan_inputs = q.nan_inputs;
  const std::size_t count = static_cast<std::size_t>(q.rows * q.cols);
  const Buffer decoded = cuda::allocate(count * sizeof(float));
  const cuda::CudaQuantizer quantizer(choice);
  quantizer.dequantize(q, TensorView{decoded.data.get(), Dtype::f32, q.rows, q.cols, q.cols, {}});
  outcome.decoded = downloaded<float>(decoded, count);
  quantizer.dequantize(q, TensorView{decoded.data.get(), Dtype::bf16, q.rows, q.cols, q.cols, {}});
  outcome.decoded_bf16 = downloaded<std::uint16_t>(decoded, count);
  return outcome;
}

Outcome run_on_gpu(const ParityCase& c, KernelChoice choice) {
  const DeviceTensor x(c);
  return downloaded_outcome(
      cuda::CudaQuantizer(choice).quantize(c.context, x.view, c.groups, c.spec, c.orientation, c.site), choice);
}

void expect_parity(const std::vector<ParityCase>& cases) {
  int failures = 0;
  ASSERT_FALSE(cases.empty());
  for (const ParityCase& c : cases) {
    const Outcome cpu = run_on_cpu(c, threads());
    for (const KernelChoice choice : {KernelChoice::plain, KernelChoice::fastest}) {
      const std::string what = difference(c, cpu, run_on_gpu(c, choice));
      if (!what.empty() && ++failures <= 10)
        ADD_FAILURE() << (choice == KernelChoice::plain ? "plain kernels: " : "fastest kernels: ") << what;
    }
  }
  EXPECT_EQ(failures, 0) << "of " << cases.size() << " cases, plain and fastest kernels";
  std::printf("%zu cases, plain and fastest kernels, %d differ\n", cases.size(), failures);
}

TEST_F(Parity, CatalogueRulesRoundings) {
  expect_parity(catalogue_cases());
}
TEST_F(Parity, PresetsShapes) {
  expect_parity(preset_cases());
}
TEST_F(Parity, EveryBf16) {
  expect_parity(every_bf16_cases());
}
TEST_F(Parity, FastSpecs) {
  expect_parity(fast_cases());
}
TEST_F(Parity, Tiles) {
  expect_parity(tile_cases());
}
TEST_F(Parity, Patches) {
  expect_parity(patch_cases());
}
TEST_F(Reduced, FewOfEach) {
  expect_parity(reduced_cases());
}

TEST_F(Parity, FastSpecsTakeFastKernels) {
  const auto count = [](const std::vector<ParityCase>& cases, cuda::KernelPath path) {
    int taken = 0;
    for (const ParityCase& c : cases) {
      const DeviceTensor x(c);
      cuda::QuantizePlan plan(c.context, x.view, c.groups, c.spec, c.orientation, c.site, KernelChoice::fastest);
      taken += plan.path() == path ? 1 : 0;
    }
    return taken;
  };
  const std::vector<ParityCase> rows = fast_cases();
  EXPECT_EQ(count(rows, cuda::KernelPath::rows), static_cast<int>(rows.size()));
  const std::vector<ParityCase> tiles = tile_cases();
  const int by_tiles = count(tiles, cuda::KernelPath::tiles);
  const int by_rows = count(tiles, cuda::KernelPath::rows);
  EXPECT_EQ(by_tiles + by_rows, static_cast<int>(tiles.size()));
  EXPECT_GT(by_tiles, static_cast<int>(tiles.size()) / 2);
}

// Row and column forms from one read, each with its own transform, rounding stream and tensor scale, are those of two
// quantizations.
TEST_F(Parity, RowAndColumnFromOneRead) {
  int pairs = 0;
  int together = 0;
  for (const ParityCase& c : tile_cases()) {
    if (c.orientation != Orientation::column) continue;
    if (c.dtype == Dtype::f32 && c.spec.tile_cols > 64) continue;  // row forms are made by another kernel
    const DeviceTensor x(c);
    for (const bool transform_row : {false, true}) {
      ParityCase row = c;
      row.orientation = Orientation::row;
      if (!transform_row) row.spec.hadamard = HadamardSpec{};
      row.site.tensor_id ^= 0x5a5a5a5au;
      const auto plan_of = [&](const ParityCase& p) {
        return cuda::QuantizePlan(p.context, x.view, p.groups, p.spec, p.orientation, p.site, KernelChoice::fastest);
      };
      cuda::RowAndColumnPlan both(plan_of(row), plan_of(c));
      both.run(nullptr);
      const auto alone = [&](const ParityCase& p) {
        return downloaded_outcome(cuda::CudaQuantizer(KernelChoice::plain)
                                      .quantize(p.context, x.view, p.groups, p.spec, p.orientation, p.site));
      };
      EXPECT_EQ(difference(row, alone(row), downloaded_outcome(both.row())), "");
      EXPECT_EQ(difference(c, alone(c), downloaded_outcome(both.column())), "");
      ++pairs;
      together += both.from_one_read() ? 1 : 0;
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(together, pairs);
  std::printf("%d pairs, %d from one read\n", pairs, together);
}

// The same of patches, where sizes, groups and formats are what they like.
TEST_F(Parity, RowAndColumnFromOneReadOfPatches) {
  std::vector<ParityCase> cases = patch_cases();
  std::vector<ParityCase> catalogue = catalogue_cases();
  for (std::size_t i = 0; i < catalogue.size(); i += 3) cases.push_back(std::move(catalogue[i]));
  int pairs = 0;
  int together = 0;
  for (const ParityCase& c : cases) {
    if (c.orientation != Orientation::column || c.rows * c.cols == 0) continue;
    const DeviceTensor x(c);
    ParityCase row = c;
    row.orientation = Orientation::row;
    row.spec.hadamard = HadamardSpec{};
    row.site.tensor_id ^= 0x5a5a5a5au;
    const auto plan_of = [&](const ParityCase& p, KernelChoice choice) {
      return cuda::QuantizePlan(p.context, x.view, p.groups, p.spec, p.orientation, p.site, choice);
    };
    cuda::RowAndColumnPlan both(plan_of(row, KernelChoice::fastest), plan_of(c, KernelChoice::fastest));
    both.run(nullptr);
    const auto alone = [&](const ParityCase& p) {
      cuda::QuantizePlan plan = plan_of(p, KernelChoice::plain);
      plan.run(nullptr);
      return downloaded_outcome(plan.result());
    };
    EXPECT_EQ(difference(row, alone(row), downloaded_outcome(both.row())), "");
    EXPECT_EQ(difference(c, alone(c), downloaded_outcome(both.column())), "");
    ++pairs;
    together += both.from_one_read() ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(together, pairs * 3 / 4);
  std::printf("%d pairs, %d from one read\n", pairs, together);
}

std::uint32_t largest_magnitude(const ParityCase& c) {
  const std::vector<std::byte> data = c.data();
  std::uint32_t amax = 0;
  for (std::int64_t r = 0; r < c.rows; ++r)
    for (std::int64_t col = 0; col < c.cols; ++col) {
      std::uint32_t bits = 0;
      if (c.dtype == Dtype::bf16) {
        std::uint16_t half = 0;
        std::memcpy(&half, data.data() + (r * c.stride + col) * 2, 2);
        bits = static_cast<std::uint32_t>(half) << 16;
      } else {
        std::memcpy(&bits, data.data() + (r * c.stride + col) * 4, 4);
      }
      amax = std::max(amax, bits & kMagnitudeMask);
    }
  return amax;
}

// The true amax, given as known, changes nothing; another one changes plain and fast alike.
TEST_F(Parity, KnownAmax) {
  int checked = 0;
  for (const ParityCase& c : fast_cases()) {
    if (!needs_tensor_amax(c.spec.rule) || c.fill == Fill::special || c.fill == Fill::every_bf16) continue;
    const DeviceTensor x(c);
    const std::uint32_t amax = largest_magnitude(c);
    const Buffer known = cuda::allocate(sizeof amax);
    const auto with_amax = [&](std::uint32_t value, KernelChoice choice) {
      cuda::copy_to_device(known.data.get(), &value, sizeof value);
      return downloaded_outcome(cuda::CudaQuantizer(choice).quantize(c.context, x.view, c.groups, c.spec, c.orientation,
                                                                     c.site, known.as<std::uint32_t>()));
    };
    EXPECT_EQ(difference(c, run_on_cpu(c, threads()), with_amax(amax, KernelChoice::fastest)), "");
    const std::uint32_t other = bits_of(float_of(amax) * 0.37f);
    EXPECT_EQ(difference(c, with_amax(other, KernelChoice::plain), with_amax(other, KernelChoice::fastest)), "");
    ++checked;
  }
  EXPECT_GT(checked, 20);
}

}  // namespace
}  // namespace ng_test
