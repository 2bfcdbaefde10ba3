// SPDX-License-Identifier: Apache-2.0
//
// What a wrong output looks like as a whole: the expected one moved, turned, permuted, negated, scaled, empty.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "parts.hpp"

namespace ng::validate {
namespace {

constexpr double kLikely = 0.9;

class Recognition {
 public:
  Recognition(const Part& expected, const Part& got)
      : e_(expected), g_(got), n_(static_cast<std::int64_t>(expected.bits.size())) {
    std::int64_t equal = 0;
    for (std::int64_t i = 0; i < n_; ++i) equal += want(i) == is(i) ? 1 : 0;
    base_ = share(equal, n_);
  }

  std::vector<Finding> run() {
    if (n_ < 2) return {};
    constants();
    negated();
    if (e_.name != "scales") {
      if (e_.rows == e_.cols)
        moved("is the expected one transposed", [&](std::int64_t r, std::int64_t c) { return at(c, r); });
      moved("has its rows in reverse order", [&](std::int64_t r, std::int64_t c) { return at(e_.rows - 1 - r, c); });
      moved("has its columns in reverse order", [&](std::int64_t r, std::int64_t c) { return at(r, e_.cols - 1 - c); });
      moved("has the elements of each pair swapped (nibble order)",
            [&](std::int64_t r, std::int64_t c) { return at(r, c ^ 1); });
    }
    shifts();
    if (e_.cols % 2 == 0)
      moved("has even and odd columns apart (first all even ones)",
            [&](std::int64_t r, std::int64_t c) { return at(r, c < e_.cols / 2 ? 2 * c : 2 * c - e_.cols + 1); });
    if (found_.empty() && base_ < kLikely) permutations();
    if (base_ < kLikely) scaled();
    return std::move(found_);
  }

 private:
  std::uint32_t want(std::int64_t i) const { return e_.bits[static_cast<std::size_t>(i)]; }
  std::uint32_t is(std::int64_t i) const { return g_.bits[static_cast<std::size_t>(i)]; }
  static double share(std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  }
  /// Index of an expected element, -1 outside.
  std::int64_t at(std::int64_t r, std::int64_t c) const {
    return r < 0 || c < 0 || r >= e_.rows || c >= e_.cols ? -1 : r * e_.cols + c;
  }
  bool likely(double s) const { return s >= kLikely && s > base_ + (1.0 - base_) / 2; }

  /// Element (r, c) came from expected element from(r, c); those that came from outside are not counted.
  void moved(const std::string& text, const std::function<std::int64_t(std::int64_t, std::int64_t)>& from) {
    const double least = std::max(kLikely, base_ + (1.0 - base_) / 2);
    const std::int64_t allowed = static_cast<std::int64_t>((1.0 - least) * static_cast<double>(n_)) + 1;
    std::int64_t same = 0, counted = 0;
    for (std::int64_t r = 0; r < e_.rows; ++r)
      for (std::int64_t c = 0; c < e_.cols; ++c) {
        const std::int64_t source = from(r, c);
        if (source < 0) continue;
        ++counted;
        same += want(source) == is(r * e_.cols + c) ? 1 : 0;
        if (counted - same > allowed) return;  // no longer likely
      }
    if (counted * 2 >= n_ && likely(share(same, counted))) found_.push_back({e_.name, text, share(same, counted)});
  }

  void shifts() {
    std::vector<std::int64_t> steps = {1, 2, 3, 4, 8, 16, 32, 64, 128};
    for (const std::int64_t step : steps)
      for (const std::int64_t d : {step, -step}) {
        if (step < e_.cols)
          moved(fmt::format("is shifted by {} column{}", d, step == 1 ? "" : "s"),
                [&](std::int64_t r, std::int64_t c) { return at(r, c - d); });
        if (step < e_.rows)
          moved(fmt::format("is shifted by {} row{}", d, step == 1 ? "" : "s"),
                [&](std::int64_t r, std::int64_t c) { return at(r - d, c); });
      }
  }

  void constants() {
    const std::uint32_t first = is(0);
    if (std::all_of(g_.bits.begin(), g_.bits.end(), [&](std::uint32_t b) { return b == first; }) && base_ < 1.0) {
      const float value = value_of(e_.format, first);
      found_.push_back({e_.name, value == 0.0f ? "is all zeros" : fmt::format("is {} everywhere", value), 1.0});
    }
  }

  void negated() {
    const ElementFormat f = format_of(e_.format);
    if (sign_mask(f) == 0) return;
    std::int64_t same = 0;
    for (std::int64_t i = 0; i < n_; ++i) same += (want(i) ^ sign_mask(f)) == is(i) ? 1 : 0;
    if (likely(share(same, n_))) found_.push_back({e_.name, "has every sign inverted", share(same, n_)});
    same = 0;
    for (std::int64_t i = 0; i < n_; ++i) same += (want(i) & ~sign_mask(f)) == is(i) ? 1 : 0;
    if (likely(share(same, n_))) found_.push_back({e_.name, "has lost every sign", share(same, n_)});
  }

  /// The same elements in another order inside rows, or inside groups of a row.
  void permutations() {
    for (std::int64_t group : {std::int64_t{4}, std::int64_t{8}, std::int64_t{16}, std::int64_t{32}, std::int64_t{64},
                               std::int64_t{128}, e_.cols}) {
      if (group > e_.cols || e_.cols % group != 0 || base_ == 1.0) continue;
      std::int64_t same = 0, groups = 0;
      for (std::int64_t i = 0; i < n_; i += group, ++groups) {
        std::vector<std::uint32_t> a(e_.bits.begin() + i, e_.bits.begin() + i + group);
        std::vector<std::uint32_t> b(g_.bits.begin() + i, g_.bits.begin() + i + group);
        std::sort(a.begin(), a.end());
        std::sort(b.begin(), b.end());
        same += a == b ? 1 : 0;
      }
      if (!likely(share(same, groups))) continue;
      found_.push_back({e_.name,
                        group == e_.cols
                            ? std::string("holds the elements of each row in another order")
                            : fmt::format("holds the elements of each group of {} in another order", group),
                        share(same, groups)});
      return;
    }
  }

  /// One factor between all numbers.
  void scaled() {
    std::map<double, std::int64_t> factors;
    std::int64_t counted = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      const double a = value_of(e_.format, want(i)), b = value_of(e_.format, is(i));
      if (a == 0 || !std::isfinite(a) || !std::isfinite(b)) continue;
      ++counted;
      ++factors[b / a];
    }
    for (const auto& [factor, count] : factors)
      if (factor != 1.0 && factor != 0.0 && std::fabs(factor) != 1.0 && likely(share(count, counted)) && counted >= 2)
        found_.push_back({e_.name, fmt::format("is the expected one times {:g}", factor), share(count, counted)});
  }

  const Part& e_;
  const Part& g_;
  std::int64_t n_;
  double base_ = 0.0;
  std::vector<Finding> found_;
};

}  // namespace

std::vector<Finding> recognise(const Part& expected, const Part& got) {
  return Recognition(expected, got).run();
}

}  // namespace ng::validate
