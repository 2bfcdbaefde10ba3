// SPDX-License-Identifier: Apache-2.0
//
// Claim: the `published` transpose of the oracle and of the program gives every code and scale that the released
// FP8-Flow-MoE kernel gave on an H100 (fp8flow_transpose.h5: even, ragged and wide splits), bit for bit.
// Alone: ctest -R transpose_vs_golden
#include <gtest/gtest.h>

#include <bit>
#include <cstdio>
#include <string>

#include "golden_file.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "oracle/conversions.hpp"
#include "tally.hpp"

namespace ng_golden {
namespace {

constexpr std::size_t kTile = 128;

// What a subject makes of a case: codes [cols, rows], bits of FP32 scales [cols, blocks].
struct Answer {
  std::vector<std::uint32_t> codes, scales;
  std::size_t scale_cols = 0;
};
struct Case {
  std::size_t rows = 0, cols = 0;
  std::vector<std::uint32_t> codes;
  std::vector<float> scales;
  std::vector<std::size_t> splits;
};

Answer by_oracle(const Case& c) {
  ng_oracle::Pow2Tensor x{"e4m3", c.rows, c.cols, 1, kTile, c.codes, {}};
  for (const float scale : c.scales)
    x.exponents.push_back(static_cast<int>(std::bit_cast<std::uint32_t>(scale) >> 23) - 127);
  const ng_oracle::Transposed y = ng_oracle::scaling_aware_transpose(x, c.splits, true);
  Answer answer{y.codes, {}, y.scale_cols};
  for (const int exponent : y.exponents) answer.scales.push_back(static_cast<std::uint32_t>(exponent + 127) << 23);
  return answer;
}

Answer by_program(const Case& c) {
  ng::UnpackedTensor x;
  x.element = ng::FormatId::e4m3;
  x.scale_format = ng::ScaleFormat::f32;
  x.rows = static_cast<std::int64_t>(c.rows);
  x.cols = static_cast<std::int64_t>(c.cols);
  x.tile_cols = kTile;
  x.codes.assign(c.codes.begin(), c.codes.end());
  x.scale_values = c.scales;
  const ng::UnpackedTensor y =
      ng::transpose(x, ng::TransposeMethod::published, std::vector<std::int64_t>(c.splits.begin(), c.splits.end()));
  Answer answer{{y.codes.begin(), y.codes.end()}, {}, static_cast<std::size_t>(y.scale_cols())};
  for (const float scale : y.scale_values) answer.scales.push_back(std::bit_cast<std::uint32_t>(scale));
  return answer;
}

void expect_equal(const char* name, Answer (*subject)(const Case&)) {
  GoldenFile file("fp8flow_transpose.h5");
  Tally tally;
  for (const std::string& group : file.groups()) {
    Case c;
    const auto shape = file.shape(group + "/rowwise_codes");
    c.rows = shape[0];
    c.cols = shape[1];
    c.codes = file.integers(group + "/rowwise_codes");
    c.scales = file.floats(group + "/rowwise_scale_inv");
    for (const std::int64_t extent : file.long_integers(group + "/splits"))
      c.splits.push_back(static_cast<std::size_t>(extent));
    const Answer got = subject(c);
    TallyRow& codes = tally.row("FP8-Flow", "e4m3", "published", group + " codes");
    std::size_t begin = 0, block = 0;
    for (std::size_t s = 0; s < c.splits.size(); ++s) {
      const auto expected = file.integers(group + "/colwise_codes_" + std::to_string(s));  // [cols, rows of the split]
      for (std::size_t i = 0; i < expected.size(); ++i)
        Tally::count(codes, got.codes[i / c.splits[s] * c.rows + begin + i % c.splits[s]], expected[i]);
      begin += c.splits[s];
    }
    TallyRow& scales = tally.row("FP8-Flow", "f32", "published", group + " scales");
    for (std::size_t s = 0; s < c.splits.size(); ++s) {
      const auto expected = file.floats(group + "/colwise_scale_inv_" + std::to_string(s));  // [blocks, cols]
      for (std::size_t i = 0; i < expected.size(); ++i)
        Tally::count(scales, got.scales[i % c.cols * got.scale_cols + block + i / c.cols],
                     std::bit_cast<std::uint32_t>(expected[i]));
      block += expected.size() / c.cols;
    }
  }
  std::printf("%s\n%s", name, tally.table().c_str());
  EXPECT_TRUE(tally.all_equal());
  EXPECT_EQ(tally.compared(), 512u * 256 + 640u * 384 + 256u * 256 + 4u * 256 + 6u * 384 + 2u * 256);
  EXPECT_EQ(file.unread(), std::vector<std::string>{});
}

TEST(TransposeVsGolden, Oracle) {
  expect_equal("oracle", by_oracle);
}
TEST(TransposeVsGolden, Program) {
  expect_equal("program", by_program);
}

}  // namespace
}  // namespace ng_golden
