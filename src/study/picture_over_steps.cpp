// SPDX-License-Identifier: Apache-2.0
//
// Pictures of what changes while a run trains: errors and scales of the quantized operands, and the routers. A grid of
// panels with steps on the x axis and a line for each arm, the mean over layers and seeds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "narrowgauge/study/picture.hpp"
#include "picture_sites.hpp"
#include "picture_svg.hpp"

namespace ng {

namespace {

using namespace svg;            // NOLINT: the canvas is what this file is written in
using namespace picture_sites;  // NOLINT

constexpr std::size_t kMostPoints = 120;  // of a line; more are averaged in equal parts

enum class Values { logarithmic, linear, from_zero };

struct Grid {
  std::vector<std::string> rows, columns;
  std::string row_unit;
  Values values = Values::linear;
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::map<double, Mean>>> lines;
};

struct GridText {
  const char *name, *title;
  std::string caption;
};

std::vector<Point> line_points(const std::map<double, Mean>& line) {
  std::vector<Point> all, points;
  for (const auto& [step, mean] : line) all.push_back({step, mean.value()});
  const std::size_t parts = std::min(all.size(), kMostPoints);
  for (std::size_t p = 0; p < parts; ++p) {
    const std::size_t begin = p * all.size() / parts, end = (p + 1) * all.size() / parts;
    Point mean;
    for (std::size_t i = begin; i < end; ++i) {
      mean.x += all[i].x / static_cast<double>(end - begin);
      mean.y += all[i].y / static_cast<double>(end - begin);
    }
    points.push_back(mean);
  }
  return points;
}

// The range of a row of panels, a little wider than its lines.
Interval range_of(const Grid& grid, const std::string& row) {
  Interval range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const auto& [panel, arms] : grid.lines) {
    if (panel.first != row) continue;
    for (const auto& [arm, line] : arms) {
      for (const Point& point : line_points(line)) {
        range.low = std::min(range.low, point.y);
        range.high = std::max(range.high, point.y);
      }
    }
  }
  if (!(range.low <= range.high)) return {0, 1};
  if (grid.values == Values::logarithmic) return {range.low / 1.4, range.high * 1.4};
  if (grid.values == Values::from_zero) range.low = 0;
  if (range.low == range.high) range.high = range.low + 1;
  return nice_range(range.low, range.high, 4);
}

std::optional<Picture> draw(const StudyResult& study, const Grid& grid, const GridText& text) {
  if (grid.lines.empty()) return {};
  std::vector<ArmLook> looks;
  double last_step = 1;
  for (const ArmLook& look : arm_looks(study)) {
    const bool drawn = std::any_of(grid.lines.begin(), grid.lines.end(),
                                   [&](const auto& panel) { return panel.second.contains(look.arm); });
    if (drawn) looks.push_back(look);
  }
  for (const auto& [panel, arms] : grid.lines)
    for (const auto& [arm, line] : arms) last_step = std::max(last_step, line.rbegin()->first);

  const double left = 104, right = 18, gap = 14, row_gap = 22;
  const auto columns = static_cast<double>(grid.columns.size()), rows = static_cast<double>(grid.rows.size());
  const double width = std::max(960.0, left + right + columns * 150);
  const double panel_width = std::min(420.0, (width - left - right - (columns - 1) * gap) / columns);
  const double panel_height = 150, top = 14 + legend_height(looks, width - left - right) + 34;
  const double height = top + rows * panel_height + (rows - 1) * row_gap + 52;
  const double used = columns * panel_width + (columns - 1) * gap;
  Canvas canvas(width, height, text.title);
  legend(canvas, looks, {left, 8}, width - left - right);
  for (std::size_t r = 0; r < grid.rows.size(); ++r) {
    const double y = top + static_cast<double>(r) * (panel_height + row_gap);
    canvas.text({20, y + panel_height / 2}, grid.rows[r], {13, Anchor::middle, true, kText, false});
    canvas.text({40, y + panel_height / 2}, grid.row_unit, {11.5, Anchor::middle, false, kMuted, false});
    const Interval range = range_of(grid, grid.rows[r]);
    for (std::size_t c = 0; c < grid.columns.size(); ++c) {
      Panel panel;
      panel.corner = {left + static_cast<double>(c) * (panel_width + gap), y};
      panel.width = panel_width;
      panel.height = panel_height;
      panel.x = {0, last_step};
      panel.y = {range.low, range.high, 0, 1, grid.values == Values::logarithmic};
      panel.x_ticks = linear_ticks(0, last_step, panel_width < 160 ? 2 : 4);
      panel.y_ticks = grid.values == Values::logarithmic ? log_ticks(range.low, range.high)
                                                         : linear_ticks(range.low, range.high, 4);
      panel.x_labels = r + 1 == grid.rows.size();
      panel.y_labels = c == 0;
      if (r == 0) panel.title = grid.columns[c];
      draw_panel(canvas, panel);
      const auto arms = grid.lines.find({grid.rows[r], grid.columns[c]});
      if (arms == grid.lines.end()) {
        canvas.text({panel.corner.x + panel_width / 2, y + panel_height / 2}, "not recorded",
                    {11.5, Anchor::middle, false, kMuted});
        continue;
      }
      for (const ArmLook& look : looks) {
        const auto line = arms->second.find(look.arm);
        if (line == arms->second.end()) continue;
        std::vector<Point> points;
        for (const Point& point : line_points(line->second)) points.push_back({panel.x(point.x), panel.y(point.y)});
        canvas.polyline(points, {look.colour, 1.5, look.dash, 0.9});
        for (const std::size_t i : {std::size_t{0}, points.size() / 2, points.size() - 1})
          canvas.marker(look.marker, points[i], 3.2, look.colour);
      }
    }
  }
  canvas.text({left + used / 2, height - 10}, "step", {12.5, Anchor::middle});
  return Picture{text.name, text.title, canvas.finish(), text.caption};
}

// Operands in rows, linears in columns. Of several products that quantize an operand the first of kGemms is shown.
Grid operand_grid(const StudyResult& study, const std::string& measure, Values values) {
  Grid grid;
  grid.values = values;
  std::map<std::string, std::string> gemm_of;
  std::set<std::string> operands, linears;
  for (const char* gemm : kGemms) {
    for (const ErrorSample& e : study.errors) {
      const auto site = parse_site(e.site);
      if (site && e.measure == measure && site->gemm == gemm) gemm_of.emplace(site->operand, gemm);
    }
  }
  for (const ErrorSample& e : study.errors) {
    const auto site = parse_site(e.site);
    if (!site || e.measure != measure) continue;
    const auto gemm = gemm_of.find(site->operand);
    if (gemm == gemm_of.end() || gemm->second != site->gemm) continue;
    for (std::size_t i = 0; i < e.value.size(); ++i) {
      if (!std::isfinite(e.value[i]) || (values == Values::logarithmic && e.value[i] <= 0)) continue;
      grid.lines[{site->operand, site->linear}][e.arm][e.step[i]].add(e.value[i]);
      operands.insert(site->operand);
      linears.insert(site->linear);
    }
  }
  grid.rows = ordered(operands, kOperands);
  grid.columns = ordered(linears, kLinears);
  return grid;
}

}  // namespace

std::optional<Picture> picture_error_over_steps(const StudyResult& study) {
  Grid grid = operand_grid(study, "rel_mse", Values::logarithmic);
  grid.row_unit = "relative MSE";
  return draw(study, grid,
              {"error_over_steps", "Error while training",
               "Relative mean squared error of each quantized operand at every record; mean over layers and seeds, log "
               "axis. Lower is better. What this cannot tell: which layer an error comes from, see the picture by "
               "layer."});
}

std::optional<Picture> picture_scales_over_steps(const StudyResult& study) {
  Grid grid = operand_grid(study, "scale_log2_mean", Values::linear);
  grid.row_unit = "mean log₂ of scales";
  return draw(
      study, grid,
      {"scales_over_steps", "Scales while training",
       "Mean of log₂ of the stored block scales of each quantized operand; mean over layers and seeds. One unit "
       "is a factor of two. Formats with different elements store scales of different size, and two-level "
       "formats store them relative to the tensor's: compare shapes, not heights. What this cannot tell: whether "
       "single blocks run far from the mean."});
}

std::optional<Picture> picture_routers(const StudyResult& study) {
  constexpr std::size_t kMostLayers = 6;
  Grid grid;
  grid.values = Values::from_zero;
  std::set<std::int64_t> layers;
  for (const RouterSample& sample : study.routers) layers.insert(sample.layer);
  const std::vector<std::int64_t> all(layers.begin(), layers.end());
  std::set<std::int64_t> shown;
  const std::size_t count = std::min(all.size(), kMostLayers);
  for (std::size_t i = 0; i < count; ++i) shown.insert(all[count == 1 ? 0 : i * (all.size() - 1) / (count - 1)]);
  std::set<std::string> rows;
  for (const RouterSample& sample : study.routers) {
    if (!shown.contains(sample.layer)) continue;
    const bool any = std::any_of(sample.value.begin(), sample.value.end(), [](double v) { return v != 0; });
    if (sample.measure == "dropped" && !any) continue;  // a dropless model
    const std::string row = sample.measure == "max_violation" ? "overload"
                            : sample.measure == "dropped"     ? "dropped"
                                                              : "entropy";
    for (std::size_t i = 0; i < sample.value.size(); ++i) {
      if (std::isfinite(sample.value[i]))
        grid.lines[{row, fmt::format("layer {}", sample.layer)}][sample.arm][sample.step[i]].add(sample.value[i]);
    }
    rows.insert(row);
  }
  for (const char* row : {"overload", "entropy", "dropped"})
    if (rows.contains(row)) grid.rows.emplace_back(row);
  for (const std::int64_t layer : shown) grid.columns.push_back(fmt::format("layer {}", layer));
  return draw(study, grid,
              {"routers", "Router load",
               fmt::format("overload: load of the fullest expert over the mean load, minus one; 0 is perfect balance. "
                           "entropy: of a token's probabilities over the experts, in nats, mean over tokens. Mean over "
                           "seeds, averaged over neighbouring steps. {} of {} layers with experts are shown. What this "
                           "cannot tell: which expert is full.",
                           shown.size(), all.size())});
}

}  // namespace ng
