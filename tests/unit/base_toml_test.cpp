// SPDX-License-Identifier: Apache-2.0
//
// Claim: a TOML file is either understood whole or answered with file, line, column, key and what is valid.
// Alone: build/release/bin/unit_base --gtest_filter='Toml.*'
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/toml_reader.hpp"

namespace ng {
namespace {

constexpr const char* kText = R"(name = "tiny"
layers = 4
theta = 10000.0
tied = true
tags = ["a", "b"]
shape = [2, 3]
rates = [0.5, 1]
rule = [
  { use = "x", gemm = "fprop" },
  { use = "y" },
]
[optimizer]
lr = 1e-3
[optimizer.schedule]
kind = "cosine"
)";

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

void read_all(const TomlTable& root) {
  EXPECT_EQ(root.get_string("name"), "tiny");
  EXPECT_EQ(root.get_int("layers", 1, 64), 4);
  EXPECT_EQ(root.get_double("theta"), 10000.0);
  EXPECT_TRUE(root.get_bool("tied"));
  EXPECT_EQ(root.get_string_list("tags"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(root.get_int_list("shape"), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(root.get_double_list("rates"), (std::vector<double>{0.5, 1.0}));
  const auto rules = root.get_table_array("rule");
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0].get_string("use"), "x");
  EXPECT_EQ(rules[0].get_string("gemm"), "fprop");
  EXPECT_EQ(rules[1].get_string("use"), "y");
  EXPECT_EQ(rules[1].path(), "rule.1");
  const TomlTable optimizer = root.get_table("optimizer");
  EXPECT_EQ(optimizer.get_double("lr"), 1e-3);
  EXPECT_EQ(optimizer.get_table("schedule").get_string("kind"), "cosine");
}

TEST(Toml, ReadsEveryType) {
  const TomlDocument document = TomlDocument::from_text("m.toml", kText);
  read_all(document.root());
  EXPECT_NO_THROW(document.finish());
  EXPECT_EQ(document.root().keys(), (std::vector<std::string>{"name", "layers", "theta", "tied", "tags", "shape",
                                                              "rates", "rule", "optimizer"}));
  EXPECT_EQ(document.root().kind("theta"), TomlKind::real);
  EXPECT_EQ(document.root().kind("absent"), std::nullopt);
}

// toml++ 3.3 reaches undefined behaviour on these; found by tests/fuzz.
TEST(Toml, CharactersOutsideOfStringsAreRefused) {
  const auto parse = [](const std::string& text) {
    return error_of([&] { (void)TomlDocument::from_text("m.toml", text); });
  };
  const std::string why = ": a character that is not ASCII outside of a string or comment";
  EXPECT_EQ(parse("a = 1 \u00bd"), "m.toml:1:7" + why);
  EXPECT_EQ(parse("s = \"\u00e9\" # \u00e9\n\u02de = 1\n"), "m.toml:2:1" + why);
  EXPECT_EQ(parse("s = \"\"\"\n\u00e9\"\"\"\"\"\n[\u00e9]\n"), "m.toml:3:2" + why);
  EXPECT_EQ(parse("s = '\\' \u00e9"), "m.toml:1:9" + why);
  EXPECT_EQ(parse("s = \"\\\"\u00e9\"\u00e9"), "m.toml:1:10" + why);
  EXPECT_EQ(
      parse("a.\"\u00e9\" = [\"\u00e9\", { b.\"\u00e9\" = '\u00e9' }, \"\u00e9\"]\n\"\u00e9\".c = 1\n[t.'\u00e9']\n"),
      "accepted");
  EXPECT_EQ(parse("a = [\n1.\"\u00e9\"]"), "m.toml:2:3: a quote inside of a word");
  EXPECT_EQ(parse("a = 1=\"\u00e9\""), "m.toml:1:7: a quote inside of a word");
  EXPECT_EQ(parse("\ufeffs = \"\u00e9 '\"\nt = '''\u00e9 \" ''' # \u00e9\n\"\u00e9\" = 1\nu = \"\"\n"), "accepted");
  TomlDocument document = TomlDocument::from_text("m.toml", "a = \"b\"\n");
  EXPECT_NE(error_of([&] { document.set("a", "1\u00bd", "--set"); }), "accepted");
}

TEST(Toml, OptionalKeysTakeTheirFallbacks) {
  const TomlDocument document = TomlDocument::from_text("m.toml", "a = 1\n");
  const TomlTable root = document.root();
  EXPECT_EQ(root.optional_int("a", 7), 1);
  EXPECT_EQ(root.optional_int("b", 7), 7);
  EXPECT_EQ(root.optional_int("b"), std::nullopt);
  EXPECT_EQ(root.optional_string("c", "x"), "x");
  EXPECT_EQ(root.optional_double("d", 0.5), 0.5);
  EXPECT_TRUE(root.optional_bool("e", true));
  EXPECT_TRUE(root.optional_table_array("f").empty());
  EXPECT_FALSE(root.optional_table("g").has_value());
  EXPECT_TRUE(root.optional_string_list("h").empty());
  EXPECT_NO_THROW(document.finish());
}

TEST(Toml, UnreadKeysAreErrorsWithTheNearestValidOne) {
  const TomlDocument document = TomlDocument::from_text("m.toml", "layers = 4\n[optimizer]\nlr = 1\n  bata1 = 0.9\n");
  (void)document.root().get_int("layers");
  EXPECT_EQ(error_of([&] { document.finish(); }),
            "m.toml:2:2: unknown key 'optimizer' in the top level; valid: layers");
  const TomlTable optimizer = document.root().get_table("optimizer");
  (void)optimizer.get_double("lr");
  (void)optimizer.optional_double("beta1", 0.9);
  EXPECT_EQ(error_of([&] { document.finish(); }),
            "m.toml:4:3: unknown key 'optimizer.bata1' in [optimizer]; did you mean 'beta1'? valid: lr, beta1");
}

TEST(Toml, UnreadKeysInsideArraysAreFound) {
  const TomlDocument document = TomlDocument::from_text("r.toml", "rule = [\n  { use = \"a\", gem = \"fprop\" },\n]\n");
  for (const TomlTable& rule : document.root().get_table_array("rule")) {
    (void)rule.get_string("use");
    (void)rule.optional_string("gemm");
  }
  EXPECT_EQ(error_of([&] { document.finish(); }),
            "r.toml:2:16: unknown key 'rule.0.gem' in [rule.0]; did you mean 'gemm'? valid: use, gemm");
}

TEST(Toml, AMisspeltDemandedKeyIsNamed) {
  const TomlDocument document = TomlDocument::from_text("m.toml", "name = \"x\"\nlayrs = 4\n");
  EXPECT_EQ(error_of([&] { (void)document.root().get_int("layers"); }),
            "m.toml:2:1: unknown key 'layrs' in the top level; did you mean 'layers', which is missing?");
  EXPECT_EQ(error_of([&] { (void)document.root().get_int("vocabulary"); }),
            "m.toml: missing key 'vocabulary' in the top level: expected an integer");
}

TEST(Toml, WrongTypesAndRangesAreNamed) {
  const TomlDocument document = TomlDocument::from_text("m.toml", kText);
  const TomlTable root = document.root();
  EXPECT_EQ(error_of([&] { (void)root.get_int("name"); }),
            "m.toml:1:1: key 'name': expected an integer, found a string (\"tiny\")");
  EXPECT_EQ(error_of([&] { (void)root.get_int("theta"); }),
            "m.toml:3:1: key 'theta': expected an integer, found a number with a fraction (10000)");
  EXPECT_EQ(error_of([&] { (void)root.get_int("layers", 1, 3); }),
            "m.toml:2:1: key 'layers': 4 is out of range; valid: 1 to 3");
  EXPECT_EQ(error_of([&] { (void)root.get_double("theta", 0.0, 1.0); }),
            "m.toml:3:1: key 'theta': 10000 is out of range; valid: 0 to 1");
  EXPECT_EQ(error_of([&] { (void)root.get_bool("layers"); }),
            "m.toml:2:1: key 'layers': expected a boolean (true or false), found an integer (4)");
  EXPECT_EQ(error_of([&] { (void)root.get_int_list("rates"); }),
            "m.toml:7:10: key 'rates': expected an array of integers, found a number with a fraction (0.5)");
  EXPECT_EQ(error_of([&] { (void)root.get_table("name"); }),
            "m.toml:1:1: key 'name': expected a table, found a string (\"tiny\")");
  EXPECT_EQ(error_of([&] { (void)root.get_string("optimizer"); }),
            "m.toml:12:2: key 'optimizer': expected a string, found a table");
  const std::vector<std::string> kinds = {"constant", "cosine_decay", "wsd"};
  EXPECT_EQ(error_of([&] { (void)root.get_table("optimizer").get_table("schedule").get_choice("kind", kinds); }),
            "m.toml:15:1: key 'optimizer.schedule.kind': unknown value \"cosine\"; valid: constant, cosine_decay, wsd");
  EXPECT_NE(error_of([&] { (void)TomlDocument::from_text("n", "x = nan").root().get_double("x"); }), "accepted");
  EXPECT_NE(error_of([&] { (void)TomlDocument::from_text("n", "x = inf").root().get_double("x"); }), "accepted");
}

TEST(Toml, BadSyntaxAndDuplicatesHaveAPlace) {
  EXPECT_EQ(error_of([] { (void)TomlDocument::from_text("m.toml", "a = 1\nb = [1,\n"); }).substr(0, 7), "m.toml:");
  const std::string duplicate = error_of([] { (void)TomlDocument::from_text("m.toml", "a = 1\na = 2\n"); });
  EXPECT_EQ(duplicate.substr(0, 9), "m.toml:2:") << duplicate;
  EXPECT_NE(duplicate.find("'a'"), std::string::npos) << duplicate;
  EXPECT_NE(error_of([] { (void)TomlDocument::from_text("m.toml", "[t]\na = 1\n[t]\nb = 1\n"); }), "accepted");
  EXPECT_NE(error_of([] { (void)TomlDocument::from_text("m.toml", std::string("a = \"\xff\"", 7)); }), "accepted");
  EXPECT_NE(error_of([] { (void)TomlDocument::from_text("m.toml", "a = " + std::string(100000, '[')); }), "accepted");
}

TEST(Toml, FailAndWhereNameThePlace) {
  const TomlDocument document = TomlDocument::from_text("m.toml", kText);
  const TomlTable optimizer = document.root().get_table("optimizer");
  EXPECT_EQ(optimizer.where("lr"), "m.toml:13:1");
  EXPECT_EQ(optimizer.where("absent"), "m.toml:12:2");
  EXPECT_EQ(error_of([&] { optimizer.fail("lr", "must be below 1e-4"); }),
            "m.toml:13:1: key 'optimizer.lr': must be below 1e-4");
}

TEST(Toml, OverridesReplaceAndCreate) {
  TomlDocument document = TomlDocument::from_text("m.toml", kText);
  document.set("layers", "6", "--set layers=6");
  document.set("optimizer.schedule.kind", "wsd", "--set optimizer.schedule.kind=wsd");
  document.set("rule.1.use", "\"z\"", "--set rule.1.use");
  document.set("new.table.key", "[1, 2]", "--set new.table.key");
  const TomlTable root = document.root();
  EXPECT_EQ(root.get_int("layers"), 6);
  EXPECT_EQ(root.get_table("optimizer").get_table("schedule").get_string("kind"), "wsd");
  EXPECT_EQ(root.get_table_array("rule")[1].get_string("use"), "z");
  EXPECT_EQ(root.get_table("new").get_table("table").get_int_list("key"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(document.text(), kText);
}

TEST(Toml, OverridesAreAsStrictAsFiles) {
  TomlDocument document = TomlDocument::from_text("m.toml", kText);
  const auto set_error = [&](const char* path, const char* value) {
    return error_of([&] { document.set(path, value, "--set"); });
  };
  EXPECT_NE(set_error("layers", "6 7"), "accepted");
  EXPECT_NE(set_error("layers", ""), "accepted");
  EXPECT_NE(set_error("layers", "1\nname = 2"), "accepted");
  EXPECT_NE(set_error("a..b", "1"), "accepted");
  EXPECT_NE(set_error("", "1"), "accepted");
  EXPECT_EQ(set_error("rule.5.use", "x"), "--set: 'rule' has 2 entries; '5' is none of them");
  EXPECT_EQ(set_error("layers.x", "1"), "--set: 'layers' is an integer, so it has no key 'x'");
  document.set("layrs", "3", "--set layrs=3");
  read_all(document.root());
  EXPECT_EQ(error_of([&] { document.finish(); }).substr(0, 70),
            "--set layrs=3: unknown key 'layrs' in the top level; did you mean 'lay");
  EXPECT_EQ(split_setting("a.b=c=d", "--set"), (std::pair<std::string, std::string>{"a.b", "c=d"}));
  EXPECT_NE(error_of([] { (void)split_setting("a.b", "--set"); }), "accepted");
  EXPECT_NE(error_of([] { (void)split_setting("=1", "--set"); }), "accepted");
}

TEST(Toml, ReadsFilesAndNamesMissingOnes) {
  const auto path = std::filesystem::path(testing::TempDir()) / "unit_base_reads.toml";
  std::ofstream(path) << "a = 5\n";
  EXPECT_EQ(TomlDocument::from_file(path).root().get_int("a"), 5);
  EXPECT_EQ(TomlDocument::from_file(path).root().where("a"), path.string() + ":1:1");
  std::filesystem::remove(path);
  EXPECT_EQ(error_of([&] { (void)TomlDocument::from_file(path); }),
            "cannot read '" + path.string() + "': No such file or directory");
}

// A note that somebody keeps in the file: all of it, and nothing beside it.
TEST(Toml, AcceptTakesAWholeTable) {
  const TomlDocument document =
      TomlDocument::from_text("m.toml", "note = { a = 1, b = { c = [{ d = 2 }] } }\nother = 1\n");
  document.root().accept("note");
  EXPECT_NE(error_of([&] { document.finish(); }).find("unknown key 'other'"), std::string::npos);
  document.root().accept("other");
  EXPECT_EQ(error_of([&] { document.finish(); }), "accepted");
}

}  // namespace
}  // namespace ng
