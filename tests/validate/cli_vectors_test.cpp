// SPDX-License-Identifier: Apache-2.0
//
// Claim: the commands vectors, transpose and recode do what their pages say: a copy of the expected vectors passes
// validate and one changed bit fails it, the same seed gives the same bytes in every form; the golden FP8-Flow
// transpose comes out of the program; MXFP4 to FP8 and back loses nothing. Alone: build/bin/cli_validate
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>

#include "cli/process.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"

namespace ng::test {
namespace {

// 40 x 96 sums of uniforms, quantized into q.h5.
void quantized(const TemporaryFolder& folder, const std::string& spec) {
  std::vector<float> x;
  std::uint32_t state = 7;
  for (int i = 0; i < 40 * 96; ++i) {
    float sum = 0;
    for (int k = 0; k < 6; ++k) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<float>(static_cast<std::int32_t>(state) >> 8);
    }
    x.push_back(std::ldexp(sum, -22 - i / 96 % 5));
  }
  write_npy(folder.file("x.npy"), Array::from<float>({40, 96}, x));
  const Outcome made = narrowgauge({"quantize", folder.file("x.npy"), "--as", spec, "--out", folder.file("q.h5")});
  EXPECT_EQ(made.code, 0) << made.err;
}

TEST(Vectors, CloseTheLoop) {
  TemporaryFolder folder;
  const std::vector<std::vector<std::string>> subjects = {
      {"--as", "mxfp4"},
      {"--as", "nvfp4"},
      {"--as", "e4m3,overflow=nonfinite"},
      {"--as", "fp8_128x128"},
      {"--as", "bf16"},
      {"--as", "nvfp4,hadamard=16:te_fixed:bf16"},
      {"--as", "mxfp4,rounding=stochastic:8"},
      {"--matmul", "a_format=e4m3,b_format=e5m2,arithmetic=hopper"},
      {"--matmul", "a_format=bf16,b_format=bf16,arithmetic=ieee,out_format=bf16"}};
  for (const auto& subject : subjects) {
    SCOPED_TRACE(subject[1]);
    for (const char* name : {"v", "w"}) {
      const Outcome made = narrowgauge({"vectors", subject[0], subject[1], "--seed", "3", "--out", folder.file(name)});
      ASSERT_EQ(made.code, 0) << made.err;
    }
    EXPECT_EQ(read_file(folder.file("v/manifest.json")), read_file(folder.file("w/manifest.json")));
    EXPECT_EQ(read_file(folder.file("v/vectors.h5")), read_file(folder.file("w/vectors.h5")));
    // Without a kernel's output there is nothing to judge.
    EXPECT_EQ(narrowgauge({"validate", folder.file("v/vectors.h5")}).code, 2);
    // A kernel that is right, and one with one bit wrong in one case.
    std::string first;
    {
      hdf5::File file(folder.file("v/vectors.h5"), hdf5::Mode::read_write);
      hdf5::Group root = file.root();
      for (const std::string& name : root.children())
        for (const std::string& part : root.group(name + "/expected").datasets())
          (void)root.create(name + "/out/" + part, root.read(name + "/expected/" + part));
      first = root.children().front();
      file.close();
    }
    const Outcome equal = narrowgauge({"validate", folder.file("v/vectors.h5")});
    EXPECT_EQ(equal.code, 0) << equal.out << equal.err;
    {
      hdf5::File file(folder.file("v/vectors.h5"), hdf5::Mode::read_write);
      const std::string part = file.root().group(first + "/out").datasets().front();
      hdf5::Dataset dataset = file.root().dataset(first + "/out/" + part);
      Array array = dataset.read();
      array.data[array.data.size() / 2] ^= std::byte{1};
      dataset.write(array.dtype, array.data);
      file.close();
    }
    const Outcome wrong = narrowgauge({"validate", folder.file("v/vectors.h5")});
    EXPECT_EQ(wrong.code, 1) << wrong.out << wrong.err;
    EXPECT_NE(wrong.out.find(": 1 of "), std::string::npos) << wrong.out;
  }
}

TEST(Vectors, HexAndNpyHoldTheSameBits) {
  TemporaryFolder folder;
  for (const char* form : {"npy", "hex"})
    ASSERT_EQ(
        narrowgauge({"vectors", "--as", "mxfp4", "--cases", "boundary", "--form", form, "--out", folder.file(form)})
            .code,
        0);
  const Array x = read_npy(folder.file("npy/boundary_codes.in.x.npy"));
  std::ifstream hex(folder.file("hex/boundary_codes.in.x.hex"));
  std::string line;
  std::size_t i = 0;
  for (; std::getline(hex, line); ++i) {
    ASSERT_EQ(line.size(), 8u);
    ASSERT_EQ(std::stoul(line, nullptr, 16), std::bit_cast<std::uint32_t>(x.as<float>()[i]));
  }
  EXPECT_EQ(static_cast<std::int64_t>(i), x.count());
  EXPECT_EQ(narrowgauge({"vectors", "--as", "mxfp4", "--matmul", "x", "--out", folder.file("n")}).code, 2);
  EXPECT_EQ(narrowgauge({"vectors", "--out", folder.file("n")}).code, 2);
}

// The golden transpose, put into the program's own layout.
TEST(Transpose, TheGoldenKernelThroughTheProgram) {
  TemporaryFolder folder;
  const hdf5::File golden(NG_SOURCE_DIR "/data/golden/fp8flow_transpose.h5", hdf5::Mode::read);
  const hdf5::Group root = golden.root();
  {
    hdf5::File file(folder.file("in.h5"), hdf5::Mode::create);
    hdf5::Group to = file.root();
    (void)to.create("codes", root.read("ragged/rowwise_codes"));
    (void)to.create("scales", root.read("ragged/rowwise_scale_inv"));
    to.set_attribute("element", "e4m3");
    to.set_attribute("tile_rows", 1);
    to.set_attribute("tile_cols", 128);
    file.close();
  }
  const Outcome made = narrowgauge({"transpose", folder.file("in.h5"), "--method", "published", "--splits",
                                    "128,300,212", "--out", folder.file("out.h5")});
  ASSERT_EQ(made.code, 0) << made.err;
  const hdf5::File out(folder.file("out.h5"), hdf5::Mode::read);
  const Array codes = out.root().read("codes"), scales = out.root().read("scales");
  std::int64_t begin = 0;
  const std::vector<std::int64_t> splits = {128, 300, 212};
  for (std::size_t s = 0; s < splits.size(); ++s) {
    const Array expected = root.read("ragged/colwise_codes_" + std::to_string(s));
    for (std::int64_t i = 0; i < expected.count(); ++i)
      ASSERT_EQ(codes.as<std::uint8_t>()[static_cast<std::size_t>(i / splits[s] * 640 + begin + i % splits[s])],
                expected.as<std::uint8_t>()[static_cast<std::size_t>(i)]);
    begin += splits[s];
  }
  EXPECT_EQ(scales.shape, (std::vector<std::int64_t>{384, 6}));
  for (const auto& [words, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--method", "exact", "--splits", "128,300"}, "add up to 428 of 640"},
           {{"--method", "exact", "--splits", "1,x"}, "is not a list"},
           {{"--method", "requantize"}, "give --as"},
           {{"--method", "exact", "--as", "mxfp4"}, "goes with --method requantize"}}) {
    std::vector<std::string> all = {"transpose", folder.file("in.h5")};
    all.insert(all.end(), words.begin(), words.end());
    all.insert(all.end(), {"--out", folder.file("bad.h5")});
    const Outcome bad = narrowgauge(all);
    EXPECT_EQ(bad.code, 2);
    EXPECT_NE(bad.err.find(message), std::string::npos) << bad.err;
    EXPECT_FALSE(std::filesystem::exists(folder.file("bad.h5")));
  }
  EXPECT_EQ(narrowgauge({"transpose", folder.file("in.h5"), "--method", "requantize", "--as", "fp8_1x128", "--splits",
                         "128,300,212", "--out", folder.file("r.h5")})
                .code,
            0);
  EXPECT_EQ(narrowgauge({"transpose", folder.file("out.h5"), "--method", "exact", "--out", folder.file("b.h5")}).code,
            2);
}

TEST(Recode, ThereAndBackLosesNothing) {
  TemporaryFolder folder;
  quantized(folder, "mxfp4");
  const std::string in = folder.file("q.h5"), fp8 = folder.file("fp8.h5"), back = folder.file("back.h5");
  const Outcome there = narrowgauge({"recode", in, "--as", "fp8_1x128,rule=absmax_pow2", "--out", fp8});
  ASSERT_EQ(there.code, 0) << there.err;
  EXPECT_NE(there.err.find("0 of 3840 values changed"), std::string::npos) << there.err;
  ASSERT_EQ(narrowgauge({"recode", fp8, "--as", "mxfp4,rule=rceil", "--out", back}).code, 0);
  const hdf5::File first(in, hdf5::Mode::read), second(back, hdf5::Mode::read);
  EXPECT_EQ(first.root().read("dequantized").data, second.root().read("dequantized").data);
  EXPECT_EQ(narrowgauge({"recode", in, "--as", "nvfp4", "--out", back}).code, 2);
  EXPECT_EQ(narrowgauge({"recode", in, "--as", "fp8_1x128", "--out", back}).code, 2);
  quantized(folder, "fp8_1x128");
  const Outcome uneven = narrowgauge({"recode", in, "--as", "mxfp4", "--out", back});
  EXPECT_EQ(uneven.code, 2);
  EXPECT_NE(uneven.err.find("no power of two"), std::string::npos) << uneven.err;
}

}  // namespace
}  // namespace ng::test
