// SPDX-License-Identifier: Apache-2.0
//
// Claim: `quantize` reads raw bytes as it reads arrays, takes every choice of the quantizer's key table, and believes
// no header further than its file reaches. Alone: build/bin/cli_quantize --gtest_filter='QuantizeInputs.*'
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <sstream>

#include "cli/process.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng::test {
namespace {

constexpr std::int64_t kRows = 37, kCols = 75;

// Values over many binades, of both signs.
std::vector<float> matrix(std::int64_t rows = kRows, std::int64_t cols = kCols) {
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = std::ldexp(static_cast<float>(i * 37 % 201) - 100.0f, static_cast<int>(i % 13) - 9) / 3.0f;
  return x;
}

std::string npy(const TemporaryFolder& folder, const std::vector<float>& x, std::int64_t rows = kRows,
                std::int64_t cols = kCols, const std::string& name = "x.npy") {
  write_npy(folder.file(name), Array::from<float>({rows, cols}, x));
  return folder.file(name);
}

std::vector<std::uint32_t> codes_in(const std::string& path) {
  const hdf5::File file(path, hdf5::Mode::read);
  const Array codes = file.root().read("codes");
  std::vector<std::uint32_t> values;
  if (codes.dtype == Dtype::u8) {
    for (const std::uint8_t code : codes.as<std::uint8_t>()) values.push_back(code);
  } else {
    for (const std::uint16_t code : codes.as<std::uint16_t>()) values.push_back(code);
  }
  return values;
}

// Bytes of `values` as they lie in memory.
template <class T>
std::string raw(const TemporaryFolder& folder, const std::string& name, const std::vector<T>& values) {
  return folder.write(name, std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
}

TEST(QuantizeInputs, ReadsRawBytes) {
  TemporaryFolder folder;
  const std::vector<float> x = matrix();
  const auto codes_of = [&](const std::vector<std::string>& in) {
    std::vector<std::string> words = {"quantize", "--as", "mxfp4", "--out", folder.file("q.h5")};
    words.insert(words.begin() + 1, in.begin(), in.end());
    const Outcome outcome = narrowgauge(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return codes_in(folder.file("q.h5"));
  };
  const std::vector<std::uint32_t> wanted = codes_of({npy(folder, x)});
  EXPECT_EQ(codes_of({raw(folder, "x.bin", x), "--shape", "37x75", "--dtype", "f32"}), wanted);

  std::vector<std::uint16_t> bf16;
  std::vector<float> rounded;
  for (const float value : x) {
    bf16.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
    rounded.push_back(std::bit_cast<float>(std::uint32_t{bf16.back()} << 16));
  }
  const std::vector<std::uint32_t> narrow = codes_of({npy(folder, rounded, kRows, kCols, "narrow.npy")});
  const std::string bin = raw(folder, "narrow.bin", bf16);
  EXPECT_EQ(codes_of({bin, "--shape", "37x75", "--dtype", "bf16"}), narrow);
  EXPECT_EQ(codes_of({bin, "--shape", "37x5x15", "--dtype", "bf16"}).size(), narrow.size());

  // Codes: decoded exactly, so a cast to their own format gives them back. 256 of e4m3 but NaN; e5m6 takes two bytes.
  std::vector<std::uint8_t> eight;
  for (int code = 0; code < 256; ++code)
    if ((code & 0x7f) != 0x7f) eight.push_back(static_cast<std::uint8_t>(code));
  ASSERT_EQ(narrowgauge({"quantize", raw(folder, "codes.bin", eight), "--shape", "2x127", "--dtype", "e4m3", "--as",
                         "e4m3", "--out", folder.file("again.h5")})
                .code,
            0);
  EXPECT_EQ(codes_in(folder.file("again.h5")), (std::vector<std::uint32_t>(eight.begin(), eight.end())));
  const std::vector<std::uint16_t> twelve = {0, 1, 0x3f, 0x7bf, 0x800, 0xfbf};
  ASSERT_EQ(narrowgauge({"quantize", raw(folder, "wide.bin", twelve), "--shape", "6", "--dtype", "e5m6", "--as", "e5m6",
                         "--out", folder.file("again.h5")})
                .code,
            0);
  EXPECT_EQ(codes_in(folder.file("again.h5")), (std::vector<std::uint32_t>(twelve.begin(), twelve.end())));
}

TEST(QuantizeInputs, RawBytesMustFit) {
  TemporaryFolder folder;
  const std::string in = raw(folder, "x.bin", matrix());
  const std::string array = npy(folder, matrix());
  const std::vector<std::string> before = folder.names();
  struct Mistake {
    std::vector<std::string> words;
    const char* piece;
  };
  const Mistake mistakes[] = {
      {{in}, "valid are FILE.h5:/dataset, FILE.npy, FILE.safetensors:name and raw bytes"},
      {{in, "--shape", "37x75"}, "raw bytes need --dtype as well"},
      {{in, "--dtype", "f32"}, "raw bytes need --shape as well"},
      {{in, "--shape", "37x76", "--dtype", "f32"}, "x.bin: holds 11100 bytes; [37, 76] of f32 needs 11248"},
      {{in, "--shape", "37,75", "--dtype", "f32"}, "--shape 37,75 is not EXTENTxEXTENT"},
      {{in, "--shape", "37x", "--dtype", "f32"}, "--shape 37x is not EXTENTxEXTENT"},
      {{in, "--shape", "-37x75", "--dtype", "f32"}, "--shape -37x75 is not EXTENTxEXTENT"},
      {{in, "--shape", "4294967296x4294967296x4294967296", "--dtype", "f32"}, "needs more than can be addressed"},
      {{in, "--shape", "37x75", "--dtype", "float"}, "--dtype 'float' is unknown"},
      {{in, "--shape", "37x75", "--dtype", "f64"}, "--dtype 'f64' is unknown"},
      {{in, "--shape", "37x300", "--dtype", "e2m1"}, "is no code of e2m1, which has 4 bits"},
      {{array, "--shape", "37x75", "--dtype", "f32"}, "x.npy says its own"},
      {{folder.file("absent.bin"), "--shape", "1", "--dtype", "f32"}, "absent.bin"},
      {{folder.path().string(), "--shape", "1", "--dtype", "f32"}, "is not a regular file"},
  };
  for (const Mistake& m : mistakes) {
    std::vector<std::string> words = {"quantize"};
    words.insert(words.end(), m.words.begin(), m.words.end());
    words.insert(words.end(), {"--as", "mxfp4", "--out", folder.file("q.h5")});
    const Outcome outcome = narrowgauge(words);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(m.piece), std::string::npos) << outcome.err << "lacks: " << m.piece;
    EXPECT_EQ(folder.names(), before);
  }
}

// Every value that a key of the quantizer text lists, on a preset that it fits: accepted, or refused because it
// contradicts another choice, in words that name it.
TEST(QuantizeInputs, EveryChoiceOfTheKeyTableIsTaken) {
  TemporaryFolder folder;
  const std::string in = npy(folder, matrix(4, 64), 4, 64);
  const std::map<std::string, std::vector<std::string>> spelled = {
      {"tile", {"1x32", "16x16", "0x0", "1x0"}},
      {"floor", {"0", "1e-10"}},
      {"outlier", {"none", "0.99:row", "0.999:tensor:e4m3", "0.99:row:none"}},
      {"hadamard", {"none", "16:te_fixed:bf16", "32:none:f32"}},
      {"rounding", {"nearest_even", "stochastic:8", "stochastic:16", "stochastic:32"}},
      {"rule", {"floor", "four_over_six:mae:448", "four_over_six:mse:256"}},
  };
  int taken_choices = 0;
  for (const QuantizerKey& key : quantizer_keys()) {
    std::vector<std::string> values;
    std::istringstream list(key.values);
    if (key.values.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos || key.name == "inf_scale")
      for (std::string value; std::getline(list, value, '|');) values.push_back(value);
    if (const auto more = spelled.find(key.name); more != spelled.end())
      values.insert(values.end(), more->second.begin(), more->second.end());
    bool key_taken = false;
    for (const std::string& value : values) {
      bool taken = false;
      std::string last;
      for (const char* preset : {"mxfp4", "nvfp4", "fp8_1x128", "mxfp8_e4m3", "fp8_tensor", "e4m3"}) {
        const std::string out = folder.file("q.h5");
        const Outcome outcome =
            narrowgauge({"quantize", in, "--as", std::string(preset) + "," + key.name + "=" + value, "--out", out});
        EXPECT_TRUE(outcome.code == 0 || outcome.code == 2) << preset << " " << key.name << "=" << value << outcome.err;
        last = outcome.err;
        if (outcome.code != 0) continue;
        taken = true;
        ++taken_choices;
        const hdf5::File file(out, hdf5::Mode::read);
        const Json json = Json::parse(file.root().attribute_text("quantizer"), "attribute");
        EXPECT_EQ(json.at(key.name).as_string().substr(0, value.size()), value) << preset;
        break;
      }
      key_taken = key_taken || taken;
      if (!taken) {
        EXPECT_NE(last.find(value.substr(0, value.find(':'))), std::string::npos) << key.name << ": " << last;
      }
    }
    EXPECT_TRUE(key_taken) << key.name << ": none of its values was taken";
  }
  EXPECT_GT(taken_choices, 50);
}

// Headers that promise more than the file holds cost no memory: 512 MB of address space are enough to refuse them.
TEST(QuantizeInputs, LyingHeadersCostNoMemory) {
  TemporaryFolder folder;
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824, 4), }";
  header.resize(117, ' ');
  header += '\n';
  folder.write("lies.npy", std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header);
  const std::string entry = R"({"t":{"dtype":"F32","shape":[1073741824,4],"data_offsets":[0,17179869184]}})";
  folder.write("lies.safetensors", std::string(1, static_cast<char>(entry.size())) + std::string(7, '\0') + entry);
  folder.write("long.safetensors", std::string("\xff\xff\xff\xff\0\0\0\0{", 9));
  for (const std::string in : {"lies.npy", "lies.safetensors:t", "long.safetensors:t"}) {
    const std::string command = "ulimit -v 524288; exec '" NG_PROGRAM "' quantize '" + folder.file(in) +
                                "' --as mxfp4 --out '" + folder.file("q.h5") + "' 2>&1";
    FILE* const pipe = ::popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string text;
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
    EXPECT_EQ(WEXITSTATUS(::pclose(pipe)), 2) << text;
    EXPECT_NE(text.find(in.substr(0, in.find(':'))), std::string::npos) << text;
    EXPECT_FALSE(std::filesystem::exists(folder.file("q.h5")));
  }
}

}  // namespace
}  // namespace ng::test
