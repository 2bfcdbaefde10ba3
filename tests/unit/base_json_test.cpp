// SPDX-License-Identifier: Apache-2.0
//
// Claim: equal values give equal canonical bytes, canonical text reads back equal, and bad JSON is answered with its
// place.
// Alone: build/release/bin/unit_base --gtest_filter='Json.*'
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/sha256.hpp"

namespace ng {
namespace {

TEST(Json, KeysAreSortedAndNothingIsSpaced) {
  Json value = Json::object({{"b", 1}, {"a", Json::array({true, nullptr, "x"})}});
  value["B"] = Json::object();
  value["list"].push_back(2);
  EXPECT_EQ(value.canonical(), R"({"B":{},"a":[true,null,"x"],"b":1,"list":[2]})");
  EXPECT_EQ(digest_of(value), sha256_hex(value.canonical()));
}

TEST(Json, NumbersAreShortestAndWhole) {
  EXPECT_EQ(Json(0.1).canonical(), "0.1");
  EXPECT_EQ(Json(1e-4).canonical(), "1e-04");
  EXPECT_EQ(Json(5e-324).canonical(), "5e-324");
  EXPECT_EQ(Json(1.7976931348623157e308).canonical(), "1.7976931348623157e+308");
  EXPECT_EQ(Json(3.0).canonical(), "3");
  EXPECT_EQ(Json(100000.0).canonical(), "100000");
  EXPECT_EQ(Json(-2.0).canonical(), Json(-2).canonical());
  EXPECT_EQ(Json(-0.0).canonical(), "-0.0");
  EXPECT_EQ(Json(std::numeric_limits<std::uint64_t>::max()).canonical(), "18446744073709551615");
  EXPECT_EQ(Json(std::numeric_limits<std::int64_t>::min()).canonical(), "-9223372036854775808");
  EXPECT_THROW((void)Json(std::numeric_limits<double>::quiet_NaN()).canonical(), LogicError);
  EXPECT_THROW((void)Json(std::numeric_limits<double>::infinity()).canonical(), LogicError);
}

TEST(Json, StringsEscapeOnlyWhatMustBe) {
  EXPECT_EQ(Json("a\"b\\c\n\t\x01/é").canonical(), "\"a\\\"b\\\\c\\n\\t\\u0001/é\"");
}

TEST(Json, CanonicalTextReadsBackEqual) {
  const std::string text =
      R"({"a":[1,-2,0.1,1e-07,-0.0,18446744073709551615],"b":{"c":"\u0001é\n","d":null},"e":[],"f":false})";
  EXPECT_EQ(Json::parse(text, "t").canonical(), text);
  EXPECT_EQ(Json::parse(Json::parse(text, "t").pretty(), "t").canonical(), text);
  EXPECT_EQ(Json::parse(" { \"b\" : 1.0 , \"a\":2 }", "t").canonical(), R"({"a":2,"b":1})");
}

std::string error_of(const std::string& text) {
  try {
    (void)Json::parse(text, "run.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Json, BadTextIsAnsweredWithItsPlace) {
  EXPECT_EQ(error_of("{\n  \"a\": tru\n}").substr(0, 14), "run.json:2:11:");
  EXPECT_EQ(error_of("{\"a\":1,\"a\":2}"), "run.json: duplicate key 'a'");
  EXPECT_NE(error_of(""), "accepted");
  EXPECT_NE(error_of("[1,]"), "accepted");
  EXPECT_NE(error_of("[1] 2"), "accepted");
  EXPECT_NE(error_of("[1e999]"), "accepted");
  EXPECT_NE(error_of(std::string(100000, '[')), "accepted");
}

TEST(Json, WrongTypesAreDefects) {
  const Json value = Json::object({{"a", 1}});
  EXPECT_EQ(value.at("a").as_int(), 1);
  EXPECT_EQ(value.at("a").as_double(), 1.0);
  EXPECT_EQ(value.find("b"), nullptr);
  EXPECT_THROW((void)value.at("b"), LogicError);
  EXPECT_THROW((void)value.at("a").as_string(), LogicError);
  EXPECT_THROW((void)value.as_array(), LogicError);
  EXPECT_THROW((void)Json(-1).as_uint(), LogicError);
  EXPECT_THROW((void)Json(1.5).as_int(), LogicError);
  EXPECT_EQ(Json(3.0).as_int(), 3);
}

}  // namespace
}  // namespace ng
