// SPDX-License-Identifier: Apache-2.0
//
// Is one recipe worse than another? Plain structs that hold the finished runs of a study, and the paired
// statistics that judge them. No files are read here. The rule of the verdict is written at judge().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "narrowgauge/recording/run_rows.hpp"

namespace ng {

/// One training run: an arm (a named recipe) at one seed. Losses in nats per token. `step` and `loss` are
/// parallel, as are `eval_step`, `eval_loss` (the recipe's forward) and `eval_loss_bf16` (the same weights,
/// BF16 forward; may be empty). Steps ascend. `status`: running | done | diverged | interrupted | failed.
struct RunCurve {
  std::string arm;
  std::uint64_t seed = 0;
  std::string data_digest, model, run_id;
  std::vector<double> step, loss;
  std::vector<double> eval_step, eval_loss, eval_loss_bf16;
  std::string status;
  double seconds = 0, tokens = 0;
};

/// One measure at one site of one run, over steps; NaN where it was not measured.
struct ErrorSample {
  std::string arm;
  std::uint64_t seed = 0;
  std::string site;  // layer.3/fc1/activation/fprop
  std::string measure;
  std::vector<double> step, value;
};

/// One number of a layer's router over the steps of a run: max_violation, router_entropy or dropped.
struct RouterSample {
  std::string arm;
  std::uint64_t seed = 0;
  std::int64_t layer = 0;
  std::string measure;
  std::vector<double> step, value;
};

/// A product as an arm's runs executed it.
struct ExecutedGemm {
  std::string arm;
  GemmRow gemm;
};

/// The part of an arm's GEMM FLOPs that had operands of this format, 0 to 1.
struct FlopShare {
  std::string arm, format;
  double share = 0;
};

/// What a verdict is held against; to be written down before the runs.
struct JudgementOptions {
  double tolerance = 0.01;          // nats; a difference inside ±tolerance does not matter. 0: none is small enough
  double confidence = 0.95;         // of all the verdicts of a study together
  double window_fraction = 0.25;    // the last part of the steps, for the matched-step difference
  std::size_t resamples = 2000;     // of the block bootstrap
  std::uint64_t resample_seed = 1;  // of the block bootstrap
  bool allow_mismatch = false;      // compare runs of other data, model or length; the report then says so
};

/// Everything that a report is made of.
struct StudyResult {
  std::string title, question, prediction;
  std::string baseline;  // name of the arm that the others are compared with
  std::vector<RunCurve> runs;
  std::vector<ErrorSample> errors;
  std::vector<FlopShare> flop_shares;
  std::vector<RouterSample> routers;
  std::vector<ExecutedGemm> gemms;
  std::vector<std::string> notes;
  std::string machine, git_revision, command;
  JudgementOptions options;
};

struct Interval {
  double low = 0, high = 0;
};

enum class Verdict {
  worse,                  // the loss is higher, beyond chance
  better,                 // the loss is lower, beyond chance
  same_within_tolerance,  // the difference lies inside the tolerance, beyond chance
  cannot_be_told,         // these runs do not answer the question
  diverged                // a run of the arm diverged where the baseline's run of the same seed did not
};
/// In words: "worse", "better", "same within tolerance", "cannot be told", "diverged".
[[nodiscard]] std::string_view verdict_name(Verdict verdict);

/// One seed's pair of runs. A number that does not exist is NaN.
struct SeedPair {
  std::uint64_t seed = 0;
  std::string status;             // of the arm's run, "missing" if there is none
  double baseline_loss = 0;       // held-out, at the last evaluation that both runs have
  double loss = 0;                // held-out, recipe's forward
  double loss_bf16 = 0;           // held-out, BF16 forward of the arm's weights
  double difference = 0;          // loss - baseline_loss
  double matched_mean = 0;        // mean training-loss difference at equal steps over the last window
  Interval matched_interval;      // of matched_mean, from the block bootstrap over steps
  std::size_t matched_steps = 0;  // in that window
};

struct ArmJudgement {
  std::string arm;
  std::vector<SeedPair> pairs;  // one for each seed of the baseline, ascending
  std::size_t n = 0;            // pairs with a difference
  double mean = 0;              // of the differences, nats
  double percent = 0;           // mean as percent of the baseline's mean loss over the same seeds
  double own_sd = 0;            // of the differences (NaN for n < 2)
  double standard_error = 0;    // of the mean, as used by the test
  double degrees = 0;           // of freedom, as used by the test; 0 if there is no test
  Interval interval;            // of the mean, at options.confidence, this arm alone
  Interval family_interval;     // of the mean, at the confidence that Holm's step gives this arm
  double p = 1, p_holm = 1;     // two-sided, difference is 0; plain, and adjusted over all arms (Holm)
  Verdict verdict = Verdict::cannot_be_told;
  std::string why;  // one or two plain sentences
};

struct Judgement {
  std::string baseline;
  std::vector<std::pair<std::uint64_t, double>> baseline_losses;  // held-out at the end, by seed; NaN if there is none
  double baseline_mean = 0, baseline_sd = 0, baseline_range = 0;  // over seeds; sd and range NaN for fewer than two
  double pooled_sd = 0;  // of a paired difference, over all arms with every seed; NaN if it cannot be formed
  double pooled_degrees = 0;
  std::vector<ArmJudgement> arms;     // in order of first appearance, without the baseline
  std::vector<std::string> warnings;  // what a reader has to know: unfinished runs, few seeds, mismatches
};

/// Judges every arm against the baseline.
///
/// The number that is judged is the held-out loss with the recipe's own forward, at the last evaluation
/// that both runs of a pair have, paired by seed (same initial weights, same data order). Only runs with
/// status `done` count.
///
/// Noise. With two seeds an arm's own spread has one degree of freedom and a t interval of ±12.7 standard
/// errors. So the noise of a difference is pooled: L(arm, seed) = arm + seed + noise, and the residual mean
/// square over all arms with every seed has (arms-1)(seeds-1) degrees of freedom. That assumes that arms
/// are about equally noisy. Therefore the larger of the pooled and the arm's own standard deviation is used.
///
/// worse / better needs all of:
///   1. Holm-adjusted p < 1 - confidence, over all arms that can be tested (two-sided Student t);
///   2. the same sign in every seed;
///   3. with fewer than four seeds, where equal noise cannot be checked: a mean difference larger than the
///      baseline's own seed spread (max - min);
///   4. where training losses allow it (16 equal steps in the last window): in every seed, a block
///      bootstrap interval of the matched-step training-loss difference that excludes 0 on the same side.
/// 2 to 4 can only take verdicts away, so they cannot raise the rate of false alarms of 1.
/// same_within_tolerance needs: Holm-adjusted p < 1 - confidence in two one-sided tests against ±tolerance,
/// and family_interval inside ±tolerance. It goes before worse and better.
/// diverged needs no statistics: it is a fact about a run. Everything else: cannot_be_told.
///
/// Rate of false alarms of the whole family (nominal 5 %) with arms that differ in nothing: 1 % (two seeds,
/// six arms, noise a third of the seed spread) to 3 %. One arm alone much noisier than all others, for
/// instance paired with the wrong seeds: up to 10 % with two seeds, under 5 % from three on.
/// tests/unit/study_verdict_test.cpp holds it to these rates.
///
/// Throws UserError: no runs; no run of the baseline; two runs of one arm and seed; runs of different data,
/// model or last evaluation step unless options.allow_mismatch; options out of range; columns of unequal length.
[[nodiscard]] Judgement judge(const StudyResult& study);

// The parts, each of use alone.

/// Mean; NaN for no values.
[[nodiscard]] double mean_of(std::span<const double> values);
/// Sample standard deviation (n - 1); NaN for fewer than two values.
[[nodiscard]] double sample_sd(std::span<const double> values);
/// Two-sided Student t quantile: P(|t| < result) = confidence. degrees > 0, 0 < confidence < 1.
[[nodiscard]] double student_t_quantile(double confidence, double degrees);
/// P(|T| > |t|), Student t with these degrees of freedom.
[[nodiscard]] double student_t_two_sided_p(double t, double degrees);
/// Confidence interval of the mean of the values; infinite for one value, NaN for none.
[[nodiscard]] Interval student_t_interval(std::span<const double> values, double confidence);
/// Holm's step-down adjusted p-values, in the order given.
[[nodiscard]] std::vector<double> holm_adjust(std::span<const double> p);

/// Standard deviation of a paired difference from a complete table loss[arm][seed], two or more of each:
/// sqrt(2 * residual mean square) of the additive model, with (arms-1)(seeds-1) degrees of freedom.
[[nodiscard]] std::pair<double, double> pooled_difference_sd(const std::vector<std::vector<double>>& loss);

struct Curve {
  std::vector<double> step, value;
};
/// other - base at the steps that both have with finite losses. Steps ascend.
[[nodiscard]] Curve matched_difference(const RunCurve& base, const RunCurve& other);
/// Centred moving average over `width` entries (made odd). It narrows towards the first entry, where losses
/// fall steeply, and becomes one-sided towards the last.
[[nodiscard]] std::vector<double> moving_average(std::span<const double> values, std::size_t width);
/// Percentile interval of the mean from a moving-block bootstrap with blocks of ceil(sqrt(n)); the same for
/// the same seed on every machine. NaN for no values.
[[nodiscard]] Interval block_bootstrap_mean(std::span<const double> values, double confidence, std::size_t resamples,
                                            std::uint64_t seed);

}  // namespace ng
