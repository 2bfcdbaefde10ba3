// SPDX-License-Identifier: Apache-2.0
//
// Claim: without a terminal the status line is plain lines, limited in rate, with first and last step always shown;
// quiet prints messages only.
// Alone: build/release/bin/unit_base --gtest_filter='Progress.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "narrowgauge/base/progress.hpp"

namespace ng {
namespace {

struct Captured {
  std::FILE* file = std::tmpfile();
  ~Captured() { std::fclose(file); }
  std::string text() {
    std::fflush(file);
    std::string all(static_cast<std::size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    all.resize(std::fread(all.data(), 1, all.size(), file));
    return all;
  }
};

ProgressState state(std::int64_t step) { return {"mxfp4", step, 20, "2.61", "900 tokens/s", "0:10 left"}; }

TEST(Progress, Texts) {
  EXPECT_EQ(progress_text(state(5), 0), "mxfp4 5/20  loss 2.61  900 tokens/s  0:10 left");
  EXPECT_EQ(progress_text(state(5), 8), "mxfp4 [==>     ] 5/20  loss 2.61  900 tokens/s  0:10 left");
  EXPECT_EQ(progress_text(state(20), 4), "mxfp4 [====] 20/20  loss 2.61  900 tokens/s  0:10 left");
  EXPECT_EQ(progress_text({"", 3, 0, "", "", ""}, 8), "step 3");
  EXPECT_EQ(duration_text(7.2), "0:07");
  EXPECT_EQ(duration_text(725), "12:05");
  EXPECT_EQ(duration_text(3 * 3600 + 245), "3:04:05");
  EXPECT_EQ(duration_text(-1), "?");
}

TEST(Progress, PlainShowsFirstAndLast) {
  Captured out;
  {
    StatusLine line(out.file, StatusLine::Mode::plain, 3600.0);
    for (int step = 1; step <= 20; ++step) line.update(state(step));
    line.message("done");
  }
  EXPECT_EQ(out.text(),
            "mxfp4 1/20  loss 2.61  900 tokens/s  0:10 left\nmxfp4 20/20  loss 2.61  900 tokens/s  0:10 left\ndone\n");
}

TEST(Progress, QuietShowsMessagesOnly) {
  Captured out;
  {
    StatusLine line(out.file, StatusLine::Mode::quiet);
    for (int step = 1; step <= 20; ++step) line.update(state(step));
    line.message("warning: {not a format}");
  }
  EXPECT_EQ(out.text(), "warning: {not a format}\n");
}

TEST(Progress, TerminalRewritesOneLine) {
  Captured out;
  {
    StatusLine line(out.file, StatusLine::Mode::terminal);
    line.update(state(1));
    line.update(state(20));
  }
  const std::string text = out.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 2) << text;
  EXPECT_EQ(text.back(), '\n');
}

TEST(Progress, AFileIsNoTerminal) {
  Captured out;
  EXPECT_EQ(StatusLine::detect(out.file, false), StatusLine::Mode::plain);
  EXPECT_EQ(StatusLine::detect(out.file, true), StatusLine::Mode::quiet);
}

}  // namespace
}  // namespace ng
