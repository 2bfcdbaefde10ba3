// SPDX-License-Identifier: Apache-2.0
//
// judge(): from finished runs to a verdict for each arm. The rule is documented in statistics.hpp; the
// text here follows it in order: check, pair, estimate the noise, test, decide, say why.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/study/statistics.hpp"

namespace ng {

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::worse:
      return "worse";
    case Verdict::better:
      return "better";
    case Verdict::same_within_tolerance:
      return "same within tolerance";
    case Verdict::diverged:
      return "diverged";
    case Verdict::cannot_be_told:
      break;
  }
  return "cannot be told";
}

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kFewSeeds = 4;            // below it equal noise cannot be checked: condition 3
constexpr std::size_t kLeastMatchedSteps = 16;  // below it no bootstrap: condition 4

using RunTable = std::map<std::string, std::map<std::uint64_t, const RunCurve*>>;

void check_run(const RunCurve& run) {
  const bool bf16_fits = run.eval_loss_bf16.empty() || run.eval_loss_bf16.size() == run.eval_step.size();
  if (run.step.size() != run.loss.size() || run.eval_step.size() != run.eval_loss.size() || !bf16_fits) {
    throw UserError(
        fmt::format("run {} ({}, seed {}): step and loss columns have unequal lengths", run.run_id, run.arm, run.seed));
  }
}

// The first property in which two runs differ that ought to be equal, or nothing.
std::string mismatch(const RunCurve& a, const RunCurve& b) {
  if (a.data_digest != b.data_digest) return fmt::format("data ({} and {})", a.data_digest, b.data_digest);
  if (a.model != b.model) return fmt::format("model ({} and {})", a.model, b.model);
  const bool ended = a.status == "done" && b.status == "done" && !a.eval_step.empty() && !b.eval_step.empty();
  if (ended && a.eval_step.back() != b.eval_step.back()) {
    return fmt::format("last evaluation (step {} and {})", a.eval_step.back(), b.eval_step.back());
  }
  return {};
}

RunTable check_and_index(const StudyResult& study, Judgement& out) {
  const JudgementOptions& o = study.options;
  if (!(o.confidence > 0 && o.confidence < 1) || !(o.tolerance >= 0) ||
      !(o.window_fraction > 0 && o.window_fraction <= 1) || o.resamples == 0) {
    throw UserError(
        "confidence and window fraction lie between 0 and 1, the tolerance is not negative, and there is "
        "at least one resample");
  }
  if (study.runs.empty()) throw UserError("there are no runs to judge");
  RunTable table;
  std::string arms;
  for (const RunCurve& run : study.runs) {
    check_run(run);
    if (!table.contains(run.arm)) arms += (arms.empty() ? "" : ", ") + run.arm;
    const auto [at, fresh] = table[run.arm].emplace(run.seed, &run);
    if (!fresh) {
      throw UserError(
          fmt::format("two runs of arm {} with seed {}: {} and {}", run.arm, run.seed, at->second->run_id, run.run_id));
    }
  }
  if (!table.contains(study.baseline)) {
    throw UserError(fmt::format("there is no run of the baseline {}; the arms are: {}", study.baseline, arms));
  }
  const RunCurve* first = table.at(study.baseline).begin()->second;
  // A finished run is the better yardstick, since only finished runs have a last evaluation.
  for (const auto& [seed, run] : table.at(study.baseline)) {
    if (run->status == "done") {
      first = run;
      break;
    }
  }
  for (const RunCurve& run : study.runs) {
    const std::string what = mismatch(*first, run);
    if (what.empty()) continue;
    const std::string message =
        fmt::format("runs {} ({}, seed {}) and {} ({}, seed {}) differ in their {}", first->run_id, first->arm,
                    first->seed, run.run_id, run.arm, run.seed, what);
    if (!o.allow_mismatch) throw UserError(message + ": their losses cannot be compared");
    out.warnings.push_back(message + ". The comparison was asked for nevertheless.");
  }
  return table;
}

bool done(const RunCurve& run) {
  return run.status == "done";
}

// A run that ended normally with a loss that is no number has diverged all the same.
bool diverged(const RunCurve& run) {
  return run.status == "diverged" || (done(run) && !run.eval_loss.empty() && !std::isfinite(run.eval_loss.back()));
}

double final_loss(const RunCurve& run) {
  return done(run) && !run.eval_loss.empty() ? run.eval_loss.back() : kNan;
}

SeedPair make_pair(const RunCurve& base, const RunCurve* run, const JudgementOptions& o) {
  SeedPair pair;
  pair.seed = base.seed;
  pair.status = run == nullptr ? "missing" : diverged(*run) ? "diverged" : run->status;
  pair.baseline_loss = final_loss(base);
  pair.loss = pair.loss_bf16 = pair.difference = pair.matched_mean = kNan;
  pair.matched_interval = {kNan, kNan};
  if (run == nullptr) return pair;
  if (done(base) && done(*run)) {
    for (std::size_t i = run->eval_step.size(); i-- > 0;) {  // the last evaluation that both have
      const auto at = std::find(base.eval_step.begin(), base.eval_step.end(), run->eval_step[i]);
      if (at == base.eval_step.end()) continue;
      pair.baseline_loss = base.eval_loss[static_cast<std::size_t>(at - base.eval_step.begin())];
      pair.loss = run->eval_loss[i];
      if (!run->eval_loss_bf16.empty()) pair.loss_bf16 = run->eval_loss_bf16[i];
      if (std::isfinite(pair.loss) && std::isfinite(pair.baseline_loss)) {
        pair.difference = pair.loss - pair.baseline_loss;
      }
      break;
    }
  }
  const Curve matched = matched_difference(base, *run);
  const auto window =
      static_cast<std::size_t>(std::ceil(o.window_fraction * static_cast<double>(matched.value.size())));
  if (window > 0 && done(base) && done(*run)) {
    const std::span<const double> last = std::span(matched.value).last(window);
    pair.matched_steps = window;
    pair.matched_mean = mean_of(last);
    pair.matched_interval = block_bootstrap_mean(last, o.confidence, o.resamples, o.resample_seed);
  }
  return pair;
}

std::vector<double> differences(const ArmJudgement& arm) {
  std::vector<double> out;
  for (const SeedPair& pair : arm.pairs) {
    if (std::isfinite(pair.difference)) out.push_back(pair.difference);
  }
  return out;
}

// Arms with a finite loss at every seed for which the baseline has one. An arm equal to the baseline in
// every bit says nothing about noise and is left out.
void pool_noise(Judgement& out) {
  std::vector<std::uint64_t> seeds;
  std::vector<std::vector<double>> table(1);
  for (const auto& [seed, loss] : out.baseline_losses) {
    if (!std::isfinite(loss)) continue;
    seeds.push_back(seed);
    table[0].push_back(loss);
  }
  for (const ArmJudgement& arm : out.arms) {
    std::vector<double> row;
    bool varies = false;
    for (const SeedPair& pair : arm.pairs) {
      if (!std::isfinite(pair.difference)) continue;
      row.push_back(pair.loss);
      varies = varies || pair.difference != 0;
    }
    if (row.size() == seeds.size() && varies) table.push_back(row);
  }
  std::tie(out.pooled_sd, out.pooled_degrees) = pooled_difference_sd(table);
}

double ratio(double value, double standard_error) {
  if (standard_error > 0) return value / standard_error;
  return value == 0 ? kNan : std::copysign(std::numeric_limits<double>::infinity(), value);
}

void estimate(ArmJudgement& arm, const Judgement& all, double confidence) {
  const std::vector<double> d = differences(arm);
  arm.n = d.size();
  arm.mean = mean_of(d);
  arm.own_sd = sample_sd(d);
  double base = 0;
  for (const SeedPair& pair : arm.pairs) base += std::isfinite(pair.difference) ? pair.baseline_loss : 0;
  arm.percent = 100 * arm.mean / (base / static_cast<double>(arm.n));
  arm.interval = arm.family_interval = student_t_interval(d, confidence);
  arm.standard_error = kNan;
  if (arm.n < 2) return;
  double sd = arm.own_sd;
  arm.degrees = static_cast<double>(arm.n - 1);
  if (std::isfinite(all.pooled_sd)) {
    sd = std::max(sd, all.pooled_sd);
    arm.degrees = std::max(arm.degrees, all.pooled_degrees);
  }
  arm.standard_error = sd / std::sqrt(static_cast<double>(arm.n));
  const double half = student_t_quantile(confidence, arm.degrees) * arm.standard_error;
  arm.interval = {arm.mean - half, arm.mean + half};
  arm.p = student_t_two_sided_p(ratio(arm.mean, arm.standard_error), arm.degrees);
}

// The larger of the two one-sided p-values against "the difference is at least the tolerance in size".
double equivalence_p(const ArmJudgement& arm, double tolerance) {
  if (!(tolerance > 0)) return 1;
  const double gap = tolerance - std::abs(arm.mean);
  if (gap <= 0) return 1;
  return student_t_two_sided_p(ratio(gap, arm.standard_error), arm.degrees) / 2;
}

// Fills p_holm and family_interval of all arms with a test; returns the Holm-adjusted equivalence p of each.
std::map<std::string, double> adjust(Judgement& out, const JudgementOptions& o) {
  std::vector<ArmJudgement*> tested;
  std::vector<double> p, equal;
  for (ArmJudgement& arm : out.arms) {
    if (arm.degrees <= 0) continue;
    tested.push_back(&arm);
    p.push_back(arm.p);
    equal.push_back(equivalence_p(arm, o.tolerance));
  }
  const double alpha = 1 - o.confidence;
  const std::vector<double> holm = holm_adjust(p), equal_holm = holm_adjust(equal);
  const auto rejected =
      static_cast<std::size_t>(std::count_if(holm.begin(), holm.end(), [&](double v) { return v < alpha; }));
  std::map<std::string, double> result;
  for (std::size_t i = 0; i < tested.size(); ++i) {
    ArmJudgement& arm = *tested[i];
    arm.p_holm = holm[i];
    result[arm.arm] = equal_holm[i];
    std::size_t rank = 0;
    for (std::size_t j = 0; j < p.size(); ++j) rank += p[j] < p[i] || (p[j] == p[i] && j < i);
    const double level = alpha / static_cast<double>(p.size() - std::min({rank, rejected, p.size() - 1}));
    const double half = student_t_quantile(1 - level, arm.degrees) * arm.standard_error;
    arm.family_interval = {arm.mean - half, arm.mean + half};
  }
  return result;
}

std::string with_interval(const ArmJudgement& arm) {
  return fmt::format("{:+.4f} nats ({:+.2f} %), interval {:+.4f} to {:+.4f}", arm.mean, arm.percent,
                     arm.family_interval.low, arm.family_interval.high);
}

void decide(ArmJudgement& arm, const Judgement& all, const JudgementOptions& o, double equal_p) {
  const double alpha = 1 - o.confidence;
  std::size_t lost = 0;
  for (const SeedPair& pair : arm.pairs) lost += pair.status == "diverged" && std::isfinite(pair.baseline_loss);
  if (lost > 0) {
    arm.verdict = Verdict::diverged;
    arm.why =
        fmt::format("{} of {} runs diverged; the baseline's runs with the same seeds did not.", lost, arm.pairs.size());
    if (arm.n > 0) arm.why += fmt::format(" The others end {:+.4f} nats from the baseline on average.", arm.mean);
    return;
  }
  arm.verdict = Verdict::cannot_be_told;
  if (arm.n < 2) {
    arm.why = arm.n == 0
                  ? "No seed has a finished, evaluated run of this arm and of the baseline."
                  : fmt::format("One pair ({:+.4f} nats): one seed cannot separate an arm from chance.", arm.mean);
    return;
  }
  const Interval& i = arm.family_interval;
  if (equal_p < alpha && i.low > -o.tolerance && i.high < o.tolerance) {
    arm.verdict = Verdict::same_within_tolerance;
    arm.why = fmt::format("{}: all of it inside the tolerance of ±{:g} nats.", with_interval(arm), o.tolerance);
    if (arm.p_holm < alpha) arm.why += " A difference is there, but smaller than what was said to matter.";
    return;
  }
  const double sign = arm.mean < 0 ? -1 : 1;
  std::string against;
  if (!(arm.p_holm < alpha)) {
    against = fmt::format(" The interval contains 0 (p = {:.2g} after Holm's correction).", arm.p_holm);
  }
  bool same_sign = true;
  for (const double d : differences(arm)) same_sign = same_sign && d * sign > 0;
  if (!same_sign) against += " The sign is not the same in every seed.";
  if (arm.n < kFewSeeds && !(std::abs(arm.mean) > all.baseline_range)) {
    against +=
        fmt::format(" The mean is not larger than the baseline's own seed spread of {:.4f}, as {} seeds require.",
                    all.baseline_range, arm.n);
  }
  std::string silent;  // the seeds whose training loss does not show it
  for (const SeedPair& pair : arm.pairs) {
    if (!std::isfinite(pair.difference) || pair.matched_steps < kLeastMatchedSteps) continue;
    const double near = sign > 0 ? pair.matched_interval.low : -pair.matched_interval.high;
    if (!(near > 0)) silent += fmt::format("{}{}", silent.empty() ? "" : " and ", pair.seed);
  }
  if (!silent.empty()) against += fmt::format(" The training loss at equal steps does not show it in seed {}.", silent);
  if (!against.empty()) {
    arm.why = fmt::format("{}.{}", with_interval(arm), against);
    if (o.tolerance > 0) {
      arm.why += fmt::format(" Nor is it shown to be the same: that needs an interval inside ±{:g}.", o.tolerance);
    }
    return;
  }
  arm.verdict = sign > 0 ? Verdict::worse : Verdict::better;
  arm.why = fmt::format("{}; the same sign in all {} seeds (p = {:.2g} after Holm's correction).", with_interval(arm),
                        arm.n, arm.p_holm);
  const double nearest = sign > 0 ? i.low : -i.high;
  if (o.tolerance > 0) {
    arm.why += nearest > o.tolerance
                   ? fmt::format(" All of the interval lies beyond the tolerance of {:g}.", o.tolerance)
                   : fmt::format(" Whether it exceeds the tolerance of {:g} cannot be told.", o.tolerance);
  }
}

void warn(const StudyResult& study, Judgement& out) {
  std::size_t seeds = 0;
  for (const auto& [seed, loss] : out.baseline_losses) seeds += std::isfinite(loss);
  if (seeds == 0) {
    out.warnings.push_back("The baseline has no finished run with a held-out evaluation: nothing can be judged.");
  } else if (seeds == 1) {
    out.warnings.push_back("The baseline has one finished run: one seed cannot separate an arm from chance.");
  } else if (seeds == 2) {
    out.warnings.push_back(
        out.pooled_degrees > 1
            ? fmt::format(
                  "Two seeds: an interval from one arm alone would reach ±12.7 standard errors (one degree of "
                  "freedom). The noise is therefore pooled over the arms ({} degrees of freedom), which assumes "
                  "that they are about equally noisy. More seeds would test that.",
                  out.pooled_degrees)
            : std::string("Two seeds and one arm: the interval has one degree of freedom and reaches ±12.7 standard "
                          "errors. Only a very large or very steady difference could be told."));
  }
  for (const RunCurve& run : study.runs) {
    if (done(run) && !diverged(run)) continue;
    out.warnings.push_back(fmt::format("Run {} ({}, seed {}) is not part of the comparison: {}.", run.run_id, run.arm,
                                       run.seed, diverged(run) ? std::string("diverged") : run.status));
  }
  for (const RunCurve& run : study.runs) {
    const bool paired = std::any_of(out.baseline_losses.begin(), out.baseline_losses.end(),
                                    [&](const auto& entry) { return entry.first == run.seed; });
    if (!paired) {
      out.warnings.push_back(
          fmt::format("Run {} ({}, seed {}) has no baseline run with the same seed.", run.run_id, run.arm, run.seed));
    }
  }
}

}  // namespace

Judgement judge(const StudyResult& study) {
  Judgement out;
  out.baseline = study.baseline;
  const RunTable table = check_and_index(study, out);
  const auto& base_runs = table.at(study.baseline);
  std::vector<double> base_losses;
  for (const auto& [seed, run] : base_runs) {
    out.baseline_losses.emplace_back(seed, final_loss(*run));
    if (std::isfinite(final_loss(*run))) base_losses.push_back(final_loss(*run));
  }
  out.baseline_mean = mean_of(base_losses);
  out.baseline_sd = sample_sd(base_losses);
  out.baseline_range = kNan;
  if (base_losses.size() > 1) {
    const auto [low, high] = std::minmax_element(base_losses.begin(), base_losses.end());
    out.baseline_range = *high - *low;
  }
  for (const RunCurve& run : study.runs) {
    const bool known = std::any_of(out.arms.begin(), out.arms.end(), [&](const auto& a) { return a.arm == run.arm; });
    if (known || run.arm == study.baseline) continue;
    ArmJudgement arm;
    arm.arm = run.arm;
    const auto& runs = table.at(run.arm);
    for (const auto& [seed, base] : base_runs) {
      const auto at = runs.find(seed);
      arm.pairs.push_back(make_pair(*base, at == runs.end() ? nullptr : at->second, study.options));
    }
    out.arms.push_back(std::move(arm));
  }
  pool_noise(out);
  for (ArmJudgement& arm : out.arms) estimate(arm, out, study.options.confidence);
  const std::map<std::string, double> equal = adjust(out, study.options);
  for (ArmJudgement& arm : out.arms) {
    const auto at = equal.find(arm.arm);
    decide(arm, out, study.options, at == equal.end() ? 1 : at->second);
  }
  warn(study, out);
  return out;
}

}  // namespace ng
