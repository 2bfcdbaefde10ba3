// SPDX-License-Identifier: Apache-2.0
//
// Progress and messages on stderr: one status line that rewrites itself on a terminal, plain lines otherwise,
// nothing but messages when quiet. Reads the clock only to limit how often it prints.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace ng {

/// What one status line shows. Empty texts are left out.
struct ProgressState {
  std::string label;       // what is running, for example "mxfp4 seed 1"
  std::int64_t step = 0;   // steps done
  std::int64_t steps = 0;  // steps in all; 0 when unknown
  std::string loss;        // "2.613"
  std::string rate;        // "1240 tokens/s"
  std::string remaining;   // "1:05 left"
};

/// "mxfp4 [=====>    ] 120/200  loss 2.613  1240 tokens/s  1:05 left"; the bar only with `bar_width` > 0.
[[nodiscard]] std::string progress_text(const ProgressState& state, int bar_width);

/// "0:07", "12:05", "3:04:05".
[[nodiscard]] std::string duration_text(double seconds);

class StatusLine {
 public:
  enum class Mode { terminal, plain, quiet };

  StatusLine(std::FILE* out, Mode mode, double plain_seconds = 10.0);
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// terminal when `out` is one and TERM is not "dumb", plain otherwise; quiet when asked.
  [[nodiscard]] static Mode detect(std::FILE* out, bool quiet);

  /// Shows `state`: at most ten times a second on a terminal, at most every `plain_seconds` otherwise. The first and
  /// the last step (step == steps) are always shown.
  void update(const ProgressState& state);
  /// One line for the user, above the status line; also when quiet.
  void message(std::string_view text);
  /// Ends the status line, so that other output starts on a line of its own.
  void finish();

 private:
  void clear();

  std::FILE* out_;
  Mode mode_;
  double plain_seconds_;
  std::string shown_;  // what stands on the terminal's line
  bool printed_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace ng
