// SPDX-License-Identifier: Apache-2.0
//
// What the verifier says of a case: part by part (codes, scales, ...), what the whole output looks like, what the test
// could have noticed, and which choices explain it. As text for people and JSON for programs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/validate/choice_search.hpp"

namespace ng::validate {

/// One element that differs. Values are decoded; bits are the code, scale code or FP32 pattern.
struct Difference {
  std::int64_t row = 0;
  std::int64_t col = 0;
  std::optional<float> input;  ///< what the kernel was given there, where there is one such number
  std::uint32_t expected = 0;
  std::uint32_t got = 0;
  float expected_value = 0.0f;
  float got_value = 0.0f;
};

struct PartVerdict {
  std::string name;  ///< codes, scales, tensor_scale, dequantized, result
  std::string unit;  ///< of the distances: "codes" or "units in the last place"
  int bits = 32;     ///< of an element
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t compared = 0;
  std::int64_t differing = 0;
  std::int64_t ignored = 0;  ///< they mean nothing: codes under a NaN scale
  std::vector<Difference> first;
  /// got - expected in steps of the format's own order of numbers, over differing elements; 0: only a sign of zero or a
  /// NaN's bits.
  std::map<std::int64_t, std::int64_t> distances;
  std::int64_t larger = 0;  ///< differing elements whose magnitude is larger than expected
  std::int64_t smaller = 0;
  double bias = 0.0;  ///< sum(|got| - |expected|) / sum|expected| over finite elements: negative is shrinkage
};

/// "the output is the expected one, transposed": `share` of the elements fit.
struct Finding {
  std::string part;
  std::string text;
  double share = 0.0;
};

/// A wrong kernel that the test might meet, and how many compared elements it would have changed; 0: it would pass.
struct PowerRow {
  std::string wrong;
  std::int64_t changed = 0;
  std::string not_applicable;  ///< why it was not tried; "" when it was
};

/// Values of a choice that would have given the expected output too: these inputs cannot tell them from the stated one.
struct BlindChoice {
  std::string choice;
  std::vector<std::string> values;
  bool is_bug = false;
};

struct Explanation {
  std::vector<Choice> choices;
  SearchResult search;
};

struct Verdict {
  std::string name, operation, spec, made_by;
  std::vector<PartVerdict> parts;
  std::vector<std::string> notes;  ///< about shape and layout; each is a difference of its own
  std::vector<Finding> findings;
  std::vector<PowerRow> power;
  std::vector<BlindChoice> blind;  ///< where it was asked for
  std::optional<Explanation> explanation;

  [[nodiscard]] bool equal() const;
};

/// A few lines a case; `all_power`: also the wrong kernels that would have been noticed, and the blind choices by name.
[[nodiscard]] std::string text_of(const Verdict& verdict, bool all_power = false);
[[nodiscard]] Json json_of(const Verdict& verdict);

}  // namespace ng::validate
