// SPDX-License-Identifier: Apache-2.0
//
// Claim: `quantize --as ...,outlier=...` writes the oracle's sparse residual beside the codes, in rows as quantized,
// readable with nothing but HDF5; without a residual there is no such group; `decode=te` writes the amax that its
// decoding needs, and bf16 codes are written as HDF5 readers know them. Alone: build/bin/cli_outlier
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "cli/process.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "oracle/blocks.hpp"
#include "oracle/outliers.hpp"

namespace ng::test {
namespace {

constexpr std::int64_t kRows = 21;
constexpr std::int64_t kCols = 130;

std::vector<float> matrix() {
  std::mt19937 engine(6);
  std::normal_distribution<float> normal;
  std::vector<float> x(kRows * kCols);
  for (float& v : x) v = normal(engine) * (engine() % 30 == 0 ? 40.0f : 1.0f);
  return x;
}

std::string input(const TemporaryFolder& folder) {
  write_npy(folder.file("x.npy"), Array::from<float>({kRows, kCols}, matrix()));
  return folder.file("x.npy");
}

TEST(CliOutlier, WritesTheOraclesResidual) {
  const TemporaryFolder folder;
  const std::string in = input(folder), out = folder.file("q.h5");
  for (const bool column : {false, true}) {
    for (const std::string format : {"bf16", "e4m3", "e5m2"}) {
      for (const bool whole : {false, true}) {
        const std::string scope = whole ? "tensor" : "row";
        const std::string text = "fp4_token,outlier=0.97:" + scope + (format == "bf16" ? "" : ":" + format);
        SCOPED_TRACE(text + (column ? " column" : " row"));
        const Outcome ran =
            narrowgauge({"quantize", in, "--as", text, "--axis", column ? "column" : "row", "--out", out});
        ASSERT_EQ(ran.code, 0) << ran.err;
        const std::vector<float> x = column ? ng_oracle::transposed(matrix(), kRows, kCols) : matrix();
        const std::size_t rows = column ? kCols : kRows, cols = column ? kRows : kCols;
        const auto expected = ng_oracle::split_outliers(x, rows, cols, 0.97, whole, format);
        const hdf5::File file(out, hdf5::Mode::read);
        const hdf5::Group residual = file.root().group("residual");
        EXPECT_EQ(residual.attribute_number("rows"), static_cast<double>(rows));
        EXPECT_EQ(residual.attribute_number("cols"), static_cast<double>(cols));
        const Array pointers = residual.read("row_pointers"), columns = residual.read("columns");
        EXPECT_TRUE(std::ranges::equal(pointers.as<std::int64_t>(), expected.row_pointers));
        EXPECT_TRUE(std::ranges::equal(columns.as<std::int32_t>(), expected.columns));
        const Array values = residual.read("values");
        ASSERT_EQ(values.count(), static_cast<std::int64_t>(expected.codes.size()));
        if (format == "bf16") {  // an ordinary tensor
          const std::vector<float> decoded = values.as_f32();
          for (std::size_t i = 0; i < decoded.size(); ++i)
            EXPECT_EQ(std::bit_cast<std::uint32_t>(decoded[i]) >> 16, expected.codes[i]);
        } else {
          EXPECT_EQ(values.format, format);
          EXPECT_TRUE(std::ranges::equal(values.as<std::uint8_t>(), expected.codes));
        }
        // The codes are those of the clamped matrix.
        ng_oracle::BlockSpec spec;
        spec.tile_cols = 0;
        spec.scale_format = ng_oracle::ScaleFormat::f32;
        spec.rule = ng_oracle::ScaleRule::absmax;
        auto codes = ng_oracle::quantize(expected.clamped, rows, cols, spec).codes;
        if (column) codes = ng_oracle::transposed(codes, rows, cols);
        EXPECT_TRUE(std::ranges::equal(file.root().read("codes").as<std::uint8_t>(), codes));
      }
    }
  }
}

TEST(CliOutlier, ClampingAloneKeepsNone) {
  const TemporaryFolder folder;
  const std::string in = input(folder);
  double errors[2];
  for (const bool kept : {false, true}) {
    const std::string out = folder.file("q.h5");
    const Outcome ran =
        narrowgauge({"quantize", in, "--as", kept ? "fp4_token,outlier=0.97:row" : "fp4_token,outlier=0.97:row:none",
                     "--out", out});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const hdf5::File file(out, hdf5::Mode::read);
    EXPECT_EQ(file.root().exists("residual"), kept);
    errors[kept ? 1 : 0] = file.root().group("measures").attribute_number("rel_mse");
  }
  EXPECT_LT(errors[1], errors[0] / 4);
}

TEST(CliOutlier, DecodeTeWritesItsAmax) {
  const TemporaryFolder folder;
  const std::string in = input(folder), out = folder.file("q.h5");
  const Outcome ran = narrowgauge({"quantize", in, "--as", "nvfp4,decode=te", "--out", out});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const hdf5::File file(out, hdf5::Mode::read);
  EXPECT_EQ(file.root().read("tensor_amax").as<float>()[0], ng_oracle::amax_of(matrix()));
}

TEST(CliOutlier, Bf16CodesAreBf16) {
  const TemporaryFolder folder;
  const std::string in = input(folder), out = folder.file("q.h5");
  const Outcome ran = narrowgauge({"quantize", in, "--as", "bf16", "--out", out});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const hdf5::File file(out, hdf5::Mode::read);
  const std::vector<float> codes = file.root().read("codes").as_f32();
  const std::vector<float> x = matrix();
  for (std::size_t i = 0; i < x.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(codes[i]), std::bit_cast<std::uint32_t>(ng_oracle::round_to_bf16(x[i])));
}

}  // namespace
}  // namespace ng::test
