// SPDX-License-Identifier: Apache-2.0
//
// The terminal's view of a study.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/study/report.hpp"

namespace ng {

namespace {

std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

}  // namespace

std::string text_table(const StudyResult& study) {
  const Judgement j = judge(study);
  std::size_t width = std::max<std::size_t>(6, j.baseline.size());
  for (const ArmJudgement& arm : j.arms) width = std::max(width, arm.arm.size());
  std::string out = fmt::format("{:<{}}", "recipe", width);
  for (const auto& [seed, loss] : j.baseline_losses) out += fmt::format("  {:>10}", fmt::format("seed {}", seed));
  out += fmt::format("  {:>9}  {:>19}  verdict\n{:<{}}", "diff", "interval (Holm)", j.baseline, width);
  for (const auto& [seed, loss] : j.baseline_losses) out += fmt::format("  {:>10}", number(loss, "{:.4f}"));
  out += fmt::format("  {:>9}  {:>19}  baseline\n", "", "");
  for (const ArmJudgement& arm : j.arms) {
    out += fmt::format("{:<{}}", arm.arm, width);
    for (const SeedPair& pair : arm.pairs) {
      out += fmt::format("  {:>10}", std::isfinite(pair.loss) ? number(pair.loss, "{:.4f}") : pair.status);
    }
    const std::string interval =
        arm.degrees > 0 ? fmt::format("{:+.4f} .. {:+.4f}", arm.family_interval.low, arm.family_interval.high) : "-";
    out += fmt::format("  {:>9}  {:>19}  {}\n", number(arm.mean, "{:+.4f}"), interval, verdict_name(arm.verdict));
  }
  out += "Held-out loss in nats per token; differences are paired by seed.\n";
  for (const ArmJudgement& arm : j.arms) {
    out += fmt::format("\n{}: {}. {}", arm.arm, verdict_name(arm.verdict), arm.why);
  }
  if (!j.warnings.empty()) out += "\n";
  for (const std::string& warning : j.warnings) out += "\nNote: " + warning;
  return out + "\n";
}

}  // namespace ng
