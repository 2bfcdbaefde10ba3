// SPDX-License-Identifier: Apache-2.0
//
// Claim: `validate` does what its page says, from files to exit codes: dumps and single files in every layout; bad
// dumps and lying files end with one message and exit 2. Alone: build/bin/cli_validate --gtest_filter='Validate.*'
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <functional>
#include <span>

#include "cli/process.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "narrowgauge/validate/case.hpp"

namespace ng::test {
namespace {

constexpr std::int64_t kRows = 40, kCols = 96;

// Sums of uniforms, rows of different size.
std::vector<float> matrix() {
  std::vector<float> x;
  std::uint32_t state = 7;
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    float sum = 0;
    for (int k = 0; k < 6; ++k) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<float>(static_cast<std::int32_t>(state) >> 8);
    }
    x.push_back(std::ldexp(sum, -22 - static_cast<int>(i / kCols % 5)));
  }
  return x;
}

struct Quantized {
  Array codes, scales;
};

Quantized quantized(const TemporaryFolder& folder, const std::string& spec) {
  write_npy(folder.file("x.npy"), Array::from<float>({kRows, kCols}, matrix()));
  const Outcome made = narrowgauge({"quantize", folder.file("x.npy"), "--as", spec, "--out", folder.file("q.h5")});
  EXPECT_EQ(made.code, 0) << made.err;
  const hdf5::File file(folder.file("q.h5"), hdf5::Mode::read);
  return {file.root().read("codes"), file.root().read("scales")};
}

std::string dump(const TemporaryFolder& folder, const std::string& spec, const Array& codes, const Array& scales) {
  hdf5::File file(folder.file("dump.h5"), hdf5::Mode::create);
  hdf5::Group group = file.root().create_group("kernel");
  group.set_attribute("operation", "quantize");
  group.set_attribute("spec", spec);
  group.set_attribute("made_by", "test");
  (void)group.create("in/x", Array::from<float>({kRows, kCols}, matrix()));
  (void)group.create("out/codes", codes);
  (void)group.create("out/scales", scales);
  file.close();
  return folder.file("dump.h5");
}

TEST(Validate, ADumpEqualDifferentExplained) {
  TemporaryFolder folder;
  const Quantized q = quantized(folder, "mxfp4,rule=rceil");
  const Outcome equal = narrowgauge({"validate", dump(folder, "mxfp4,rule=rceil", q.codes, q.scales)});
  EXPECT_EQ(equal.code, 0) << equal.out << equal.err;
  EXPECT_NE(equal.out.find("equal"), std::string::npos);
  const Outcome different = narrowgauge(
      {"validate", dump(folder, "mxfp4", q.codes, q.scales), "--explain", "--power", "--json", folder.file("v.json")});
  EXPECT_EQ(different.code, 1) << different.err;
  EXPECT_NE(different.out.find("equal under rule=rceil\n"), std::string::npos) << different.out;
  const Json json = Json::parse(read_file(folder.file("v.json")), "v.json");
  const Json& verdict = json.as_array().front();
  EXPECT_FALSE(verdict.at("equal").as_bool());
  EXPECT_EQ(verdict.at("explanation").at("sets").as_array().front().at("rule").as_string(), "rceil");
}

TEST(Validate, SingleFilesInEveryLayout) {
  TemporaryFolder folder;
  const Quantized q = quantized(folder, "mxfp4");
  const std::int64_t scale_cols = kCols / 32;
  const auto codes = q.codes.as<std::uint8_t>();
  std::vector<std::string> base = {"validate", "--operation", "quantize",          "--spec",
                                   "mxfp4",    "--in",        folder.file("x.npy")};
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = base;
    words.insert(words.end(), more.begin(), more.end());
    return narrowgauge(words);
  };
  const auto raw = [&](const std::string& name, std::span<const std::byte> bytes) {
    std::ofstream(folder.file(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return folder.file(name);
  };
  Array plain_codes = q.codes, plain_scales = q.scales;
  plain_codes.format.clear();
  plain_scales.format.clear();
  write_npy(folder.file("c.npy"), plain_codes);
  write_npy(folder.file("s.npy"), plain_scales);
  EXPECT_EQ(run({"--out-codes", folder.file("c.npy"), "--out-scales", folder.file("s.npy")}).code, 0);

  write_safetensors(folder.file("o.safetensors"), {{"codes", plain_codes}, {"scales", plain_scales}});
  EXPECT_EQ(
      run({"--out-codes", folder.file("o.safetensors:codes"), "--out-scales", folder.file("o.safetensors:scales")})
          .code,
      0);

  // Raw, two codes a byte, either nibble first.
  for (const bool low : {true, false}) {
    std::vector<std::uint8_t> packed;
    for (std::size_t i = 0; i < codes.size(); i += 2)
      packed.push_back(static_cast<std::uint8_t>(low ? codes[i] | codes[i + 1] << 4 : codes[i] << 4 | codes[i + 1]));
    const std::string file = raw("p.bin", std::as_bytes(std::span(packed)));
    const std::vector<std::string> words = {"--out-codes", file, "--out-shape",  "40x48",
                                            "--out-dtype", "u8", "--out-scales", raw("s.bin", q.scales.data)};
    std::vector<std::string> right = words, wrong = words;
    right.insert(right.end(), {"--nibble-order", low ? "low_first" : "high_first"});
    wrong.insert(wrong.end(), {"--nibble-order", low ? "high_first" : "low_first", "--explain"});
    EXPECT_EQ(run(right).code, 0);
    const Outcome swapped = run(wrong);
    EXPECT_EQ(swapped.code, 1);
    EXPECT_NE(swapped.out.find("equal under nibble_order=swapped"), std::string::npos) << swapped.out;
  }

  // Columns first, rows of padding, swizzled and k-major scales.
  std::vector<std::uint8_t> turned(codes.size());
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t c = 0; c < kCols; ++c)
      turned[static_cast<std::size_t>(c * kRows + r)] = codes[static_cast<std::size_t>(r * kCols + c)];
  const std::string columns = raw("t.bin", std::as_bytes(std::span(turned)));
  EXPECT_EQ(run({"--out-codes", columns, "--out-shape", "40x96", "--out-dtype", "u8", "--order", "column_major"}).code,
            0);
  const Outcome recognised = run({"--out-codes", columns, "--out-shape", "96x40", "--out-dtype", "u8"});
  EXPECT_EQ(recognised.code, 1);
  EXPECT_NE(recognised.out.find("the transpose of [40, 96]"), std::string::npos) << recognised.out;
  std::vector<std::uint8_t> padded(codes.begin(), codes.end());
  padded.resize(64 * static_cast<std::size_t>(kCols), 0x55);
  EXPECT_EQ(run({"--out-codes", raw("c.bin", std::as_bytes(std::span(padded))), "--out-shape", "64x96", "--out-dtype",
                 "u8", "--skip-rows", "24"})
                .code,
            0);
  for (const auto layout : {validate::ScaleLayout::k_major, validate::ScaleLayout::swizzled_128x4}) {
    const Array laid = validate::laid_scales(q.scales, layout);
    const std::string file = raw("l.bin", laid.data);
    EXPECT_EQ(
        run({"--out-codes", folder.file("c.npy"), "--out-scales", file, "--scale-layout", std::string(name_of(layout))})
            .code,
        0);
    EXPECT_NE(run({"--out-codes", folder.file("c.npy"), "--out-scales", file}).code, 0);
  }
  EXPECT_EQ(scale_cols, 3);
}

// cuBLAS' layout, from its documentation: 32 lines of 16 bytes, four rows 32 apart.
TEST(Validate, SwizzledScalesLieAsDocumented) {
  std::vector<std::uint8_t> scales(130 * 5);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::uint8_t>(i % 251);
  const Array laid =
      validate::laid_scales(Array::from<std::uint8_t>({130, 5}, scales), validate::ScaleLayout::swizzled_128x4);
  ASSERT_EQ(laid.count(), 256 * 8);
  const auto bytes = laid.as<std::uint8_t>();
  const auto at = [&](std::size_t r, std::size_t c) { return scales[r * 5 + c]; };
  EXPECT_EQ(bytes[0], at(0, 0));
  EXPECT_EQ(bytes[3], at(0, 3));
  EXPECT_EQ(bytes[4], at(32, 0));
  EXPECT_EQ(bytes[16], at(1, 0));
  EXPECT_EQ(bytes[512], at(0, 4));
  EXPECT_EQ(bytes[1024], at(128, 0));
  EXPECT_EQ(bytes[1024 + 16 + 1], at(129, 1));
}

TEST(Validate, BadDumpsEndWithOneMessage) {
  TemporaryFolder folder;
  const Quantized q = quantized(folder, "mxfp4");
  const auto spoiled = [&](const std::function<void(hdf5::Group&)>& spoil, const std::string& message,
                           const std::string& operation = "quantize", const std::string& spec = "mxfp4") {
    {
      hdf5::File file(folder.file("bad.h5"), hdf5::Mode::create);
      hdf5::Group group = file.root().create_group("kernel");
      group.set_attribute("operation", operation);
      group.set_attribute("spec", spec);
      spoil(group);
      file.close();
    }
    const Outcome bad = narrowgauge({"validate", folder.file("bad.h5"), "--explain"});
    EXPECT_EQ(bad.code, 2) << message << bad.out << bad.err;
    EXPECT_NE(bad.err.find(message), std::string::npos) << bad.err;
    EXPECT_EQ(std::count(bad.err.begin(), bad.err.end(), '\n'), 1) << bad.err;
  };
  const Array x = Array::from<float>({kRows, kCols}, matrix());
  const auto good_in = [&](hdf5::Group& g) { (void)g.create("in/x", x); };
  spoiled([&](hdf5::Group& g) { (void)g.create("out/codes", q.codes); }, "group 'in' is missing");
  spoiled([&](hdf5::Group& g) { good_in(g); }, "group 'out' is missing");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/other", q.codes);
      },
      "nothing to judge");
  spoiled(
      [&](hdf5::Group& g) {
        (void)g.create("in/y", x);
        (void)g.create("in/z", x);
        (void)g.create("out/codes", q.codes);
      },
      "dataset 'x' is missing");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/codes", Array::from<double>({2}, std::vector<double>{1, 2}));
      },
      "has 2 elements");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/codes", x);
      },
      "f32 values; codes of e2m1");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        Array wide = q.codes;
        wide.data[5] = std::byte{0x10};
        (void)g.create("out/codes", wide);
      },
      "element 5 is 16, no code of e2m1");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/codes", q.codes);
        (void)g.create("out/scales", q.codes);
      },
      "scales; [40, 3] laid linear are 120");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/codes", q.codes);
      },
      "preset or element 'mxfp5' is unknown", "quantize", "mxfp5");
  spoiled(
      [&](hdf5::Group& g) {
        good_in(g);
        (void)g.create("out/codes", q.codes);
      },
      "operation 'multiply' is unknown", "multiply");
  // A transpose of NaN scales, and one of uneven ones.
  const auto transposed = [&](float scale) {
    return [&, scale](hdf5::Group& g) {
      hdf5::Group in = g.create_group("in");
      in.set_attribute("element", "e4m3");
      in.set_attribute("tile_rows", 1);
      in.set_attribute("tile_cols", 96);
      (void)in.create("codes", Array::from<std::uint8_t>({1, 96}, std::vector<std::uint8_t>(96, 8)));
      (void)in.create("scales", Array::from<float>({1, 1}, std::vector<float>{scale}));
      (void)g.create("out/codes", Array::from<std::uint8_t>({96, 1}, std::vector<std::uint8_t>(96, 8)));
    };
  };
  spoiled(transposed(std::numeric_limits<float>::quiet_NaN()), "is nan", "transpose", "method=exact");
  spoiled(transposed(0.3f), "no power of two", "transpose", "method=exact");
  // A raw file of the wrong size, and one that is not there.
  write_file(folder.file("raw.bin"), "abc");
  for (const auto& [file, message] : {std::pair("raw.bin", "holds 3 bytes"), {"none.bin", "No such file"}}) {
    const Outcome bad =
        narrowgauge({"validate", "--operation", "quantize", "--spec", "mxfp4", "--in", folder.file("x.npy"),
                     "--out-codes", folder.file(file), "--out-shape", "40x96", "--out-dtype", "u8"});
    EXPECT_EQ(bad.code, 2);
    EXPECT_NE(bad.err.find(message), std::string::npos) << bad.err;
  }
  EXPECT_EQ(narrowgauge({"validate"}).code, 2);
  EXPECT_EQ(narrowgauge({"validate", folder.file("x.npy")}).code, 2);
}

// A dataset that claims 4 GB in a file of kilobytes: refused before anything is allocated.
TEST(Validate, ALyingFileCostsNoMemory) {
  TemporaryFolder folder;
  std::string npy("\x93NUMPY\x01\x00", 8);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (65536, 16384), }";
  header.resize(117, ' ');
  header += '\n';
  npy += std::string("\x76\x00", 2) + header;
  std::ofstream(folder.file("big.npy"), std::ios::binary) << npy << std::string(1000, 'x');
  const Outcome bad = narrowgauge({"validate", "--operation", "quantize", "--spec", "mxfp4", "--in",
                                   folder.file("big.npy"), "--out-codes", folder.file("big.npy")});
  EXPECT_EQ(bad.code, 2);
  EXPECT_NE(bad.err.find("big.npy"), std::string::npos) << bad.err;
}

}  // namespace
}  // namespace ng::test
