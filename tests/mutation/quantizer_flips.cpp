// SPDX-License-Identifier: Apache-2.0
//
// Every choice of a quantizer, flipped before the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "answers.hpp"
#include "flips.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng_mutation {
namespace {

/// Names of an enum, one of them replaced by what it takes as arguments.
template <ng::NamedEnum E>
std::vector<std::string> values_of(const std::string& name = "", const std::vector<std::string>& arguments = {}) {
  std::vector<std::string> values;
  for (const std::string& value : ng::names_of<E>()) {
    if (value != name) {
      values.push_back(value);
      continue;
    }
    for (const std::string& argument : arguments) values.push_back(value + argument);
  }
  return values;
}

/// "before" + each name + "after".
template <ng::NamedEnum E>
std::vector<std::string> within(const std::string& before, const std::string& after) {
  std::vector<std::string> values;
  for (const std::string& name : ng::names_of<E>()) values.push_back(before + name + after);
  return values;
}

std::optional<ng::QuantizerSpec> changed(const std::string& base, const std::string& key, const std::string& value) {
  try {
    ng::QuantizerSpec spec = ng::parse_quantizer(base);
    ng::set_choice(spec, key, value);
    ng::check_quantizer(spec);
    return spec;
  } catch (const ng::UserError&) {
    return std::nullopt;
  }
}

/// Pairs that are the same thing under two names, wherever both may stand; that they are is asserted (no difference)
/// and said in README.md.
bool are_equivalent(const Axis& axis, const std::string& a, const std::string& b) {
  static const std::pair<const char*, std::pair<const char*, const char*>> pairs[] = {
      {"rule", {"te_v2_13", "nvfp4_paper"}},
      {"rule", {"absmax_pow2", "msamp_pow2"}},
      {"nan", {"quiet", "zero"}},
      {"nan", {"cuda", "largest"}},
  };
  return std::any_of(std::begin(pairs), std::end(pairs), [&](const auto& p) {
    return axis.choice == p.first &&
           ((a == p.second.first && b == p.second.second) || (b == p.second.first && a == p.second.second));
  });
}

void flip_axis(const Axis& axis, std::vector<Flip>& flips) {
  const std::vector<Probe>& probes = axis.large ? large_probes() : axis.special ? special_probes() : finite_probes();
  std::map<std::pair<std::string, std::string>, std::vector<Answer>> program, oracle;
  std::map<std::pair<std::string, std::string>, bool> valid;
  for (const std::string& base : axis.bases) {
    for (const std::string& value : axis.values) {
      const auto spec = changed(base, axis.key, value);
      valid[{base, value}] = spec.has_value();
      if (!spec) continue;
      program[{base, value}] = program_answers(*spec, probes);
      oracle[{base, value}] = oracle_answers(*spec, probes);
      EXPECT_EQ(differences(program[{base, value}], oracle[{base, value}]), 0u)
          << base << "," << axis.key << "=" << value << ": the program and its judge differ unflipped";
    }
  }
  for (const std::string& from : axis.values) {
    EXPECT_TRUE(std::any_of(axis.bases.begin(), axis.bases.end(),
                            [&](const auto& base) {
                              return valid[{base, from}];
                            }))
        << axis.choice << " " << from << ": no quantizer here takes it";
    Flip refused{axis.choice, from, "", "", 0, 0, Outcome::refused};
    std::vector<Flip> row;
    for (const std::string& to : axis.values) {
      if (to == from) continue;
      Flip flip{axis.choice, from, to, "oracle", 0, 0, Outcome::refused};
      for (const std::string& base : axis.bases) {
        if (!valid[{base, from}] || !valid[{base, to}]) continue;
        flip.outcome = Outcome::seen;
        flip.judge += " " + base;
        flip.compared += size_of(oracle[{base, from}]);
        flip.differ += differences(program[{base, to}], oracle[{base, from}]);
      }
      if (flip.outcome == Outcome::refused) {
        refused.to += (refused.to.empty() ? "" : " ") + to;
        continue;
      }
      if (are_equivalent(axis, from, to)) flip.outcome = Outcome::equivalent;
      row.push_back(flip);
    }
    if (axis.only_closest) {
      row = {
          *std::min_element(row.begin(), row.end(), [](const Flip& a, const Flip& b) { return a.differ < b.differ; })};
    }
    if (!refused.to.empty()) row.push_back(refused);
    flips.insert(flips.end(), row.begin(), row.end());
  }
}

}  // namespace

const std::vector<Axis>& quantizer_axes() {
  static const std::vector<Axis> axes = [] {
    std::vector<std::string> elements = ng::element_format_names();
    std::erase_if(elements, [](const std::string& name) { return !changed("e4m3", "element", name).has_value(); });
    std::vector<Axis> all;
    all.push_back({"element", "element", elements, {"e4m3"}, false, false, true});
    all.push_back({"tile",
                   "tile",
                   {"1x32", "1x16", "16x16", "32x32", "1x128", "128x128", "0x0", "1x0", "0x1", "3x7"},
                   {"mxfp4", "nvfp4", "fp8_1x128"},
                   false,
                   true,
                   true});
    all.push_back({"scale format", "scale", values_of<ng::ScaleFormat>(), {"mxfp4", "nvfp4", "fp8_1x128", "e4m3"}});
    all.push_back({"rule",
                   "rule",
                   values_of<ng::ScaleRule>("four_over_six", {":mae:448", ":mse:448", ":mae:256", ":mse:256"}),
                   {"mxfp4", "mxfp8_e4m3", "mxint8", "nvfp4", "nvfp4_2d", "fp8_1x128", "fp4_token", "e4m3"}});
    all.push_back({"rounding",
                   "rounding",
                   values_of<ng::Rounding>("stochastic", {":8", ":16", ":32"}),
                   {"mxfp4", "mxfp8_e4m3", "nvfp4", "e5m2"}});
    all.push_back({"overflow", "overflow", values_of<ng::Overflow>(), {"mxfp8_e4m3", "mxfp8_e5m2", "e4m3"}, true});
    all.push_back({"nan",
                   "nan",
                   values_of<ng::NanChoice>(),
                   {"e2m1", "e3m2", "fp4_token", "nvfp4", "e4m3", "e5m2", "fp8_tensor", "e4m3fnuz"},
                   true});
    all.push_back({"zero sign", "zero_sign", values_of<ng::ZeroSign>(), {"mxfp4", "nvfp4", "e4m3", "fp8_1x128"}});
    all.push_back({"application", "application", values_of<ng::ScaleApplication>(), {"fp8_1x128", "fp4_token"}});
    all.push_back({"amax floor", "floor", {"0", "1e-10", "1e-4"}, {"fp8_1x128", "fp4_token"}});
    all.push_back({"infinite scale", "inf_scale", {"0xFF", "0xFE"}, {"mxfp4", "mxfp8_e5m2"}, true});
    all.push_back({"tensor scope", "tensor_scope", values_of<ng::TensorScope>(), {"nvfp4"}});
    all.push_back({"hadamard size",
                   "hadamard",
                   {"none", "2:none:bf16", "4:none:bf16", "8:none:bf16", "16:none:bf16", "32:none:bf16", "64:none:bf16",
                    "128:none:bf16"},
                   {"nvfp4"}});
    all.push_back({"hadamard signs", "hadamard", within<ng::HadamardSigns>("16:", ":bf16"), {"nvfp4", "mxfp4"}});
    all.push_back({"hadamard result", "hadamard", within<ng::HadamardResult>("16:te_fixed:", ""), {"nvfp4", "mxfp4"}});
    all.push_back({"hadamard order", "hadamard", within<ng::HadamardOrder>("32:seeded:f32:", ""), {"nvfp4", "mxfp4"}});
    all.push_back({"outlier quantile", "outlier", {"none", "0.9:row", "0.97:row", "0.99:row"}, {"fp4_token", "mxfp4"}});
    all.push_back({"outlier scope", "outlier", within<ng::OutlierScope>("0.95:", ""), {"fp4_token", "mxfp4"}});
    all.push_back(
        {"outlier residual", "outlier", within<ng::OutlierResidual>("0.95:row:", ""), {"fp4_token", "mxfp4"}});
    all.push_back({"decode order", "decode", values_of<ng::DecodeOrder>(), {"nvfp4", "nvfp4_2d"}});
    return all;
  }();
  return axes;
}

std::vector<Flip> quantizer_flips() {
  std::vector<Flip> flips;
  for (const Axis& axis : quantizer_axes()) flip_axis(axis, flips);
  return flips;
}

std::string table(const std::vector<Flip>& flips) {
  std::string text = "choice\tfrom\tto\tjudge\tcompared\tdiffer\n";
  for (const Flip& f : flips) {
    text += f.choice + "\t" + f.from + "\t" + f.to + "\t" + f.judge + "\t";
    if (f.outcome == Outcome::refused) {
      text += "-\trefused\n";
    } else if (f.outcome == Outcome::equivalent) {
      text += std::to_string(f.compared) + "\tequivalent\n";
    } else {
      text += std::to_string(f.compared) + "\t" + std::to_string(f.differ) + "\n";
    }
  }
  return text;
}

}  // namespace ng_mutation
