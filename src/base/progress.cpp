// SPDX-License-Identifier: Apache-2.0
//
// The status line.
#include "narrowgauge/base/progress.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace ng {
namespace {

int terminal_width(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<long long>(std::min(seconds, 1e12) + 0.5);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string progress_text(const ProgressState& state, int bar_width) {
  std::string text = state.label;
  const auto add = [&](std::string_view separator, const std::string& part) {
    if (part.empty()) return;
    if (!text.empty()) text += separator;
    text += part;
  };
  if (state.steps > 0) {
    if (bar_width > 0) {
      const std::int64_t done = std::clamp<std::int64_t>(state.step, 0, state.steps);
      const auto filled = static_cast<std::size_t>(static_cast<double>(done) / static_cast<double>(state.steps) *
                                                   static_cast<double>(bar_width));
      std::string bar(filled, '=');
      if (filled < static_cast<std::size_t>(bar_width)) bar += '>';
      bar.resize(static_cast<std::size_t>(bar_width), ' ');
      add(" ", "[" + bar + "]");
    }
    add(" ", fmt::format("{}/{}", state.step, state.steps));
  } else {
    add(" ", fmt::format("step {}", state.step));
  }
  if (!state.loss.empty()) add("  ", "loss " + state.loss);
  add("  ", state.rate);
  add("  ", state.remaining);
  return text;
}

StatusLine::StatusLine(std::FILE* out, Mode mode, double plain_seconds)
    : out_(out), mode_(mode), plain_seconds_(plain_seconds) {}

StatusLine::~StatusLine() { finish(); }

StatusLine::Mode StatusLine::detect(std::FILE* out, bool quiet) {
  if (quiet) return Mode::quiet;
  if (::isatty(::fileno(out)) == 0) return Mode::plain;
  const char* terminal = std::getenv("TERM");
  return terminal == nullptr || std::string_view(terminal) == "dumb" ? Mode::plain : Mode::terminal;
}

void StatusLine::update(const ProgressState& state) {
  if (mode_ == Mode::quiet) return;
  const auto now = std::chrono::steady_clock::now();
  const double interval = mode_ == Mode::terminal ? 0.1 : plain_seconds_;
  const bool last = state.steps > 0 && state.step >= state.steps;
  if (printed_ && !last && std::chrono::duration<double>(now - last_).count() < interval) return;
  printed_ = true;
  last_ = now;
  if (mode_ == Mode::plain) {
    const std::string text = progress_text(state, 0) + "\n";
    std::fwrite(text.data(), 1, text.size(), out_);
  } else {
    std::string text = progress_text(state, 20);
    const auto width = static_cast<std::size_t>(terminal_width(out_) - 1);
    if (text.size() > width) text = progress_text(state, 0).substr(0, width);
    const std::string padding(shown_.size() > text.size() ? shown_.size() - text.size() : 0, ' ');
    fmt::print(out_, "\r{}{}", text, padding);
    shown_ = text;
  }
  std::fflush(out_);
}

void StatusLine::clear() {
  if (shown_.empty()) return;
  fmt::print(out_, "\r{}\r", std::string(shown_.size(), ' '));
  shown_.clear();
}

void StatusLine::message(std::string_view text) {
  const std::string line = shown_;
  clear();
  fmt::print(out_, "{}\n", text);
  if (!line.empty()) {
    fmt::print(out_, "{}", line);
    shown_ = line;
  }
  std::fflush(out_);
}

void StatusLine::finish() {
  if (!shown_.empty()) {
    std::fputc('\n', out_);
    shown_.clear();
  }
  printed_ = false;
  std::fflush(out_);
}

}  // namespace ng
