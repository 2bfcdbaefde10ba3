// SPDX-License-Identifier: Apache-2.0
//
// Claim: `formats`, `recipes`, `models` and `devices` show what there is, and refuse broken files with their place.
// Alone: build/bin/cli_program --gtest_filter='Catalogue.*'
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/process.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng::test {
namespace {

const std::filesystem::path kSource = NG_SOURCE_DIR;

TEST(Catalogue, FormatsListsEveryFormat) {
  const std::string out = "\n" + narrowgauge({"formats"}).out;
  for (const NamedFormat& row : format_catalog())
    EXPECT_NE(out.find(std::string("\n") + row.name + " "), std::string::npos) << row.name;
  EXPECT_NE(out.find("\nnvfp4_2d "), std::string::npos);
}

TEST(Catalogue, DecodeTablesAreExact) {
  for (const NamedFormat& row : format_catalog()) {
    if (bit_count(row.format) > 8) continue;
    std::istringstream lines(narrowgauge({"formats", "--decode", row.name}).out);
    std::string heading;
    std::getline(lines, heading);
    EXPECT_EQ(heading, std::string("code\t") + row.name);
    std::uint32_t codes = 0;
    for (std::string line; std::getline(lines, line); ++codes) {
      const std::size_t tab = line.find('\t');
      ASSERT_EQ(std::stoul(line.substr(0, tab), nullptr, 16), codes);
      const float printed = std::strtof(line.c_str() + tab + 1, nullptr);
      const float wanted = decode(row.format, codes);
      if (std::isnan(wanted)) {
        EXPECT_TRUE(std::isnan(printed));
      } else {
        EXPECT_EQ(bits_of(printed), bits_of(wanted)) << row.name << " " << line;
      }
    }
    EXPECT_EQ(codes, 1u << bit_count(row.format)) << row.name;
  }
}

TEST(Catalogue, RecipesListsEveryFile) {
  const Outcome outcome = narrowgauge({"recipes"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "studies/recipes"))
    if (entry.path().extension() == ".toml") {
      EXPECT_NE(("\n" + outcome.out).find("\n" + entry.path().stem().string() + " "), std::string::npos)
          << entry.path();
    }
}

TEST(Catalogue, ARecipeIsShownAsJson) {
  const Outcome outcome = narrowgauge({"recipes", "nvfp4", "--model", "small"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out, "stdout");
  EXPECT_EQ(json.at("name").as_string(), "nvfp4");
  EXPECT_EQ(json.at("quantizers").at("grad").as_string(), "nvfp4,rounding=stochastic:8");
  EXPECT_EQ(json.at("digest").as_string(), digest_of(json.at("resolved")));
  const Json& wgrad = json.at("resolved").at("linear").at("layer.1/fc1").at("wgrad");
  EXPECT_EQ(wgrad.at("grad_output").at("quantizer").at("hadamard").as_string(), "16:te_fixed:bf16");
  EXPECT_EQ(narrowgauge({"recipes", (kSource / "studies/recipes/nvfp4.toml").string(), "--model=small"}).out,
            outcome.out);
}

TEST(Catalogue, NamesAreFoundFromAnywhere) {
  TemporaryFolder folder;  // outside the tree: studies/ is found beside the program
  ProcessOptions options;
  options.folder = folder.path();
  EXPECT_EQ(narrowgauge({"models", "tiny"}, options).out, narrowgauge({"models", "tiny"}).out);
  std::filesystem::create_directories(folder.path() / "studies/models");  // nearer ones win
  std::ifstream tiny(kSource / "studies/models/tiny.toml");
  std::stringstream text;
  text << tiny.rdbuf();
  std::string own = text.str();
  own.replace(own.find("name = \"tiny\""), 13, "name = \"mine\"");
  folder.write("studies/models/mine.toml", own);
  const Outcome outcome = narrowgauge({"models"}, options);
  EXPECT_NE(outcome.out.find("\nmine "), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("mixtral"), std::string::npos) << outcome.out;
}

TEST(Catalogue, ModelsCountParameters) {
  const Json json = Json::parse(narrowgauge({"models", "mixtral_8x7b"}).out, "stdout");
  EXPECT_EQ(json.at("total_parameters").as_int(), 46702792704);
  EXPECT_EQ(json.at("config").at("experts").as_int(), 8);
}

TEST(Catalogue, DevicesSaysWhatIsMissing) {
  const Outcome outcome = narrowgauge({"devices"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(outcome.out.starts_with("cpu ")) << outcome.out;
  EXPECT_NE(outcome.out.find("\ncuda "), std::string::npos) << outcome.out;
}

TEST(Catalogue, BrokenFilesAreRefusedWithTheirPlace) {
  TemporaryFolder folder;
  struct Case {
    std::string text;
    std::string wanted;
  };
  const std::string tensor =
      "[tensor]\ncarried = { residual = \"bf16\", gemm_output = \"bf16\", logits = \"f32\", softmax = \"f32\" "
      "}\nexchange = { dispatch = "
      "\"bf16\", combine = \"bf16\", dispatch_grad = \"bf16\", combine_grad = \"bf16\" }\nstate = { master = \"f32\", "
      "adam_m = \"f32\", adam_v = "
      "\"f32\", weight_grad = \"f32\" }\n";
  const Case cases[] = {
      {"name = \"x\nrule = []\n", "r.toml:1:"},
      {"name = \"x\"\nrule = [ { uze = \"bf16\" } ]\n" + tensor, "r.toml:2:"},
      {"name = \"x\"\nrule = [ { use = \"bf16\" } ]\nswitch = []\n" + tensor, "has no entry"},
      {"name = \"x\"\nrule = [ { linear = \"fc1\", use = \"bf16\" } ]\n" + tensor, "no rule matches embedding"},
      {"name = \"x\"\nrule = [ { use = \"bf16\" }, { use = \"f32\" } ]\n" + tensor, "rule 2 can never win"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = narrowgauge({"recipes", folder.write("r.toml", c.text)});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(c.wanted), std::string::npos) << outcome.err;
  }
  const std::string unreadable = folder.file("folder.toml");
  std::filesystem::create_directory(unreadable);
  EXPECT_EQ(narrowgauge({"recipes", unreadable}).code, 2);
  EXPECT_EQ(narrowgauge({"models", folder.write("m.toml", "name = \"m\"\nlayers = 4\n")}).code, 2);
}

}  // namespace
}  // namespace ng::test
