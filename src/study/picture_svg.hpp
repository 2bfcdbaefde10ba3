// SPDX-License-Identifier: Apache-2.0
//
// A canvas that writes SVG, axes with readable ticks, and the look that all pictures share. Private to
// this layer. Coordinates are pixels of the viewBox, y down.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/study/statistics.hpp"

namespace ng::svg {

inline constexpr const char* kText = "#1a1a1a";
inline constexpr const char* kMuted = "#555555";
inline constexpr const char* kGrid = "#e3e3e3";
inline constexpr const char* kAxis = "#444444";
inline constexpr const char* kBand = "#dcdcdc";

struct Point {
  double x = 0, y = 0;
};

enum class Marker { circle, square, triangle, diamond, triangle_down, cross };
enum class Anchor { start, middle, end };

/// `&`, `<`, `>` and quotes as entities; control characters, which XML forbids, as U+FFFD.
[[nodiscard]] std::string escape(std::string_view text);
/// Width in pixels, estimated for the usual sans-serif fonts and never much too small.
[[nodiscard]] double text_width(std::string_view text, double size);

/// Width, colour and dashes of a line.
struct Stroke {
  std::string colour = kText;
  double width = 1;
  std::string dash = {};
  double opacity = 1;
};

struct TextStyle {
  double size = 12;
  Anchor anchor = Anchor::start;
  bool bold = false;
  std::string colour = kText;
  bool upright = true;  // false: turned a quarter to the left
};

class Canvas {
 public:
  Canvas(double width, double height, std::string title);
  void line(Point a, Point b, const Stroke& stroke);
  void polyline(const std::vector<Point>& points, const Stroke& stroke);
  void polygon(const std::vector<Point>& points, const std::string& fill, double opacity);
  void rect(Point corner, double width, double height, const std::string& fill, double opacity = 1);
  void frame(Point corner, double width, double height);
  /// A filled marker, or a white one with coloured edge.
  void marker(Marker shape, Point centre, double radius, const std::string& colour, bool filled = true);
  void text(Point at, std::string_view content, const TextStyle& style = {});
  /// What is drawn until end_clip() shows inside the rectangle only.
  void begin_clip(Point corner, double width, double height);
  void end_clip();
  [[nodiscard]] std::string finish() const;

 private:
  double width_, height_;
  std::string title_, body_;
  int clips_ = 0;
};

/// Maps values to pixels, linearly or by logarithm.
struct Scale {
  double low = 0, high = 1;              // values
  double pixel_low = 0, pixel_high = 1;  // where they lie
  bool logarithmic = false;
  [[nodiscard]] double operator()(double value) const;
};

struct Tick {
  double value = 0;
  std::string label;  // empty: a minor tick
};
/// About `target` multiples of 1, 2 or 5 times a power of ten inside [low, high].
[[nodiscard]] std::vector<Tick> linear_ticks(double low, double high, int target);
/// Powers of ten, labelled 10⁻³; where fewer than two fit, also 2 and 5 times them.
[[nodiscard]] std::vector<Tick> log_ticks(double low, double high);
/// low and high moved out to the ticks around them.
[[nodiscard]] Interval nice_range(double low, double high, int target);

/// Colour, marker and dash of an arm.
struct ArmLook {
  std::string arm, colour, dash;
  Marker marker = Marker::circle;
};
/// A look for each arm in order of first appearance, the baseline (dark grey) first.
[[nodiscard]] std::vector<ArmLook> arm_looks(const StudyResult& study);
[[nodiscard]] const ArmLook& look_of(const std::vector<ArmLook>& looks, const std::string& arm);

/// Height that the legend takes at this width.
[[nodiscard]] double legend_height(const std::vector<ArmLook>& looks, double width);
/// Line and marker samples with names, from left to right, in as many rows as it takes.
void legend(Canvas& canvas, const std::vector<ArmLook>& looks, Point at, double width);

/// A panel: frame, grid, ticks; the labels of an axis only if asked for.
struct Panel {
  Point corner;
  double width = 100, height = 100;
  Scale x, y;
  std::vector<Tick> x_ticks, y_ticks;
  bool x_labels = true, y_labels = true;
  std::string title;
};
/// Sets the scales' pixels from the corner and size, then draws all but data.
void draw_panel(Canvas& canvas, Panel& panel);

}  // namespace ng::svg
