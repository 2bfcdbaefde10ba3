// SPDX-License-Identifier: Apache-2.0
//
// Loss over steps, and the differences at equal steps.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "narrowgauge/study/picture.hpp"
#include "picture_svg.hpp"

namespace ng {

namespace {

using namespace svg;  // NOLINT: the canvas is what this file is written in

constexpr double kInf = std::numeric_limits<double>::infinity();

std::size_t smoothing_width(std::size_t entries) {
  return std::max<std::size_t>(1, entries / 20) | 1;
}

// The part of a column before the first value that is no number.
Curve finite_head(const std::vector<double>& step, const std::vector<double>& value) {
  Curve out;
  for (std::size_t i = 0; i < step.size() && i < value.size() && std::isfinite(value[i]); ++i) {
    out.step.push_back(step[i]);
    out.value.push_back(value[i]);
  }
  return out;
}

// Mean over curves at the steps that all of them have.
Curve mean_curve(const std::vector<Curve>& curves) {
  std::map<double, std::pair<double, std::size_t>> sums;
  for (const Curve& curve : curves) {
    for (std::size_t i = 0; i < curve.step.size(); ++i) {
      auto& [sum, count] = sums[curve.step[i]];
      sum += curve.value[i];
      ++count;
    }
  }
  Curve out;
  for (const auto& [step, entry] : sums) {
    if (entry.second != curves.size()) continue;
    out.step.push_back(step);
    out.value.push_back(entry.first / static_cast<double>(entry.second));
  }
  return out;
}

bool lost(const RunCurve& run) {
  return run.status == "diverged" || (!run.loss.empty() && !std::isfinite(run.loss.back()));
}

struct ArmCurves {
  std::vector<Curve> training, held_out;  // one each, the mean over seeds; or one a run if a run diverged
  std::vector<Point> ends;                // the last finite point of each diverged run
  std::size_t width = 1;                  // of the smoothing
};

ArmCurves curves_of(const StudyResult& study, const std::string& arm) {
  ArmCurves out;
  for (const RunCurve& run : study.runs) {
    if (run.arm != arm) continue;
    Curve training = finite_head(run.step, run.loss), held_out = finite_head(run.eval_step, run.eval_loss);
    if (lost(run) && !training.step.empty()) out.ends.push_back({training.step.back(), training.value.back()});
    if (!training.step.empty()) out.training.push_back(std::move(training));
    if (!held_out.step.empty()) out.held_out.push_back(std::move(held_out));
  }
  if (out.ends.empty()) {
    if (!out.training.empty()) out.training = {mean_curve(out.training)};
    if (!out.held_out.empty()) out.held_out = {mean_curve(out.held_out)};
  }
  for (Curve& curve : out.training) {
    const std::size_t width = smoothing_width(curve.step.size());
    out.width = std::max(out.width, width);
    curve.value = moving_average(curve.value, width);
  }
  for (Point& end : out.ends) {  // onto the smoothed line
    for (const Curve& curve : out.training) {
      if (curve.step.back() == end.x) end.y = curve.value.back();
    }
  }
  return out;
}

struct Box {
  double x_low = kInf, x_high = -kInf, y_low = kInf, y_high = -kInf;
  void hold(const Curve& curve, double from) {
    for (std::size_t i = 0; i < curve.step.size(); ++i) {
      if (curve.step[i] >= from) hold(curve.step[i], curve.value[i]);
    }
  }
  void hold(double x, double y) {
    x_low = std::min(x_low, x);
    x_high = std::max(x_high, x);
    y_low = std::min(y_low, y);
    y_high = std::max(y_high, y);
  }
};

std::vector<Point> points_of(const Panel& panel, const Curve& curve) {
  std::vector<Point> out;
  for (std::size_t i = 0; i < curve.step.size(); ++i) out.push_back({panel.x(curve.step[i]), panel.y(curve.value[i])});
  return out;
}

void draw_curves(Canvas& canvas, const Panel& panel, const std::vector<ArmLook>& looks,
                 const std::vector<ArmCurves>& arms) {
  canvas.begin_clip(panel.corner, panel.width, panel.height);
  for (std::size_t a = looks.size(); a-- > 0;) {  // the baseline last, on top
    for (const Curve& curve : arms[a].training) {
      canvas.polyline(points_of(panel, curve), {looks[a].colour, 1.4, looks[a].dash, 0.85});
    }
  }
  for (std::size_t a = 0; a < looks.size(); ++a) {  // the baseline first, or it would hide the others
    for (const Curve& curve : arms[a].held_out) {
      for (const Point& p : points_of(panel, curve)) {
        canvas.marker(looks[a].marker, p, a == 0 ? 4.4 : 3.6, looks[a].colour);
      }
    }
    for (const Point& end : arms[a].ends) {
      const double x = panel.x(end.x), y = panel.y(end.y);
      canvas.line({x - 6, y - 6}, {x + 6, y + 6}, {looks[a].colour, 3});
      canvas.line({x - 6, y + 6}, {x + 6, y - 6}, {looks[a].colour, 3});
    }
  }
  canvas.end_clip();
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

}  // namespace

std::optional<Picture> picture_loss_curves(const StudyResult& study) {
  const std::vector<ArmLook> looks = arm_looks(study);
  std::vector<ArmCurves> arms;
  Box all, end;
  std::size_t width = 1;
  bool any_lost = false;
  for (const ArmLook& look : looks) arms.push_back(curves_of(study, look.arm));
  for (const ArmCurves& arm : arms) {
    for (const Curve& curve : arm.training) all.hold(curve, -kInf);
    for (const Curve& curve : arm.held_out) all.hold(curve, -kInf);
    width = std::max(width, arm.width);
    any_lost = any_lost || !arm.ends.empty();
  }
  if (!(all.x_high > -kInf)) return {};
  const double from = all.x_low + 0.7 * (all.x_high - all.x_low);
  for (const ArmCurves& arm : arms) {
    if (!arm.ends.empty()) continue;  // a diverging arm would take the enlargement's whole range
    for (const Curve& curve : arm.training) end.hold(curve, from);
    for (const Curve& curve : arm.held_out) end.hold(curve, from);
  }
  const double left = 62, gap = 62, total = 960, bottom = 52, panel_height = 300;
  const double top = 12 + legend_height(looks, total - left) + 30;
  Canvas canvas(total, top + panel_height + bottom, "Loss over steps");
  legend(canvas, looks, {left, 8}, total - left - 10);
  const double panel_width = (total - left - gap - 14) / 2;
  const auto draw = [&](double x, const Box& box, const std::string& title) {
    const double x_pad = box.x_high > box.x_low ? 0.02 * (box.x_high - box.x_low) : 1;
    const double y_pad = box.y_high > box.y_low ? 0.04 * (box.y_high - box.y_low) : 0.1;
    Panel panel;
    panel.corner = {x, top};
    panel.width = panel_width;
    panel.height = panel_height;
    panel.x = {box.x_low - x_pad, box.x_high + x_pad};
    panel.y = {box.y_low - y_pad, box.y_high + y_pad};
    panel.x_ticks = linear_ticks(panel.x.low, panel.x.high, 6);
    panel.y_ticks = linear_ticks(panel.y.low, panel.y.high, 6);
    panel.title = title;
    draw_panel(canvas, panel);
    draw_curves(canvas, panel, looks, arms);
    canvas.text({x + panel_width / 2, top + panel_height + 40}, "step", {12.5, Anchor::middle});
  };
  draw(left, all, "all steps");
  if (end.x_high > end.x_low) draw(left + panel_width + gap, end, "the end, enlarged");
  canvas.text({16, top + panel_height / 2}, "loss [nats per token]", {12.5, Anchor::middle, false, kText, false});
  std::string caption = fmt::format(
      "Lines: training loss, mean over the seeds of an arm, smoothed by a centred average over {} records. Marks: "
      "held-out loss with the arm's own forward, mean over seeds.",
      width);
  if (any_lost) caption += " A large × is the last usable point of a run that diverged; its arm is drawn run by run.";
  caption +=
      " What this cannot tell: differences smaller than the noise of the lines. The batches are the same for "
      "every arm, so their noise falls out of a difference: see the picture of differences at equal steps.";
  return Picture{"loss_curves", "Loss over steps", canvas.finish(), caption};
}

std::optional<Picture> picture_matched_differences(const StudyResult& study, const Judgement& judgement) {
  struct Entry {
    std::string arm;
    std::vector<Curve> seeds;
    Curve mean;
  };
  const std::vector<ArmLook> looks = arm_looks(study);
  std::vector<Entry> entries;
  std::vector<double> values;
  Box box;
  std::size_t width = 1;
  for (const ArmJudgement& arm : judgement.arms) {
    Entry entry{arm.arm, {}, {}};
    for (const RunCurve& base : study.runs) {
      if (base.arm != study.baseline) continue;
      for (const RunCurve& run : study.runs) {
        if (run.arm != arm.arm || run.seed != base.seed) continue;
        Curve curve = matched_difference(base, run);
        if (curve.step.empty()) continue;
        const std::size_t smoothing = smoothing_width(curve.step.size());
        width = std::max(width, smoothing);
        curve.value = moving_average(curve.value, smoothing);
        entry.seeds.push_back(std::move(curve));
      }
    }
    entry.mean = mean_curve(entry.seeds);
    for (const Curve& curve : entry.seeds) {
      for (std::size_t i = 0; i < curve.step.size(); ++i) {
        box.hold(curve.step[i], 0);
        values.push_back(curve.value[i]);
      }
    }
    entries.push_back(std::move(entry));
  }
  if (values.empty()) return {};
  // One range for all panels that leaves out the extreme hundredth, which the first steps often are.
  const double low = std::min({0.0, quantile(values, 0.01), -study.options.tolerance});
  const double high = std::max({0.0, quantile(values, 0.99), study.options.tolerance});
  const double pad = high > low ? 0.08 * (high - low) : 0.01;
  const std::size_t columns = std::min<std::size_t>(entries.size(), entries.size() == 4 ? 2 : 3);
  const std::size_t rows = (entries.size() + columns - 1) / columns;
  const double total = 960, left = 74, gap = 16, row_gap = 30, top = 28;
  const double panel_height = rows == 1 ? 230 : 150;
  const double panel_width =
      (total - left - 12 - static_cast<double>(columns - 1) * gap) / static_cast<double>(columns);
  const double height = top + static_cast<double>(rows) * (panel_height + row_gap) + 24;
  Canvas canvas(total, height, "Training loss differences at equal steps");
  for (std::size_t e = 0; e < entries.size(); ++e) {
    const ArmLook& look = look_of(looks, entries[e].arm);
    const std::size_t r = e / columns, c = e % columns;
    Panel panel;
    panel.corner = {left + static_cast<double>(c) * (panel_width + gap),
                    top + static_cast<double>(r) * (panel_height + row_gap)};
    panel.width = panel_width;
    panel.height = panel_height;
    const double x_pad = box.x_high > box.x_low ? 0.01 * (box.x_high - box.x_low) : 1;
    panel.x = {box.x_low - x_pad, box.x_high + x_pad};
    panel.y = {low - pad, high + pad};
    panel.x_ticks = linear_ticks(panel.x.low, panel.x.high, 5);
    panel.y_ticks = linear_ticks(panel.y.low, panel.y.high, 5);
    panel.x_labels = e + columns >= entries.size();
    panel.y_labels = c == 0;
    panel.title = entries[e].arm;
    draw_panel(canvas, panel);
    canvas.begin_clip(panel.corner, panel.width, panel.height);
    for (const double t : {-study.options.tolerance, study.options.tolerance}) {
      if (t != 0)
        canvas.line({panel.corner.x, panel.y(t)}, {panel.corner.x + panel_width, panel.y(t)}, {kMuted, 1, "4 3"});
    }
    canvas.line({panel.corner.x, panel.y(0)}, {panel.corner.x + panel_width, panel.y(0)}, {kText, 1.2});
    for (const Curve& curve : entries[e].seeds) {
      canvas.polyline(points_of(panel, curve), {look.colour, 1, "", 0.55});
    }
    if (entries[e].seeds.size() > 1) canvas.polyline(points_of(panel, entries[e].mean), {look.colour, 2.4});
    canvas.end_clip();
    if (entries[e].seeds.empty()) {
      canvas.text({panel.corner.x + panel_width / 2, panel.y(0) - 8}, "no equal steps",
                  {11.5, Anchor::middle, false, kMuted});
    }
  }
  canvas.text({left + (total - left - 12) / 2, height - 8}, "step", {12.5, Anchor::middle});
  canvas.text({16, top + (height - top - 50) / 2}, fmt::format("training loss minus {} [nats]", judgement.baseline),
              {12.5, Anchor::middle, false, kText, false});
  std::string caption = fmt::format(
      "Training loss minus that of {} at the same step and seed, that is on the same batch; smoothed after the "
      "subtraction, over {} records. Thin: one seed each; thick: their mean.",
      judgement.baseline, width);
  if (study.options.tolerance > 0)
    caption += fmt::format(" Dashed: the tolerance, ±{:g} nats.", study.options.tolerance);
  caption +=
      " One range for all panels; the most extreme hundredth of the values, and runs that diverge, may leave it. What "
      "this cannot "
      "tell: chance between seeds, of which each line is one draw, however smooth it looks.";
  return Picture{"matched_differences", "Training loss at equal steps", canvas.finish(), caption};
}

}  // namespace ng
