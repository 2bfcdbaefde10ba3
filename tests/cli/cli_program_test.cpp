// SPDX-License-Identifier: Apache-2.0
//
// Claim: the program explains itself, answers every mistyped command line with one message, the nearest valid word and
// exit code 2, keeps results on stdout and messages on stderr, and the README's table is its own.
// Alone: build/bin/cli_program --gtest_filter='Program.*'
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "cli/process.hpp"

namespace ng::test {
namespace {

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  std::istringstream lines(narrowgauge({"--help-markdown"}).out);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("| `")) names.push_back(line.substr(3, line.find_first_of(" `", 3) - 3));
  return names;
}

TEST(Program, HelpNamesEveryCommand) {
  const Outcome help = narrowgauge({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_EQ(help.err, "");
  ASSERT_GE(command_names().size(), 4u);
  for (const std::string& name : command_names())
    EXPECT_NE(help.out.find("\n  " + name + " "), std::string::npos) << name;
}

TEST(Program, EveryCommandHasHelp) {
  for (const std::string& name : command_names()) {
    const Outcome help = narrowgauge({name, "--help"});
    EXPECT_EQ(help.code, 0) << name;
    EXPECT_NE(help.out.find("usage: narrowgauge " + name), std::string::npos) << help.out;
    EXPECT_EQ(narrowgauge({name, "-h"}).out, help.out);
    EXPECT_EQ(narrowgauge({"help", name}).out, help.out);
  }
}

TEST(Program, EveryOptionIsChecked) {
  for (const std::string& name : command_names()) {
    const Outcome outcome = narrowgauge({name, "--no-such-option"});
    EXPECT_EQ(outcome.code, 2) << name;
    EXPECT_EQ(outcome.out, "") << name;
    EXPECT_NE(outcome.err.find(name + ": option '--no-such-option' is unknown; valid: --"), std::string::npos)
        << outcome.err;
  }
}

TEST(Program, ReadmeShowsTheSameTable) {
  std::ifstream file(std::string(NG_SOURCE_DIR) + "/README.md");
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  const std::string begin = "<!-- commands: narrowgauge --help-markdown -->\n";
  const std::size_t at = readme.find(begin);
  ASSERT_NE(at, std::string::npos);
  const std::size_t end = readme.find("<!-- end of commands -->", at);
  ASSERT_NE(end, std::string::npos);
  EXPECT_EQ(readme.substr(at + begin.size(), end - at - begin.size()), narrowgauge({"--help-markdown"}).out);
}

TEST(Program, WithoutACommandShowsTheHelpAsAMistake) {
  const Outcome outcome = narrowgauge({});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, narrowgauge({"--help"}).out);
}

TEST(Program, VersionIsOneLine) {
  const Outcome outcome = narrowgauge({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(outcome.out.starts_with("narrowgauge ")) << outcome.out;
  EXPECT_EQ(outcome.out.find('\n'), outcome.out.size() - 1);
}

TEST(Program, MistakesAreAnsweredOnce) {
  struct Case {
    std::vector<std::string> words;
    std::vector<std::string> pieces;
  };
  const Case cases[] = {
      {{"fromats"}, {"command 'fromats' is unknown", "did you mean 'formats'"}},
      {{"xyzzy"}, {"command 'xyzzy' is unknown; valid: "}},
      {{"--versoin"}, {"option '--versoin' is unknown", "did you mean '--version'"}},
      {{"help", "fromats"}, {"did you mean 'formats'"}},
      {{"formats", "--decod", "e4m3"},
       {"formats: option '--decod' is unknown", "did you mean '--decode'"}},  // no guessing
      {{"formats", "--decode"}, {"formats: option '--decode' needs a value"}},
      {{"formats", "--decode=e4m3", "--decode", "e5m2"}, {"option '--decode' is given 2 times"}},
      {{"formats", "e4m3"}, {"'e4m3' is one word too many", "usage: formats"}},
      {{"formats", "--operands=x"}, {"option '--operands' is unknown"}},
      {{"formats", "--decode", "e4m4"}, {"format 'e4m4' is unknown", "did you mean 'e4m3'"}},
      {{"formats", "--decode", "fp32"}, {"2^32 rows"}},
      {{"recipes", "mxpf4"}, {"no 'mxpf4' in", "did you mean 'mxfp4'"}},
      {{"recipes", "nowhere/r.toml"}, {"nowhere/r.toml"}},
      {{"recipes", "--model", "tyni"}, {"did you mean 'tiny'"}},
      {{"models", "tyni"}, {"no 'tyni' in", "did you mean 'tiny'"}},
      {{"models", "tiny", "small"}, {"'small' is one word too many"}},
  };
  for (const Case& c : cases) {
    const Outcome outcome = narrowgauge(c.words);
    EXPECT_EQ(outcome.code, 2) << c.words[0];
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("narrowgauge: ")) << outcome.err;
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
    for (const std::string& piece : c.pieces)
      EXPECT_NE(outcome.err.find(piece), std::string::npos) << "lacks '" << piece << "': " << outcome.err;
  }
}

TEST(Program, KeyValueBothWays) {
  EXPECT_EQ(narrowgauge({"formats", "--decode=e4m3"}).out, narrowgauge({"formats", "--decode", "e4m3"}).out);
}

TEST(Program, AFullDiskUnderStdoutIsTheMachinesFailure) {
  ProcessOptions options;
  options.stdout_file = "/dev/full";
  const Outcome outcome = narrowgauge({"formats"}, options);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_NE(outcome.err.find("cannot write to standard output: No space left on device"), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace ng::test
