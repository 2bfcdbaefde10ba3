// SPDX-License-Identifier: Apache-2.0
//
// Claim: `quantize` writes, for either axis and every kind of input, the codes, scales, decoded values and measures
// that the oracle computes, in the documented layout; every wrong input ends with one message, its exit code, and
// nothing left on disk. Alone: build/bin/cli_quantize
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>

#include "cli/process.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "oracle/blocks.hpp"
#include "oracle/measures.hpp"

namespace ng::test {
namespace {

constexpr std::int64_t kRows = 37;  // ragged in every tile
constexpr std::int64_t kCols = 75;
constexpr std::uint32_t kStochasticRounding = 3;  // purpose of numerics.md's random bits

// Values over many binades, with zeros and equal neighbours; rows of very different size.
std::vector<float> matrix(std::int64_t rows = kRows, std::int64_t cols = kCols) {
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  std::uint32_t state = 12345;
  for (std::size_t i = 0; i < x.size(); ++i) {
    state = state * 1664525u + 1013904223u;
    const float unit =
        static_cast<float>(static_cast<std::int32_t>(state >> 8) - (1 << 23)) / static_cast<float>(1 << 23);
    const auto row = static_cast<std::int64_t>(i) / cols;
    x[i] = state % 17 == 0 ? 0.0f : std::ldexp(unit, static_cast<int>(row % 11) - 5);
  }
  return x;
}

std::string npy(const TemporaryFolder& folder, const std::vector<float>& x, std::int64_t rows = kRows,
                std::int64_t cols = kCols, const std::string& name = "x.npy") {
  write_npy(folder.file(name), Array::from<float>({rows, cols}, x));
  return folder.file(name);
}

struct Written {
  std::vector<std::uint32_t> codes;
  std::vector<std::uint32_t> scales;  // codes, or bits of FP32 scales
  std::vector<std::int64_t> scale_shape;
  std::vector<float> decoded;
  std::map<std::string, double> measures;
};

Written read(const std::string& path) {
  const hdf5::File file(path, hdf5::Mode::read);
  const hdf5::Group root = file.root();
  Written w;
  const Array codes = root.read("codes");
  if (codes.dtype == Dtype::u8) {
    for (const std::uint8_t c : codes.as<std::uint8_t>()) w.codes.push_back(c);
  } else {
    for (const std::uint16_t c : codes.as<std::uint16_t>()) w.codes.push_back(c);
  }
  if (root.exists("scales")) {
    const Array scales = root.read("scales");
    w.scale_shape = scales.shape;
    if (scales.dtype == Dtype::f32) {
      for (const float s : scales.as<float>()) w.scales.push_back(std::bit_cast<std::uint32_t>(s));
    } else {
      for (const std::uint8_t s : scales.as<std::uint8_t>()) w.scales.push_back(s);
    }
  }
  const Array decoded = root.read("dequantized");
  const std::span<const float> values = decoded.as<float>();
  w.decoded.assign(values.begin(), values.end());
  const hdf5::Group measures = root.group("measures");
  for (const std::string& name : measures.attribute_names()) w.measures[name] = measures.attribute_number(name);
  return w;
}

struct Case {
  const char* text;
  ng_oracle::BlockSpec spec;
};

std::vector<Case> cases() {
  using ng_oracle::ScaleFormat;
  using ng_oracle::ScaleRule;
  const auto spec = [](const char* element, std::size_t rows, std::size_t cols, ScaleFormat format, ScaleRule rule) {
    ng_oracle::BlockSpec s;
    s.element = element;
    s.tile_rows = rows;
    s.tile_cols = cols;
    s.scale_format = format;
    s.rule = rule;
    return s;
  };
  std::vector<Case> all = {
      {"mxfp4", spec("e2m1", 1, 32, ScaleFormat::e8m0, ScaleRule::floor)},
      {"mxfp8_e4m3,rule=rceil", spec("e4m3", 1, 32, ScaleFormat::e8m0, ScaleRule::rceil)},
      {"mxfp6_e3m2,rule=even,tile=3x8", spec("e3m2", 3, 8, ScaleFormat::e8m0, ScaleRule::even)},
      {"mxfp4,rounding=toward_zero", spec("e2m1", 1, 32, ScaleFormat::e8m0, ScaleRule::floor)},
      {"fp8_1x128,tile=1x16,rule=absmax_pow2", spec("e4m3", 1, 16, ScaleFormat::f32, ScaleRule::absmax_pow2)},
      {"fp8_128x128", spec("e4m3", 128, 128, ScaleFormat::f32, ScaleRule::absmax)},
      {"fp8_tensor_e5m2", spec("e5m2", 0, 0, ScaleFormat::f32, ScaleRule::absmax)},
      {"fp4_token", spec("e2m1", 1, 0, ScaleFormat::f32, ScaleRule::absmax)},
      {"fp8_1x128,element=e5m6", spec("e5m6", 1, 128, ScaleFormat::f32, ScaleRule::absmax)},
      {"nvfp4", spec("e2m1", 1, 16, ScaleFormat::e4m3, ScaleRule::te_v2_14)},
      {"nvfp4_2d", spec("e2m1", 16, 16, ScaleFormat::e4m3, ScaleRule::te_v2_14)},
  };
  all[3].spec.encode.rounding = ng_oracle::Rounding::toward_zero;
  for (Case& c : all)
    if (std::string(c.text).starts_with("nvfp4")) c.spec.encode.zero_sign = ng_oracle::ZeroSign::exact_positive;
  return all;
}

// The oracle's answer, in the axes of the original.
ng_oracle::Quantized judge(const std::vector<float>& x, const ng_oracle::BlockSpec& spec, bool column) {
  if (!column) return ng_oracle::quantize(x, kRows, kCols, spec);
  ng_oracle::Quantized q = ng_oracle::quantize(ng_oracle::transposed(x, kRows, kCols), kCols, kRows, spec);
  q.codes = ng_oracle::transposed(q.codes, q.rows, q.cols);
  q.decoded = ng_oracle::transposed(q.decoded, q.rows, q.cols);
  q.scale_codes = ng_oracle::transposed(q.scale_codes, q.scale_rows, q.scale_cols);
  std::swap(q.rows, q.cols);
  std::swap(q.scale_rows, q.scale_cols);
  return q;
}

TEST(Quantize, WritesWhatTheOracleComputes) {
  TemporaryFolder folder;
  const std::vector<float> x = matrix();
  const std::string in = npy(folder, x);
  for (const Case& c : cases()) {
    for (const bool column : {false, true}) {
      SCOPED_TRACE(std::string(c.text) + (column ? " column" : " row"));
      const std::string out = folder.file("q.h5");
      const Outcome outcome =
          narrowgauge({"quantize", in, "--as", c.text, "--axis", column ? "column" : "row", "--out", out});
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      const Written w = read(out);
      const ng_oracle::Quantized q = judge(x, c.spec, column);
      EXPECT_EQ(w.codes, q.codes);
      EXPECT_EQ(w.scales, q.scale_codes);
      EXPECT_EQ(w.scale_shape, (std::vector<std::int64_t>{static_cast<std::int64_t>(q.scale_rows),
                                                          static_cast<std::int64_t>(q.scale_cols)}));
      ASSERT_EQ(w.decoded.size(), q.decoded.size());
      EXPECT_EQ(std::memcmp(w.decoded.data(), q.decoded.data(), 4 * q.decoded.size()), 0);
      const hdf5::File file(out, hdf5::Mode::read);
      if (q.two_level) {
        EXPECT_EQ(file.root().read("tensor_scale").as<float>()[0], q.tensor_scale);
      }
      const std::int64_t tile_rows = file.root().attribute_integer("tile_rows");
      const std::int64_t tile_cols = file.root().attribute_integer("tile_cols");
      EXPECT_EQ((kRows + tile_rows - 1) / tile_rows, static_cast<std::int64_t>(q.scale_rows));
      EXPECT_EQ((kCols + tile_cols - 1) / tile_cols, static_cast<std::int64_t>(q.scale_cols));
      EXPECT_EQ(file.root().attribute_text("axis"), column ? "column" : "row");
      EXPECT_EQ(file.root().attribute_text("element"), c.spec.element);
      EXPECT_EQ(file.root().attribute_integer("rows"), kRows);
      EXPECT_EQ(file.root().attribute_integer("cols"), kCols);
      EXPECT_EQ(Json::parse(file.root().attribute_text("quantizer"), "attribute").at("element").as_string(),
                c.spec.element);
    }
  }
}

TEST(Quantize, WritesTheMeasures) {
  TemporaryFolder folder;
  const std::vector<float> x = matrix();
  const std::string in = npy(folder, x);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.text);
    ASSERT_EQ(narrowgauge({"quantize", in, "--as", c.text, "--out", folder.file("q.h5")}).code, 0);
    const Written w = read(folder.file("q.h5"));
    const ng_oracle::Measures m = ng_oracle::measure(x, ng_oracle::quantize(x, kRows, kCols, c.spec), c.spec);
    // 2775 terms added in double in another order than the oracle's long double: 2775 * 2^-53 relative.
    const auto near = [&](const char* name, double wanted) {
      EXPECT_NEAR(w.measures.at(name), wanted, 4e-13 * std::max(1.0, std::fabs(wanted))) << name;
    };
    near("rel_mse", m.rel_mse);
    near("sqnr_db", m.sqnr_db);
    near("cosine", m.cosine);
    near("bias", m.bias);
    EXPECT_EQ(w.measures.at("underflow_rate"), m.underflow_rate);
    EXPECT_EQ(w.measures.at("saturation_rate"), m.saturation_rate);
    near("scale_log2_mean", m.scale_log2_mean);
    near("scale_log2_min", m.scale_log2_min);
    near("scale_log2_max", m.scale_log2_max);
    EXPECT_TRUE(std::isnan(w.measures.at("double_quant_error")));
    EXPECT_EQ(static_cast<float>(w.measures.at("max_abs_error")), static_cast<float>(m.max_abs_error));
  }
  for (const Case& c : {cases()[0], cases()[9]}) {
    ASSERT_EQ(narrowgauge({"quantize", in, "--as", c.text, "--axis", "column", "--out", folder.file("q.h5")}).code, 0);
    const Written w = read(folder.file("q.h5"));
    const ng_oracle::DoubleQuantization d = ng_oracle::double_quantization(x, kRows, kCols, c.spec, c.spec);
    EXPECT_NEAR(w.measures.at("double_quant_error"), d.error, 4e-13) << c.text;
    EXPECT_NEAR(w.measures.at("double_quant_excess"), d.excess, 4e-13) << c.text;
    EXPECT_EQ(w.measures.at("double_quant_changed"), d.changed) << c.text;
  }
}

TEST(Quantize, RandomBitsAreThoseOfSeedTensorAndStep) {
  TemporaryFolder folder;
  const std::vector<float> x = matrix();
  const std::string in = npy(folder, x);
  ng_oracle::BlockSpec spec;
  spec.encode.rounding = ng_oracle::Rounding::stochastic;
  spec.encode.stochastic_bits = 16;
  spec.random = [](std::size_t r, std::size_t c) {
    return ng_oracle::element_draw(7, kStochasticRounding, 3000000000u, 11, r * kCols + c, 16);
  };
  const std::vector<std::string> words = {"quantize", in,   "--as",        "mxfp4,rounding=stochastic:16",
                                          "--seed",   "7",  "--tensor-id", "3000000000",
                                          "--step",   "11", "--out",       folder.file("q.h5")};
  ASSERT_EQ(narrowgauge(words).code, 0);
  EXPECT_EQ(read(folder.file("q.h5")).codes, ng_oracle::quantize(x, kRows, kCols, spec).codes);
  for (const std::size_t at : {5u, 7u, 9u}) {  // another seed, tensor or step: other codes
    std::vector<std::string> other = words;
    other[at] = "1";
    other.back() = folder.file("other.h5");
    ASSERT_EQ(narrowgauge(other).code, 0);
    EXPECT_NE(read(folder.file("other.h5")).codes, read(folder.file("q.h5")).codes) << at;
  }
}

TEST(Quantize, PacksTheEvenElementLow) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix());
  for (const char* axis : {"row", "column"}) {
    ASSERT_EQ(
        narrowgauge({"quantize", in, "--as", "mxfp4", "--axis", axis, "--packed", "--out", folder.file("q.h5")}).code,
        0);
    const hdf5::File file(folder.file("q.h5"), hdf5::Mode::read);
    const Array packed = file.root().read("codes_packed");
    const Array codes = file.root().read("codes");
    ASSERT_EQ(packed.shape, (std::vector<std::int64_t>{kRows, (kCols + 1) / 2}));
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kCols; ++c) {
        const int byte = packed.as<std::uint8_t>()[static_cast<std::size_t>(r * ((kCols + 1) / 2) + c / 2)];
        ASSERT_EQ((byte >> (4 * (c % 2))) & 0xf, codes.as<std::uint8_t>()[static_cast<std::size_t>(r * kCols + c)])
            << r << ", " << c;
      }
    }
  }
}

TEST(Quantize, ReadsEveryKindOfInput) {
  TemporaryFolder folder;
  std::vector<float> x = matrix();
  for (float& value : x) {  // exact in BF16 and FP16: 4 significant bits, 2^-9 and larger
    const float rounded = std::ldexp(std::nearbyint(std::ldexp(value, 6)), -6);
    value = std::fabs(rounded) < 1.0f / 64
                ? 0.0f
                : std::ldexp(std::nearbyint(std::ldexp(rounded, 3 - std::ilogb(rounded))), std::ilogb(rounded) - 3);
  }
  std::vector<std::uint16_t> bf16;
  for (const float value : x) bf16.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  const Array array = Array::from_bytes(Dtype::bf16, {kRows, kCols}, std::as_bytes(std::span(bf16)));
  {
    hdf5::File file(folder.file("x.h5"), hdf5::Mode::create);
    (void)file.root().create("deep/bf16", array);
    (void)file.root().create("deep/cube", Array::from<float>({kRows, 5, 15}, x));
    (void)file.root().create("wide", Array::from<double>({1, 2}, std::vector<double>{1, 2}));
    (void)file.root().create("whole", Array::from<std::int32_t>({1, 2}, std::vector<std::int32_t>{1, 2}));
    file.close();
  }
  write_safetensors(folder.file("x.safetensors"), {{"t", array}});
  const auto codes_of = [&](const std::string& in) {
    const Outcome outcome = narrowgauge({"quantize", in, "--as", "mxfp8_e4m3,tile=1x15", "--out", folder.file("q.h5")});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return read(folder.file("q.h5")).codes;
  };
  const std::vector<std::uint32_t> wanted = codes_of(npy(folder, x));
  EXPECT_EQ(codes_of(folder.file("x.h5") + ":/deep/bf16"), wanted);
  EXPECT_EQ(codes_of(folder.file("x.h5") + ":deep/cube"), wanted);  // leading axes folded: rows of 15
  EXPECT_EQ(codes_of(folder.file("x.safetensors") + ":t"), wanted);
  // What quantize wrote can be its input: the same codes again, now without a scale.
  ASSERT_EQ(narrowgauge({"quantize", npy(folder, x), "--as", "e4m3", "--out", folder.file("first.h5")}).code, 0);
  ASSERT_EQ(
      narrowgauge({"quantize", folder.file("first.h5") + ":codes", "--as", "e4m3", "--out", folder.file("again.h5")})
          .code,
      0);
  EXPECT_EQ(read(folder.file("again.h5")).codes, read(folder.file("first.h5")).codes);
  EXPECT_EQ(
      narrowgauge({"quantize", folder.file("x.h5") + ":wide", "--as", "e4m3", "--out", folder.file("no.h5")}).code, 2);
  EXPECT_EQ(
      narrowgauge({"quantize", folder.file("x.h5") + ":whole", "--as", "e4m3", "--out", folder.file("no.h5")}).code, 2);
}

TEST(Quantize, EmptyAndZeroTensorsAreNoCrash) {
  TemporaryFolder folder;
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{0, 32}, {4, 0}, {3, 40}}) {
    const std::string in = npy(folder, std::vector<float>(static_cast<std::size_t>(rows * cols), 0.0f), rows, cols);
    for (const char* text : {"mxfp4", "nvfp4", "fp8_tensor", "e4m3"}) {
      for (const char* axis : {"row", "column"}) {
        const Outcome outcome =
            narrowgauge({"quantize", in, "--as", text, "--axis", axis, "--out", folder.file("q.h5")});
        ASSERT_EQ(outcome.code, 0) << text << " " << rows << "x" << cols << ": " << outcome.err;
        const Written w = read(folder.file("q.h5"));
        EXPECT_EQ(w.measures.at("rel_mse"), 0) << text;
        EXPECT_TRUE(std::isnan(w.measures.at("sqnr_db"))) << text;
      }
    }
  }
}

TEST(Quantize, NanIsAnErrorOnlyWhereTheQuantizerSaysSo) {
  TemporaryFolder folder;
  std::vector<float> x = matrix();
  x[2 * kCols + 5] = std::numeric_limits<float>::quiet_NaN();
  x[9 * kCols + 1] = std::numeric_limits<float>::quiet_NaN();
  const std::string in = npy(folder, x);
  const Outcome refused = narrowgauge({"quantize", in, "--as", "mxfp4,nan=error", "--out", folder.file("q.h5")});
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("x.npy: 2 NaN, the first at [2, 5]"), std::string::npos) << refused.err;
  EXPECT_EQ(folder.names(), std::vector<std::string>{"x.npy"});
  EXPECT_EQ(narrowgauge({"quantize", in, "--as", "e2m1", "--out", folder.file("q.h5")}).code, 2);

  const Outcome written = narrowgauge({"quantize", in, "--as", "mxfp4", "--out", folder.file("q.h5")});
  EXPECT_EQ(written.code, 0);
  EXPECT_NE(written.err.find("2 NaN, the first at [2, 5]"), std::string::npos) << written.err;
  const Written w = read(folder.file("q.h5"));
  EXPECT_EQ(w.scales[2 * 3], 0xffu);  // the tile of 32 that holds it
  EXPECT_TRUE(std::isnan(w.decoded[2 * kCols + 31]));
  EXPECT_FALSE(std::isnan(w.decoded[2 * kCols + 32]));
}

TEST(Quantize, MistakesLeaveNothing) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix());
  const std::string out = folder.file("q.h5");
  const std::string text = folder.write("notes.txt", "hello");
  folder.write("short.npy", "\x93NUMPY");
  folder.write("broken.h5", "no HDF5 at all");
  {
    hdf5::File file(folder.file("good.h5"), hdf5::Mode::create);
    (void)file.root().create("weights", Array::from<float>({kRows, kCols}, matrix()));
    file.close();
  }
  std::filesystem::copy_file(folder.file("good.h5"), folder.file("cut.h5"));
  std::filesystem::resize_file(folder.file("cut.h5"), 2000);
  const std::vector<std::string> before = folder.names();
  struct Mistake {
    std::vector<std::string> words;
    std::vector<std::string> pieces;
  };
  const Mistake mistakes[] = {
      {{in, "--as", "mxpf4", "--out", out}, {"did you mean 'mxfp4'"}},
      {{in, "--as", "mxfp4,ruel=ceil", "--out", out}, {"did you mean 'rule'"}},
      {{in, "--as", "mxfp4"}, {"option '--out OUT.h5' is missing"}},
      {{in, "--out", out}, {"option '--as QUANTIZER' is missing"}},
      {{"--as", "mxfp4", "--out", out}, {"IN is missing"}},
      {{in, "--as", "mxfp4", "--axis", "rows", "--out", out}, {"did you mean 'row'"}},
      {{in, "--as", "mxfp4", "--seed", "-1", "--out", out}, {"--seed -1 is not a whole number from 0 to 4294967295"}},
      {{in, "--as", "mxfp4", "--seed", "one", "--out", out}, {"--seed one"}},
      {{in, "--as", "mxfp8_e4m3", "--packed", "--out", out}, {"--packed packs codes of 4 bits; e4m3 has 8"}},
      {{in, "--as", "mxfp4,hadamard=16:te_fixed:bf16", "--out", out},
       {"size 16 does not divide the 75 elements along axis row"}},
      {{in, "--as", "nowhere.toml#act", "--out", out}, {"nowhere.toml"}},
      {{folder.file("absent.npy"), "--as", "mxfp4", "--out", out}, {"absent.npy"}},
      {{folder.file("good.h5") + ":/weight", "--as", "mxfp4", "--out", out}, {"weight", "weights"}},
      {{folder.file("good.h5"), "--as", "mxfp4", "--out", out}, {"name a dataset"}},
      {{folder.file("cut.h5") + ":/weights", "--as", "mxfp4", "--out", out}, {"cut.h5"}},
      {{folder.file("broken.h5") + ":/weights", "--as", "mxfp4", "--out", out}, {"broken.h5"}},
      {{folder.file("short.npy"), "--as", "mxfp4", "--out", out}, {"short.npy"}},
      {{text, "--as", "mxfp4", "--out", out}, {"notes.txt", "unknown kind of file"}},
      {{in, "--as", "mxfp4", "--out", folder.file("no/such/folder/q.h5")}, {"no/such/folder/q.h5"}},
      {{in, "--as", "mxfp4", "--out", folder.path().string()}, {folder.path().string()}},
  };
  for (const Mistake& m : mistakes) {
    std::vector<std::string> words = {"quantize"};
    words.insert(words.end(), m.words.begin(), m.words.end());
    const Outcome outcome = narrowgauge(words);
    SCOPED_TRACE(outcome.err);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1);
    for (const std::string& piece : m.pieces)
      EXPECT_NE(outcome.err.find(piece), std::string::npos) << "lacks '" << piece << "'";
    EXPECT_EQ(folder.names(), before);
  }
}

TEST(Quantize, AFullDiskIsTheMachinesFailureAndLeavesNothing) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix(512, 512), 512, 512);
  ProcessOptions options;
  options.file_size_limit = 100000;
  const Outcome outcome = narrowgauge({"quantize", in, "--as", "mxfp4", "--out", folder.file("q.h5")}, options);
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("q.h5"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder.names(), std::vector<std::string>{"x.npy"});
}

TEST(Quantize, AnOldOutputIsKeptUntilTheNewOneIsWhole) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix(512, 512), 512, 512);
  const std::string out = folder.write("q.h5", "old");
  ProcessOptions options;
  options.file_size_limit = 100000;
  EXPECT_EQ(narrowgauge({"quantize", in, "--as", "mxfp4", "--out", out}, options).code, 3);
  std::ifstream file(out);
  std::string content;
  file >> content;
  EXPECT_EQ(content, "old");
  EXPECT_EQ(narrowgauge({"quantize", in, "--as", "mxfp4", "--out", out}).code, 0);
  EXPECT_EQ(read(out).codes.size(), 512u * 512u);
}

TEST(Quantize, ThreadsChangeNoByte) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix());
  for (const char* threads : {"1", "3"})
    ASSERT_EQ(narrowgauge({"quantize", in, "--as", "nvfp4,rounding=stochastic:8", "--threads", threads, "--out",
                           folder.file(std::string("q") + threads + ".h5")})
                  .code,
              0);
  std::ifstream a(folder.file("q1.h5"), std::ios::binary);
  std::ifstream b(folder.file("q3.h5"), std::ios::binary);
  const std::string left{std::istreambuf_iterator<char>(a), {}};
  const std::string right{std::istreambuf_iterator<char>(b), {}};
  EXPECT_EQ(left, right);
}

}  // namespace
}  // namespace ng::test
