// SPDX-License-Identifier: Apache-2.0
//
// Names of sites taken apart for pictures, and the order in which they are shown. Private to this layer.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace ng::picture_sites {

/// Parts of a site layer.L/LINEAR/OPERAND[/GEMM].
struct Site {
  int layer = 0;
  std::string linear, operand, gemm;
};

// layer.L/LINEAR/OPERAND[/GEMM]
inline std::optional<Site> parse_site(const std::string& name) {
  static constexpr std::string_view kPrefix = "layer.";
  if (name.rfind(kPrefix, 0) != 0) return {};
  std::vector<std::string> parts(1);
  for (const char c : name.substr(kPrefix.size())) {
    if (c == '/') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const bool digits = !parts[0].empty() && parts[0].size() < 7 &&
                      std::all_of(parts[0].begin(), parts[0].end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || parts.size() < 3 || parts.size() > 4) return {};
  return Site{std::stoi(parts[0]), parts[1], parts[2], parts.size() == 4 ? parts[3] : ""};
}

// Known names in the order of the dataflow, then others by name.
template <std::size_t N>
std::vector<std::string> ordered(const std::set<std::string>& present, const std::array<const char*, N>& known) {
  std::vector<std::string> out;
  for (const char* name : known) {
    if (present.contains(name)) out.emplace_back(name);
  }
  for (const std::string& name : present) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  }
  return out;
}

inline constexpr std::array<const char*, 13> kLinears = {
    "attn_qkv",  "attn_q",    "attn_q_a", "attn_q_b", "attn_kv_a",  "attn_kv_b", "attn_out",
    "dense_fc1", "dense_fc2", "fc1",      "fc2",      "shared_fc1", "shared_fc2"};
inline constexpr std::array<const char*, 3> kOperands = {"activation", "weight", "grad_output"};
// An operand can be quantized for two products; the picture shows the one that the forward pass, or for a
// gradient the data gradient, uses.
inline constexpr std::array<const char*, 4> kGemms = {"fprop", "dgrad", "wgrad", ""};

/// Mean of values that come one by one.
struct Mean {
  double sum = 0;
  std::size_t count = 0;

  void add(double value) {
    sum += value;
    ++count;
  }
  [[nodiscard]] double value() const { return sum / static_cast<double>(count); }
};

}  // namespace ng::picture_sites
