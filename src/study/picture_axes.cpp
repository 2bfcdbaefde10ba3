// SPDX-License-Identifier: Apache-2.0
//
// Scales, ticks, panels and legends.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "picture_svg.hpp"

namespace ng::svg {

namespace {

double nice_step(double span, int target) {
  const double raw = span / std::max(target, 1);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * 0.999) return factor * power;
  }
  return 10 * power;
}

std::string superscript(int exponent) {
  static constexpr std::array<const char*, 10> kDigits = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = exponent < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(exponent))) out += kDigits.at(static_cast<std::size_t>(c - '0'));
  return out;
}

constexpr double kLegendSample = 26, kLegendGap = 22, kLegendRow = 20, kLegendText = 12.5;

double legend_entry_width(const ArmLook& look) {
  return kLegendSample + 6 + text_width(look.arm, kLegendText) + kLegendGap;
}

}  // namespace

double Scale::operator()(double value) const {
  const double at = logarithmic ? (std::log10(value) - std::log10(low)) / (std::log10(high) - std::log10(low))
                                : (value - low) / (high - low);
  return pixel_low + at * (pixel_high - pixel_low);
}

std::vector<Tick> linear_ticks(double low, double high, int target) {
  std::vector<Tick> out;
  if (!(high > low)) return out;
  const double step = nice_step(high - low, target);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) {
    const double value = k == 0 ? 0.0 : k * step;
    std::string label = fmt::format("{:.{}f}", value, decimals);
    if (label.front() == '-') label = "−" + label.substr(1);
    out.push_back({value, std::move(label)});
  }
  return out;
}

std::vector<Tick> log_ticks(double low, double high) {
  std::vector<Tick> out;
  const int from = static_cast<int>(std::floor(std::log10(low))), to = static_cast<int>(std::ceil(std::log10(high)));
  int powers = 0;
  for (int e = from; e <= to; ++e) {
    const double value = std::pow(10.0, e);
    powers += value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9);
  }
  const int every = powers > 8 ? 2 : 1;
  for (int e = from; e <= to; ++e) {
    for (const int factor : {1, 2, 5}) {
      const double value = factor * std::pow(10.0, e);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      if (factor == 1) {
        out.push_back({value, e % every == 0 ? "10" + superscript(e) : ""});
      } else if (powers < 2) {
        out.push_back({value, fmt::format("{}·10{}", factor, superscript(e))});
      } else if (powers <= 4) {
        out.push_back({value, ""});
      }
    }
  }
  return out;
}

Interval nice_range(double low, double high, int target) {
  if (!(high > low)) {
    const double pad = low == 0 ? 1 : std::abs(low) * 0.1;
    return {low - pad, low + pad};
  }
  const double step = nice_step(high - low, target);
  return {std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step};
}

std::vector<ArmLook> arm_looks(const StudyResult& study) {
  // Okabe and Ito's colours, which stay apart with every kind of colour vision; the yellow, too light on
  // white, is left out. Beyond six arms the dash changes too.
  static constexpr std::array<const char*, 6> kColours = {"#0072b2", "#d55e00", "#009e73",
                                                          "#cc79a7", "#e69f00", "#56b4e9"};
  static constexpr std::array<const char*, 3> kDashes = {"", "7 3", "2 2.5"};
  static constexpr std::array<Marker, 5> kMarkers = {Marker::square, Marker::triangle, Marker::diamond,
                                                     Marker::triangle_down, Marker::cross};
  std::vector<ArmLook> out = {{study.baseline, "#333333", "", Marker::circle}};
  const auto add = [&](const std::string& arm) {
    if (std::any_of(out.begin(), out.end(), [&](const ArmLook& look) { return look.arm == arm; })) return;
    const std::size_t i = out.size() - 1;
    out.push_back({arm, kColours[i % kColours.size()], kDashes[i / kColours.size() % kDashes.size()],
                   kMarkers[i % kMarkers.size()]});
  };
  for (const RunCurve& run : study.runs) add(run.arm);
  for (const ErrorSample& error : study.errors) add(error.arm);
  return out;
}

const ArmLook& look_of(const std::vector<ArmLook>& looks, const std::string& arm) {
  const auto at = std::find_if(looks.begin(), looks.end(), [&](const ArmLook& look) { return look.arm == arm; });
  return at == looks.end() ? looks.front() : *at;
}

double legend_height(const std::vector<ArmLook>& looks, double width) {
  double x = 0, rows = 1;
  for (const ArmLook& look : looks) {
    const double entry = legend_entry_width(look);
    if (x > 0 && x + entry > width) {
      x = 0;
      ++rows;
    }
    x += entry;
  }
  return rows * kLegendRow;
}

void legend(Canvas& canvas, const std::vector<ArmLook>& looks, Point at, double width) {
  double x = 0, y = kLegendRow / 2;
  for (const ArmLook& look : looks) {
    const double entry = legend_entry_width(look);
    if (x > 0 && x + entry > width) {
      x = 0;
      y += kLegendRow;
    }
    const Point left = {at.x + x, at.y + y};
    canvas.line(left, {left.x + kLegendSample, left.y}, {look.colour, 2, look.dash});
    canvas.marker(look.marker, {left.x + kLegendSample / 2, left.y}, 4.2, look.colour);
    canvas.text({left.x + kLegendSample + 6, left.y + 4.3}, look.arm, {kLegendText});
    x += entry;
  }
}

void draw_panel(Canvas& canvas, Panel& panel) {
  const double right = panel.corner.x + panel.width, bottom = panel.corner.y + panel.height;
  panel.x.pixel_low = panel.corner.x;
  panel.x.pixel_high = right;
  panel.y.pixel_low = bottom;
  panel.y.pixel_high = panel.corner.y;
  for (const Tick& tick : panel.x_ticks) {
    const double x = panel.x(tick.value);
    if (!tick.label.empty()) canvas.line({x, panel.corner.y}, {x, bottom}, {kGrid});
    if (panel.x_labels) canvas.line({x, bottom}, {x, bottom + (tick.label.empty() ? 2.5 : 4)}, {kAxis});
    if (panel.x_labels) canvas.text({x, bottom + 17}, tick.label, {11.5, Anchor::middle});
  }
  for (const Tick& tick : panel.y_ticks) {
    const double y = panel.y(tick.value);
    if (!tick.label.empty()) canvas.line({panel.corner.x, y}, {right, y}, {kGrid});
    if (panel.y_labels) canvas.line({panel.corner.x - (tick.label.empty() ? 2.5 : 4), y}, {panel.corner.x, y}, {kAxis});
    if (panel.y_labels) canvas.text({panel.corner.x - 7, y + 4}, tick.label, {11.5, Anchor::end});
  }
  canvas.frame(panel.corner, panel.width, panel.height);
  if (!panel.title.empty()) {
    canvas.text({panel.corner.x + panel.width / 2, panel.corner.y - 7}, panel.title, {12.5, Anchor::middle, true});
  }
}

}  // namespace ng::svg
