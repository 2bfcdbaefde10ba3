// SPDX-License-Identifier: Apache-2.0
//
// The second picture: paired held-out loss differences, with everything that the verdict was held against.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/study/picture.hpp"
#include "picture_svg.hpp"

namespace ng {

namespace {

using namespace svg;  // NOLINT: the canvas is what this file is written in

// What the axis has to hold: zero, every point and, as far as it does not dwarf them, every interval.
Interval axis_range(const Judgement& judgement, double tolerance) {
  double low = 0, high = 0;
  const auto hold = [&](double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  };
  for (const ArmJudgement& arm : judgement.arms) {
    for (const SeedPair& pair : arm.pairs) hold(pair.difference);
    hold(arm.mean);
  }
  hold(judgement.baseline_range);
  hold(-judgement.baseline_range);
  hold(tolerance * 1.2);
  hold(-tolerance * 1.2);
  const double most = 0.6 * (high - low), inner_low = low, inner_high = high;
  for (const ArmJudgement& arm : judgement.arms) {
    if (!std::isfinite(arm.family_interval.low)) continue;
    hold(std::max(arm.family_interval.low, inner_low - most));
    hold(std::min(arm.family_interval.high, inner_high + most));
  }
  if (!(high > low)) return {-1, 1};
  const double pad = 0.03 * (high - low);
  return {low - pad, high + pad};
}

// A bar over [low, high], with an arrow head where the axis cuts it.
void interval_bar(Canvas& canvas, const Panel& panel, Interval i, double y, const Stroke& stroke, double cap) {
  if (!std::isfinite(i.low) || !std::isfinite(i.high)) return;
  const double from = panel.x(std::max(i.low, panel.x.low)), to = panel.x(std::min(i.high, panel.x.high));
  canvas.line({from, y}, {to, y}, stroke);
  const auto end = [&](double x, bool cut, double direction) {
    if (cut) {
      canvas.polygon({{x, y}, {x - direction * 11, y - 6}, {x - direction * 11, y + 6}}, stroke.colour, 1);
    } else if (cap > 0) {
      canvas.line({x, y - cap}, {x, y + cap}, stroke);
    }
  };
  end(from, i.low < panel.x.low, -1);
  end(to, i.high > panel.x.high, 1);
}

std::string caption_of(const StudyResult& study, const Judgement& j) {
  const JudgementOptions& o = study.options;
  std::string caption = fmt::format(
      "Held-out loss of each arm minus that of {} with the same seed (same initial weights, same data in the same "
      "order), at the end of training. Small hollow marks: one seed each; large mark: the mean. Thick bar: {:g} % "
      "interval of the mean for this arm alone; thin bar with caps: the interval that counts when all arms are judged "
      "together (Holm).",
      j.baseline, 100 * o.confidence);
  if (std::isfinite(j.baseline_range)) {
    caption += fmt::format(" Grey: the seed spread of {}, ±{:.4f} nats, which is how far its own runs lie apart.",
                           j.baseline, j.baseline_range);
  }
  if (o.tolerance > 0) caption += fmt::format(" Dashed: the tolerance, ±{:g} nats.", o.tolerance);
  std::string untold;
  for (const ArmJudgement& arm : j.arms) {
    if (arm.verdict == Verdict::cannot_be_told) untold += (untold.empty() ? "" : ", ") + arm.arm;
  }
  caption += untold.empty() ? " What this cannot tell: what a longer run or a larger model would show."
                            : fmt::format(
                                  " What cannot be told from these runs: whether {} differ{} from {}. And no "
                                  "picture of short runs tells what a longer run or a larger model would show.",
                                  untold, untold.find(',') == std::string::npos ? "s" : "", j.baseline);
  return caption;
}

}  // namespace

std::optional<Picture> picture_paired_differences(const StudyResult& study, const Judgement& judgement) {
  if (judgement.arms.empty()) return {};
  const std::vector<ArmLook> looks = arm_looks(study);
  double left = 90;
  for (const ArmJudgement& arm : judgement.arms) left = std::max(left, text_width(arm.arm, 12.5) + 24);
  left = std::min(left, 330.0);
  const double width = 960, right = 168, row = 40, top = 34;
  const auto rows = static_cast<double>(judgement.arms.size());
  const double height = top + rows * row + 58;
  Canvas canvas(width, height, "Paired held-out loss differences to " + judgement.baseline);
  Panel panel;
  panel.corner = {left, top};
  panel.width = width - left - right;
  panel.height = rows * row;
  const Interval range = axis_range(judgement, study.options.tolerance);
  panel.x = {range.low, range.high};
  panel.y = {0, 1};
  panel.x_ticks = linear_ticks(range.low, range.high, 7);
  panel.y_labels = false;
  Panel ground = panel;  // the band lies under grid and frame
  ground.x.pixel_low = left;
  ground.x.pixel_high = left + panel.width;
  if (std::isfinite(judgement.baseline_range)) {
    const double from = ground.x(-judgement.baseline_range), to = ground.x(judgement.baseline_range);
    canvas.rect({from, top}, std::max(to - from, 1.0), panel.height, kBand);
    canvas.text({(from + to) / 2, top - 9}, "seed spread of " + judgement.baseline,
                {11.5, Anchor::middle, false, kMuted});
  }
  draw_panel(canvas, panel);
  for (const double t : {-study.options.tolerance, study.options.tolerance}) {
    if (t != 0) canvas.line({panel.x(t), top}, {panel.x(t), top + panel.height}, {kMuted, 1, "4 3"});
  }
  canvas.line({panel.x(0), top}, {panel.x(0), top + panel.height}, {kText, 1.4});
  for (std::size_t r = 0; r < judgement.arms.size(); ++r) {
    const ArmJudgement& arm = judgement.arms[r];
    const ArmLook& look = look_of(looks, arm.arm);
    const double y = top + (static_cast<double>(r) + 0.5) * row;
    if (r > 0) canvas.line({left, y - row / 2}, {left + panel.width, y - row / 2}, {kGrid});
    canvas.text({left - 12, y + 4.3}, arm.arm, {12.5, Anchor::end});
    canvas.text({width - right + 12, y + 4.3}, verdict_name(arm.verdict),
                {12.5, Anchor::start, arm.verdict != Verdict::cannot_be_told,
                 arm.verdict == Verdict::cannot_be_told ? kMuted : kText});
    if (arm.n > 1) {
      interval_bar(canvas, panel, arm.family_interval, y, {look.colour, 1.2}, 5);
      interval_bar(canvas, panel, arm.interval, y, {look.colour, 4}, 0);
    }
    for (const SeedPair& pair : arm.pairs) {
      if (std::isfinite(pair.difference)) {
        canvas.marker(look.marker, {panel.x(pair.difference), y + 12}, 3.4, look.colour, false);
      }
    }
    if (arm.n > 1) canvas.marker(look.marker, {panel.x(arm.mean), y}, 6, look.colour);
    if (arm.n == 0) {
      canvas.text({left + panel.width / 2, y + 4.3}, "no finished pair of runs", {11.5, Anchor::middle, false, kMuted});
    }
  }
  canvas.text({left + panel.width / 2, height - 14},
              fmt::format("held-out loss minus {}, same seed [nats per token]", judgement.baseline),
              {12.5, Anchor::middle});
  return Picture{"paired_differences", "Held-out loss, paired by seed", canvas.finish(), caption_of(study, judgement)};
}

}  // namespace ng
