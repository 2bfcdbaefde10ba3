// SPDX-License-Identifier: Apache-2.0
//
// The statistical parts that judge() is made of: means, Student t, Holm, the additive model's residual,
// matched differences and the block bootstrap. No decision is taken here.
#include "narrowgauge/study/statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "narrowgauge/base/error.hpp"

namespace ng {

namespace {
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
}  // namespace

double mean_of(std::span<const double> values) {
  if (values.empty()) return kNan;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double sample_sd(std::span<const double> values) {
  if (values.size() < 2) return kNan;
  const double mean = mean_of(values);
  double sum = 0;
  for (const double v : values) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double student_t_quantile(double confidence, double degrees) {
  if (!(confidence > 0 && confidence < 1) || !(degrees > 0)) {
    throw UserError("a confidence lies between 0 and 1 and degrees of freedom are positive");
  }
  return boost::math::quantile(boost::math::complement(boost::math::students_t(degrees), (1 - confidence) / 2));
}

double student_t_two_sided_p(double t, double degrees) {
  if (std::isnan(t)) return 1;
  if (std::isinf(t)) return 0;
  return 2 * boost::math::cdf(boost::math::complement(boost::math::students_t(degrees), std::abs(t)));
}

Interval student_t_interval(std::span<const double> values, double confidence) {
  if (values.empty()) return {kNan, kNan};
  if (values.size() == 1) return {-kInf, kInf};
  const double n = static_cast<double>(values.size());
  const double half = student_t_quantile(confidence, n - 1) * sample_sd(values) / std::sqrt(n);
  const double mean = mean_of(values);
  return {mean - half, mean + half};
}

std::vector<double> holm_adjust(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double running = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    running = std::max(running, std::min(1.0, static_cast<double>(order.size() - i) * p[order[i]]));
    adjusted[order[i]] = running;
  }
  return adjusted;
}

std::pair<double, double> pooled_difference_sd(const std::vector<std::vector<double>>& loss) {
  const std::size_t arms = loss.size();
  const std::size_t seeds = arms == 0 ? 0 : loss[0].size();
  if (arms < 2 || seeds < 2) return {kNan, 0};
  std::vector<double> arm_mean(arms, 0), seed_mean(seeds, 0);
  double grand = 0;
  for (std::size_t a = 0; a < arms; ++a) {
    for (std::size_t s = 0; s < seeds; ++s) {
      arm_mean[a] += loss[a][s] / static_cast<double>(seeds);
      seed_mean[s] += loss[a][s] / static_cast<double>(arms);
      grand += loss[a][s] / static_cast<double>(arms * seeds);
    }
  }
  double sum = 0;
  for (std::size_t a = 0; a < arms; ++a) {
    for (std::size_t s = 0; s < seeds; ++s) {
      const double residual = loss[a][s] - arm_mean[a] - seed_mean[s] + grand;
      sum += residual * residual;
    }
  }
  const double degrees = static_cast<double>((arms - 1) * (seeds - 1));
  return {std::sqrt(2 * sum / degrees), degrees};
}

Curve matched_difference(const RunCurve& base, const RunCurve& other) {
  Curve out;
  std::size_t i = 0, j = 0;
  while (i < base.step.size() && j < other.step.size()) {
    if (base.step[i] < other.step[j]) {
      ++i;
    } else if (base.step[i] > other.step[j]) {
      ++j;
    } else {
      const double difference = other.loss[j] - base.loss[i];
      if (std::isfinite(difference)) {
        out.step.push_back(base.step[i]);
        out.value.push_back(difference);
      }
      ++i;
      ++j;
    }
  }
  return out;
}

std::vector<double> moving_average(std::span<const double> values, std::size_t width) {
  const std::size_t half = width / 2;
  std::vector<double> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t left = std::min(half, i), right = std::min(left, values.size() - 1 - i);
    out[i] = mean_of(values.subspan(i - left, left + right + 1));
  }
  return out;
}

Interval block_bootstrap_mean(std::span<const double> values, double confidence, std::size_t resamples,
                              std::uint64_t seed) {
  if (values.empty() || resamples == 0) return {kNan, kNan};
  const std::size_t n = values.size();
  const auto block = static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(n))));
  const std::size_t starts = n - block + 1;
  // Prefix sums make a block one subtraction. The engine's words are used as they are, since the standard
  // leaves the distributions to the library.
  std::vector<double> prefix(n + 1, 0);
  for (std::size_t i = 0; i < n; ++i) prefix[i + 1] = prefix[i] + values[i];
  std::mt19937_64 engine(seed);
  std::vector<double> means(resamples);
  for (double& mean : means) {
    double sum = 0;
    for (std::size_t taken = 0; taken < n;) {
      const std::size_t length = std::min(block, n - taken);
      const std::size_t start = engine() % starts;
      sum += prefix[start + length] - prefix[start];
      taken += length;
    }
    mean = sum / static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  const auto at = [&](double q) {
    const double position = q * static_cast<double>(resamples - 1);
    const auto low = static_cast<std::size_t>(position);
    const std::size_t high = std::min(low + 1, resamples - 1);
    return means[low] + (position - static_cast<double>(low)) * (means[high] - means[low]);
  };
  return {at((1 - confidence) / 2), at((1 + confidence) / 2)};
}

}  // namespace ng
