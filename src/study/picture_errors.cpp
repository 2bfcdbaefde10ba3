// SPDX-License-Identifier: Apache-2.0
//
// The first picture: quantization error over layers, a panel for each operand and linear.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "narrowgauge/study/picture.hpp"
#include "picture_sites.hpp"
#include "picture_svg.hpp"

namespace ng {

namespace {

using namespace svg;            // NOLINT: the canvas is what this file is written in
using namespace picture_sites;  // NOLINT

struct ErrorTable {
  std::map<std::string, std::string> gemm_of;  // operand -> the product shown
  // (operand, linear) -> arm -> layer -> mean
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::map<int, Mean>>> values;
  std::set<std::string> linears, operands, drawn, seen;
  int first_layer = std::numeric_limits<int>::max(), last_layer = 0;
  double low = std::numeric_limits<double>::infinity(), high = 0;
};

bool has_measure(const StudyResult& study, const char* measure) {
  return std::any_of(study.errors.begin(), study.errors.end(),
                     [&](const ErrorSample& e) { return e.measure == measure && parse_site(e.site).has_value(); });
}

ErrorTable collect(const StudyResult& study) {
  const bool direct = has_measure(study, "rel_mse");
  const std::string measure = direct ? "rel_mse" : "sqnr_db";
  ErrorTable table;
  for (const char* gemm : kGemms) {  // first choice first
    for (const ErrorSample& e : study.errors) {
      const auto site = parse_site(e.site);
      if (site && e.measure == measure && site->gemm == gemm) table.gemm_of.emplace(site->operand, gemm);
    }
  }
  for (const ErrorSample& e : study.errors) {
    const auto site = parse_site(e.site);
    if (!site || e.measure != measure) continue;
    table.seen.insert(e.arm);
    const auto gemm = table.gemm_of.find(site->operand);
    if (gemm == table.gemm_of.end() || gemm->second != site->gemm) continue;
    for (const double v : e.value) {
      const double error = direct ? v : std::pow(10.0, -v / 10);
      if (!std::isfinite(error) || error <= 0) continue;
      Mean& mean = table.values[{site->operand, site->linear}][e.arm][site->layer];
      mean.sum += error;
      ++mean.count;
      table.linears.insert(site->linear);
      table.operands.insert(site->operand);
      table.drawn.insert(e.arm);
      table.first_layer = std::min(table.first_layer, site->layer);
      table.last_layer = std::max(table.last_layer, site->layer);
    }
  }
  for (const auto& [panel, arms] : table.values) {
    for (const auto& [arm, layers] : arms) {
      for (const auto& [layer, mean] : layers) {
        table.low = std::min(table.low, mean.sum / static_cast<double>(mean.count));
        table.high = std::max(table.high, mean.sum / static_cast<double>(mean.count));
      }
    }
  }
  return table;
}

std::vector<Tick> layer_ticks(int first, int last) {
  std::vector<Tick> out;
  const int every = std::max(1, (last - first + 8) / 8);
  for (int l = first; l <= last; l += every) out.push_back({static_cast<double>(l), std::to_string(l)});
  return out;
}

std::string caption_of(const ErrorTable& table, const std::vector<std::string>& operands) {
  std::string shown;
  for (const std::string& operand : operands) {
    const std::string& gemm = table.gemm_of.at(operand);
    shown += (shown.empty() ? "" : ", ") + operand + (gemm.empty() ? "" : " as quantized for " + gemm);
  }
  std::string caption = fmt::format(
      "Relative mean squared error of each quantized operand, sum of (decoded − original)² over sum of original², by "
      "layer; mean over all records and seeds. Shown: {}. Lower is better; ten decibels are a factor of ten. Points of "
      "one layer are moved sideways so that equal arms stay visible.",
      shown);
  std::string absent;
  for (const std::string& arm : table.seen) {
    if (!table.drawn.contains(arm)) absent += (absent.empty() ? "" : ", ") + arm;
  }
  if (!absent.empty()) caption += fmt::format(" Not drawn, because no value above zero was recorded: {}.", absent);
  return caption +
         " What this cannot tell: whether an error matters for the loss; a small one can cost more than a "
         "large one that averages out.";
}

}  // namespace

std::optional<Picture> picture_error_by_layer(const StudyResult& study) {
  const ErrorTable table = collect(study);
  if (table.values.empty()) return {};
  const auto linears = ordered(table.linears, kLinears);
  const auto operands = ordered(table.operands, kOperands);
  std::vector<ArmLook> looks;
  for (const ArmLook& look : arm_looks(study)) {
    if (table.drawn.contains(look.arm)) looks.push_back(look);
  }
  const double left = 96, right = 52, gap = 14, row_gap = 20;
  const auto columns = static_cast<double>(linears.size()), rows = static_cast<double>(operands.size());
  const double width = std::max(960.0, left + right + columns * 170);
  const double panel_width = (width - left - right - (columns - 1) * gap) / columns, panel_height = 165;
  const double top = 14 + legend_height(looks, width - left - right) + 34;
  const double height = top + rows * panel_height + (rows - 1) * row_gap + 50;
  Canvas canvas(width, height, "Quantization error by layer");
  legend(canvas, looks, {left, 8}, width - left - right);
  for (std::size_t r = 0; r < operands.size(); ++r) {
    const double y = top + static_cast<double>(r) * (panel_height + row_gap);
    canvas.text({20, y + panel_height / 2}, operands[r], {13, Anchor::middle, true, kText, false});
    canvas.text({40, y + panel_height / 2}, "relative MSE", {11.5, Anchor::middle, false, kMuted, false});
    for (std::size_t c = 0; c < linears.size(); ++c) {
      Panel panel;
      panel.corner = {left + static_cast<double>(c) * (panel_width + gap), y};
      panel.width = panel_width;
      panel.height = panel_height;
      panel.x = {table.first_layer - 0.5, table.last_layer + 0.5};
      panel.y = {table.low / 1.6, table.high * 1.6, 0, 1, true};
      panel.x_ticks = layer_ticks(table.first_layer, table.last_layer);
      panel.y_ticks = log_ticks(panel.y.low, panel.y.high);
      panel.x_labels = r + 1 == operands.size();
      panel.y_labels = c == 0;
      if (r == 0) panel.title = linears[c];
      draw_panel(canvas, panel);
      if (c + 1 == linears.size()) {
        const double db_low = -10 * std::log10(panel.y.high), db_high = -10 * std::log10(panel.y.low);
        for (const Tick& tick : linear_ticks(db_low, db_high, 4)) {
          canvas.text({panel.corner.x + panel_width + 6, panel.y(std::pow(10.0, -tick.value / 10)) + 4},
                      tick.label + (r == 0 ? " dB" : ""), {11, Anchor::start, false, kMuted});
        }
      }
      const auto values = table.values.find({operands[r], linears[c]});
      if (values == table.values.end()) {
        canvas.text({panel.corner.x + panel_width / 2, y + panel_height / 2}, "not recorded",
                    {11.5, Anchor::middle, false, kMuted});
        continue;
      }
      const double spacing = panel_width / (table.last_layer - table.first_layer + 1);
      const double radius = std::clamp(0.3 * spacing, 2.2, 3.8);
      const double dodge = std::min(6.0, 0.6 * spacing / static_cast<double>(looks.size()));
      for (std::size_t a = 0; a < looks.size(); ++a) {
        const auto arm = values->second.find(looks[a].arm);
        if (arm == values->second.end()) continue;
        const double shift = dodge * (static_cast<double>(a) - (static_cast<double>(looks.size()) - 1) / 2);
        std::vector<Point> points;
        for (const auto& [layer, mean] : arm->second) {
          points.push_back({panel.x(layer) + shift, panel.y(mean.sum / static_cast<double>(mean.count))});
        }
        canvas.polyline(points, {looks[a].colour, 1.3, looks[a].dash, 0.75});
        for (const Point& p : points) canvas.marker(looks[a].marker, p, radius, looks[a].colour);
      }
    }
  }
  canvas.text({left + (width - left - right) / 2, height - 10}, "layer", {12.5, Anchor::middle});
  return Picture{"error_by_layer", "Error per layer and format", canvas.finish(), caption_of(table, operands)};
}

}  // namespace ng
