// SPDX-License-Identifier: Apache-2.0
//
// Claim: every exception that reaches main has the exit code and message that the interface promises, failed checks
// print both expressions and both values, and misspelt names find their neighbours.
// Alone: build/release/bin/unit_base --gtest_filter='Error.*:Check.*:NearestKey.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <string>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/version.hpp"

namespace ng {
namespace {

TEST(Error, EachTypeHasItsExitCode) {
  EXPECT_EQ(exit_code_of(UserError("x")), 2);
  EXPECT_EQ(exit_code_of(MachineError("x")), 3);
  EXPECT_EQ(exit_code_of(DivergedError("x")), 4);
  EXPECT_EQ(exit_code_of(InterruptedError("x")), 130);
  EXPECT_EQ(exit_code_of(LogicError("x")), 3);
  EXPECT_EQ(exit_code_of(std::bad_alloc()), 3);
  EXPECT_EQ(exit_code_of(std::system_error(std::make_error_code(std::errc::io_error))), 3);
}

TEST(Error, OnlyDefectsAskToBeReported) {
  EXPECT_EQ(message_of(UserError("no such key")), "no such key");
  EXPECT_EQ(message_of(MachineError("disk full")), "disk full");
  EXPECT_EQ(message_of(std::bad_alloc()), "out of memory");
  EXPECT_NE(message_of(LogicError("sum")).find("please report"), std::string::npos);
  EXPECT_NE(message_of(std::out_of_range("vector")).find("please report"), std::string::npos);
}

template <class Function>
std::string logic_error_of(Function function) {
  try {
    function();
  } catch (const LogicError& error) {
    return error.what();
  }
  return "nothing thrown";
}

enum class Colour { red = 3 };

TEST(Check, PrintsExpressionsValuesAndMessage) {
  const int rows = 3;
  const std::size_t cols = 4;
  const std::string name = "fc1";
  const std::string text = logic_error_of([&] { NG_CHECK_EQ(rows + 1, static_cast<int>(cols) + 1, "tensor ", name); });
  EXPECT_NE(text.find("rows + 1 == static_cast<int>(cols) + 1 (4 against 5): tensor fc1"), std::string::npos) << text;
  EXPECT_NE(text.find("base_error_test.cpp:"), std::string::npos) << text;
  EXPECT_NE(logic_error_of([&] { NG_CHECK(rows > 5, "at ", 0.1, ", ", true); }).find("rows > 5: at 0.1, true"),
            std::string::npos);
  EXPECT_NE(logic_error_of([&] { NG_CHECK_EQ(name, "fc2"); }).find("'fc1' against 'fc2'"), std::string::npos);
  EXPECT_NE(logic_error_of([&] { NG_CHECK_NE(Colour::red, Colour::red); }).find("3 against 3"), std::string::npos);
}

TEST(Check, PassesWithoutEffectAndEvaluatesOnce) {
  int calls = 0;
  const auto next = [&] { return ++calls; };
  NG_CHECK_EQ(next(), 1);
  NG_CHECK_LT(next(), 3, "twice");
  NG_CHECK(next() == 3);
  EXPECT_EQ(calls, 3);
}

TEST(NearestKey, FindsWhatWasMeant) {
  const std::vector<std::string> valid = {"element", "tile", "scale", "rounding"};
  EXPECT_EQ(nearest_key("elemnt", valid), "element");
  EXPECT_EQ(nearest_key("tiel", valid), "tile");
  EXPECT_EQ(nearest_key("Scale", valid), "scale");
  EXPECT_EQ(nearest_key("rouding", valid), "rounding");
  EXPECT_EQ(nearest_key("hadamard", valid), std::nullopt);
  EXPECT_EQ(nearest_key("x", valid), std::nullopt);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("ab", "ba"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(suggestion("tyle", valid), "did you mean 'tile'? valid: element, tile, scale, rounding");
  EXPECT_EQ(suggestion("hadamard", valid), "valid: element, tile, scale, rounding");
}

TEST(Version, IsRecorded) {
  EXPECT_EQ(std::count(program_version().begin(), program_version().end(), '.'), 2);
  EXPECT_FALSE(git_revision().empty());
  EXPECT_EQ(source_digest().size(), 64u);
}

}  // namespace
}  // namespace ng
