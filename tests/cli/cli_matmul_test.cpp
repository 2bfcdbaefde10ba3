// SPDX-License-Identifier: Apache-2.0
//
// Claim: `matmul` gives every bit that cuBLASLt gave on an H100, for all 148 golden products, from the golden file's
// own datasets; `exact` and `ieee` give their answers; every chip is reached by name; every wrong input ends with one
// message, exit 2, and nothing left on disk. Alone: build/bin/cli_matmul
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iostream>
#include <span>

#include "cli/process.hpp"
#include "golden/h100_cases.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"

namespace ng::test {
namespace {

std::vector<std::uint32_t> result_bits(const std::string& path) {
  const hdf5::File file(path, hdf5::Mode::read);
  const Array array = file.root().read("result");
  std::vector<std::uint32_t> bits;
  if (array.dtype == Dtype::bf16 || array.dtype == Dtype::f16) {
    for (std::size_t i = 0; i + 1 < array.data.size(); i += 2)
      bits.push_back(std::to_integer<std::uint32_t>(array.data[i]) | std::to_integer<std::uint32_t>(array.data[i + 1])
                                                                         << 8);
  } else {
    for (const float x : array.as<float>()) bits.push_back(std::bit_cast<std::uint32_t>(x));
  }
  return bits;
}

TEST(Matmul, EveryGoldenProductOfAnH100) {
  static const char* const kModes[] = {"none", "tensor", "outer", "block_1x128", "block_128x128"};
  TemporaryFolder folder;
  ng_golden::GoldenFile golden("h100_gemm.h5");
  const std::string path = std::string(NG_SOURCE_DIR) + "/data/golden/h100_gemm.h5";
  std::size_t cases = 0, elements = 0, different = 0;
  for (const std::string& name : golden.groups()) {
    const ng_golden::H100Case h = ng_golden::read_h100_case(golden, name);
    std::vector<std::string> words = {"matmul",
                                      "--a",
                                      path + ":/" + name + "/A",
                                      "--a-format",
                                      name_of(h.a_format),
                                      "--b",
                                      path + ":/" + name + "/B",
                                      "--b-format",
                                      name_of(h.b_format),
                                      "--accumulate",
                                      h.fast ? "fast" : "promoted",
                                      "--scale-mode",
                                      kModes[static_cast<int>(h.scale_mode)],
                                      "--splits",
                                      std::to_string(h.splits),
                                      "--out-format",
                                      h.output == ProductOutput::bf16 ? "bf16" : "f32",
                                      "--threads",
                                      cases % 2 == 0 ? "1" : "2",
                                      "--out",
                                      folder.file("d.h5")};
    if (h.scale_mode != ScaleMode::none) {
      const std::int64_t columns = is_blockwise(h.scale_mode) ? h.k / kScaleBlock : 1;
      const auto save = [&](const char* file, const std::vector<float>& scales) {
        write_npy(folder.file(file),
                  Array::from<float>({static_cast<std::int64_t>(scales.size()) / columns, columns}, scales));
      };
      save("sa.npy", h.scale_a);
      save("sb.npy", h.scale_b);
      words.insert(words.end(), {"--scale-a", folder.file("sa.npy"), "--scale-b", folder.file("sb.npy")});
    }
    const Outcome outcome = narrowgauge(words);
    ASSERT_EQ(outcome.code, 0) << name << ": " << outcome.err;
    const std::vector<std::uint32_t> got = result_bits(folder.file("d.h5"));
    ASSERT_EQ(got.size(), h.d.size()) << name;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] != h.d[i] ? 1 : 0;
    EXPECT_EQ(wrong, 0u) << name;
    different += wrong;
    elements += got.size();
    ++cases;
  }
  std::cout << cases << " products, " << elements << " elements, " << different << " different\n";
  EXPECT_EQ(cases, 148u);
}

class MatmulFiles : public testing::Test {
 protected:
  std::string npy(const std::string& name, std::vector<std::int64_t> shape, const std::vector<float>& x) const {
    write_npy(folder_.file(name), Array::from<float>(std::move(shape), x));
    return folder_.file(name);
  }
  std::vector<std::uint32_t> product(std::vector<std::string> words) const {
    words.insert(words.begin(), "matmul");
    words.insert(words.end(), {"--out", folder_.file("d.h5")});
    const Outcome outcome = narrowgauge(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.code == 0 ? result_bits(folder_.file("d.h5")) : std::vector<std::uint32_t>{};
  }
  TemporaryFolder folder_;
};

// 2^11, 2^-3, 2^-13 and -2^11 in one product: FP32 and a grid of 23 bits lose 2^-13, wider grids keep it.
TEST_F(MatmulFiles, ArithmeticsByName) {
  const std::string a = npy("a.npy", {1, 4}, {2048, 1, 1, -2048}), b = npy("b.npy", {1, 4}, {1, 0.125f, 0x1p-13f, 1});
  const auto with = [&](const char* arithmetic, const char* format) {
    return product({"--a", a, "--a-format", format, "--b", b, "--b-format", format, "--arithmetic", arithmetic});
  };
  const auto bits = [](float x) { return std::vector<std::uint32_t>{std::bit_cast<std::uint32_t>(x)}; };
  EXPECT_EQ(with("exact", "fp32"), bits(0x1.004p-3f));
  EXPECT_EQ(with("exact", "bf16"), bits(0x1.004p-3f));
  EXPECT_EQ(with("ieee", "bf16"), bits(0.125f));  // 2^-13 is lost beside 2^11
  EXPECT_EQ(with("volta", "fp16"), bits(0.125f));
  EXPECT_EQ(with("turing", "fp16"), bits(0x1.004p-3f));
  EXPECT_EQ(with("ampere", "bf16"), bits(0x1.004p-3f));
  EXPECT_EQ(with("hopper", "bf16"), bits(0x1.004p-3f));
  EXPECT_EQ(with("blackwell", "bf16"), bits(0x1.004p-3f));
}

// 40 products of 1.5 * 3 with scales 2 and 4, the last scale of A 1/2: (32 * 8 + 8 * 2) * 4.5 exactly; one product of 6
// * 6 for E4M3 scales per 16. Everything is representable, so the chip's model and the exact product agree.
TEST_F(MatmulFiles, BlockScales) {
  const auto codes = [&](const std::string& name, std::int64_t cols, const std::vector<std::uint8_t>& x) {
    hdf5::File file(folder_.file(name), hdf5::Mode::create);
    const std::int64_t rows = static_cast<std::int64_t>(x.size()) / cols;
    (void)file.root().create("codes", Array::from<std::uint8_t>({rows, cols}, x));
    file.close();
    return folder_.file(name) + ":codes";
  };
  const std::string a = codes("a.h5", 40, std::vector<std::uint8_t>(40, 3)),
                    b = codes("b.h5", 40, std::vector<std::uint8_t>(40, 5));
  const std::string sa = codes("sa.h5", 2, {128, 126}), sb = codes("sb.h5", 2, {129, 129});
  const std::string ta = codes("ta.h5", 3, {0x40, 0x40, 0x30}), tb = codes("tb.h5", 3, {0x48, 0x48, 0x48});
  const std::string one = npy("one.npy", {1}, {0.25f});
  const auto with = [&](const char* arithmetic, const char* format, const std::string& x, const std::string& y,
                        std::vector<std::string> more) {
    more.insert(more.begin(), {"--a", a, "--a-format", format, "--b", b, "--b-format", format, "--arithmetic",
                               arithmetic, "--block-scales-a", x, "--block-scales-b", y});
    return product(more);
  };
  const auto bits = [](float x) { return std::vector<std::uint32_t>{std::bit_cast<std::uint32_t>(x)}; };
  for (const char* arithmetic : {"blackwell", "exact"}) {
    EXPECT_EQ(with(arithmetic, "e2m1", sa, sb, {}), bits((32 * 8 + 8 * 2) * 4.5f));
    EXPECT_EQ(with(arithmetic, "e2m1", ta, tb, {}), bits((32 * 8 + 8 * 2) * 4.5f));
    EXPECT_EQ(with(arithmetic, "e2m1", ta, tb, {"--scale-mode", "tensor", "--scale-a", one, "--scale-b", one}),
              bits((32 * 8 + 8 * 2) * 4.5f / 16));
    EXPECT_EQ(with(arithmetic, "e4m3", sa, sb, {}), bits((32 * 8 + 8 * 2) * 3 * 0x1p-9f * 5 * 0x1p-9f));
    EXPECT_EQ(with(arithmetic, "e2m1", sa, sb, {"--out-format", "f16"}), (std::vector<std::uint32_t>{0x64c8}));
    EXPECT_EQ(with(arithmetic, "e2m1", sa, sb, {"--out-format", "bf16"}), (std::vector<std::uint32_t>{0x4499}));
  }
  const Outcome told =
      narrowgauge({"matmul", "--a", a, "--a-format", "e2m1", "--b", b, "--b-format", "e2m1", "--arithmetic",
                   "blackwell", "--block-scales-a", sa, "--block-scales-b", sb, "--out", folder_.file("d.h5")});
  EXPECT_NE(told.err.find("model only"), std::string::npos) << told.err;
  const std::pair<std::vector<std::string>, std::string> mistakes[] = {
      {{"--arithmetic", "ieee", "--block-scales-a", sa, "--block-scales-b", sb}, "takes no block scales"},
      {{"--arithmetic", "blackwell", "--block-scales-a", sa}, "come together"},
      {{"--arithmetic", "blackwell", "--block-scales-a", sa, "--block-scales-b", tb}, "of different kinds"},
      {{"--arithmetic", "blackwell", "--block-scales-a", a, "--block-scales-b", sb},
       "needed: e8m0 [1, 2] or e4m3 [1, 3]"},
      {{"--arithmetic", "blackwell", "--block-scales-a", one, "--block-scales-b", sb}, "codes of one byte"},
      {{"--arithmetic", "hopper", "--block-scales-a", sa, "--block-scales-b", sb},
       "has no product of e2m1 and e2m1 with e8m0"},
      {{"--arithmetic", "blackwell", "--accumulator", "f16", "--block-scales-a", sa, "--block-scales-b", sb},
       "FP16 accumulators"}};
  for (const auto& [words, piece] : mistakes) {
    std::vector<std::string> all = {"matmul",     "--a",  a,       "--a-format",        "e2m1", "--b", b,
                                    "--b-format", "e2m1", "--out", folder_.file("x.h5")};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = narrowgauge(all);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(piece), std::string::npos) << "lacks '" << piece << "': " << outcome.err;
  }
}

// 2048 + 1 in FP16 is a tie to even; FP32 accumulators keep it until the output is rounded.
TEST_F(MatmulFiles, Fp16AccumulatorsAndOutputs) {
  const std::string a = npy("a.npy", {1, 40}, [] {
    std::vector<float> x(40, 0.0f);
    x[0] = 2048, x[20] = 1, x[39] = 1;
    return x;
  }());
  const std::string b = npy("b.npy", {1, 40}, std::vector<float>(40, 1.0f));
  const auto with = [&](const char* accumulator, const char* output) {
    return product({"--a", a, "--a-format", "fp16", "--b", b, "--b-format", "fp16", "--arithmetic", "ampere",
                    "--accumulator", accumulator, "--out-format", output})
        .at(0);
  };
  EXPECT_EQ(with("f32", "f32"), std::bit_cast<std::uint32_t>(2050.0f));
  EXPECT_EQ(with("f16", "f32"), std::bit_cast<std::uint32_t>(2048.0f));
  EXPECT_EQ(with("f32", "f16"), 0x6801u);
  EXPECT_EQ(with("f16", "f16"), 0x6800u);
}

// A result made in one way and stated in another: validate finds it unequal and names the way; as made, it is equal.
TEST_F(MatmulFiles, ValidateNamesHowAResultWasMade) {
  std::vector<float> x, y;
  std::uint32_t state = 1;
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return std::ldexp(static_cast<float>(state >> 28) - 7.5f, static_cast<int>(state >> 20 & 7u) - 5) * 2.0f;
  };
  for (int i = 0; i < 16 * 512; ++i) x.push_back(next()), y.push_back(next());
  const std::string a = npy("a.npy", {16, 512}, x), b = npy("b.npy", {16, 512}, y);
  const std::string stated = "arithmetic=hopper,a_format=e4m3,b_format=e4m3";
  const auto verdict = [&](const std::string& spec) {
    return narrowgauge({"validate", "--operation", "matmul", "--spec", spec, "--in", a, "--in-b", b, "--out-result",
                        folder_.file("d.h5") + ":result", "--explain"});
  };
  struct Made {
    std::vector<std::string> words;
    std::string named;
  };
  const Made made[] = {{{"--arithmetic", "hopper", "--accumulate", "fast"}, "accumulate=fast"},
                       {{"--arithmetic", "hopper_mma_fp8"}, "arithmetic=hopper_mma_fp8"},
                       {{"--arithmetic", "ada"}, "arithmetic=ada"},
                       {{"--arithmetic", "exact"}, "arithmetic=exact"}};
  for (const Made& m : made) {
    std::vector<std::string> words = {"--a", a, "--a-format", "e4m3", "--b", b, "--b-format", "e4m3"};
    words.insert(words.end(), m.words.begin(), m.words.end());
    (void)product(words);
    const Outcome wrong = verdict(stated);
    EXPECT_EQ(wrong.code, 1) << wrong.out << wrong.err;
    EXPECT_NE(wrong.out.find(m.named), std::string::npos) << m.named << " is not in: " << wrong.out;
    const Outcome right =
        verdict(m.named.starts_with("arithmetic") ? m.named + stated.substr(stated.find(',')) : stated + "," + m.named);
    EXPECT_EQ(right.code, 0) << right.out << right.err;
  }
}

// The probe's closed loop: operands written, multiplied by another command, and the accumulator found from the result.
TEST_F(MatmulFiles, ProbeFindsTheAccumulator) {
  const std::string probes = folder_.file("probes");
  const Outcome made = narrowgauge({"validate", "--probe", "generate", "--types", "e4m3,e5m2", "--out", probes});
  ASSERT_EQ(made.code, 0) << made.err;
  (void)product({"--a", probes + "/a.npy", "--a-format", "e4m3", "--b", probes + "/b.npy", "--b-format", "e5m2",
                 "--arithmetic", "hopper", "--accumulate", "promoted"});
  const auto fit = [&](const std::string& result) {
    return narrowgauge({"validate", "--probe", "fit", "--in", probes, "--out-result", result});
  };
  const Outcome found = fit(folder_.file("d.h5") + ":result");
  EXPECT_EQ(found.code, 0) << found.err;
  for (const char* piece : {"products a step   32\n", "fraction bits     13\n", "14 bits cut toward zero",
                            "every 128 of K", "as in the catalogue: hopper\n"})
    EXPECT_NE(found.out.find(piece), std::string::npos) << piece << " is not in\n" << found.out;
  const std::string zeros = npy("zeros.npy", {16, 16}, std::vector<float>(256, 0.0f));
  for (const Outcome& wrong :
       {fit(zeros), narrowgauge({"validate", "--probe", "generate"}),
        narrowgauge({"validate", "--probe", "fit", "--in", folder_.file("absent"), "--out-result", zeros}),
        narrowgauge({"validate", "--probe", "fit"})}) {
    EXPECT_EQ(wrong.code, 2) << wrong.err;
    EXPECT_EQ(std::count(wrong.err.begin(), wrong.err.end(), '\n'), 1) << wrong.err;
  }
}

TEST_F(MatmulFiles, MistakesLeaveNothing) {
  const std::string a = npy("a.npy", {2, 256}, std::vector<float>(512, 1.0f));
  const std::string b = npy("b.npy", {3, 256}, std::vector<float>(768, 1.0f));
  const std::string third = npy("third.npy", {2, 256}, std::vector<float>(512, 1.0f / 3.0f));
  const std::string narrow = npy("narrow.npy", {3, 255}, std::vector<float>(765, 1.0f));
  const std::string s = npy("s.npy", {2, 2}, {1, 1, 1, 1}), t = npy("t.npy", {3, 2}, {1, 1, 1, 1, 1, 1});
  {
    hdf5::File file(folder_.file("x.h5"), hdf5::Mode::create);
    (void)file.root().create("codes", Array::from<std::uint8_t>({2, 256}, std::vector<std::uint8_t>(512, 200)));
    file.close();
  }
  const std::string codes = folder_.file("x.h5") + ":codes";
  const std::vector<std::string> before = folder_.names();
  struct Mistake {
    std::vector<std::string> words;
    std::string piece;
  };
  const Mistake mistakes[] = {
      {{"--a", a, "--b", b, "--b-format", "bf16"}, "no product of fp32 and bf16"},
      {{"--a", third, "--a-format", "bf16", "--b", b}, "bf16 cannot hold"},
      {{"--a", codes, "--b", b}, "without a named format"},
      {{"--a", codes, "--a-format", "e2m1", "--b", b}, "200 is no code of e2m1"},
      {{"--a", codes, "--a-format", "bf16", "--b", b}, "does not fit"},
      {{"--a", codes, "--a-format", "e4m4", "--b", b}, "did you mean 'e4m3'"},
      {{"--a", a, "--b", narrow, "--arithmetic", "ieee"}, "the last extents differ"},
      {{"--a", a, "--b", b, "--arithmetic", "hoper"}, "did you mean 'hopper'"},
      {{"--a", a, "--b", b, "--arithmetic", "exact", "--scale-mode", "outer"}, "do not go together"},
      {{"--a", a, "--b", b, "--arithmetic", "exact", "--scale-a", s, "--scale-b", t}, "do not go together"},
      {{"--a", a, "--b", b, "--arithmetic", "exact", "--scale-mode", "outer", "--scale-a", s, "--scale-b", t},
       "needed: [2, 1]"},
      {{"--a", a, "--b", b, "--arithmetic", "exact", "--scale-mode", "block_1x128", "--scale-a", t, "--scale-b", t},
       "needed: [2, 2]"},
      {{"--a", a, "--b", b, "--arithmetic", "exact", "--scale-mode", "block_128x128", "--scale-a", s, "--scale-b", t},
       "needed: [1, 2]"},
      {{"--a", a, "--a-format", "bf16", "--b", b, "--b-format", "bf16", "--scale-mode", "block_1x128", "--scale-a", s,
        "--scale-b", t},
       "needs FP8 operands"},
      {{"--a", a, "--a-format", "e4m3", "--b", b, "--b-format", "e4m3", "--scale-mode", "block_1x128", "--scale-a", s,
        "--scale-b", t, "--accumulate", "fast"},
       "goes with --accumulate promoted"},
      {{"--a", folder_.file("absent.npy"), "--b", b}, "absent.npy"},
      {{"--a", a, "--a-format", "tf32", "--b", b, "--b-format", "tf32", "--splits", "0"}, "--splits 0"},
  };
  for (const Mistake& m : mistakes) {
    std::vector<std::string> words = {"matmul", "--out", folder_.file("d.h5")};
    words.insert(words.end(), m.words.begin(), m.words.end());
    const Outcome outcome = narrowgauge(words);
    EXPECT_EQ(outcome.code, 2) << m.piece << ": " << outcome.err;
    EXPECT_NE(outcome.err.find(m.piece), std::string::npos) << "lacks '" << m.piece << "': " << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(folder_.names(), before);
  }
}

}  // namespace
}  // namespace ng::test
