// SPDX-License-Identifier: Apache-2.0
//
// A verdict as text and as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/validate/verdict.hpp"

namespace ng::validate {
namespace {

constexpr std::size_t kListedSets = 6;

std::string hex(std::uint32_t bits, int width) {
  return fmt::format("0x{:0{}x}", bits, (width + 3) / 4);
}

// Distances beyond 8 steps share a line with their neighbours of the same power of two.
std::string histogram(const std::map<std::int64_t, std::int64_t>& distances) {
  std::map<std::int64_t, std::int64_t> bins;
  for (const auto& [d, count] : distances) {
    const std::int64_t magnitude = d < 0 ? -d : d;
    std::int64_t bin = magnitude;
    if (magnitude > 8)
      for (bin = 16; bin < magnitude;) bin *= 2;
    bins[d < 0 ? -bin : bin] += count;
  }
  std::string text;
  for (const auto& [bin, count] : bins) {
    const std::int64_t magnitude = bin < 0 ? -bin : bin;
    const std::string name = bin == 0 ? std::string("sign or NaN bits only")
                             : magnitude <= 8
                                 ? fmt::format("{:+}", bin)
                                 : fmt::format("{}{}..{}", bin < 0 ? '-' : '+', magnitude / 2 + 1, magnitude);
    text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", name, count);
  }
  return text;
}

std::string part_text(const PartVerdict& p) {
  if (p.differing == 0)
    return fmt::format("  {}: {} compared, all equal{}\n", p.name, p.compared,
                       p.ignored != 0 ? fmt::format(" ({} mean nothing)", p.ignored) : "");
  std::string text = fmt::format("  {}: {} of {} differ{}\n", p.name, p.differing, p.compared,
                                 p.ignored != 0 ? fmt::format(" ({} mean nothing)", p.ignored) : "");
  for (const Difference& d : p.first)
    text += fmt::format("    [{}, {}]{} expected {} ({}) got {} ({})\n", d.row, d.col,
                        d.input ? fmt::format(" input {}", *d.input) : "", hex(d.expected, p.bits), d.expected_value,
                        hex(d.got, p.bits), d.got_value);
  text += fmt::format("    distance in {}: {}\n", p.unit, histogram(p.distances));
  text += fmt::format("    larger in magnitude: {}, smaller: {}, bias {:+.3g}\n", p.larger, p.smaller, p.bias);
  return text;
}

std::string explanation_text(const Explanation& e) {
  const SearchResult& s = e.search;
  std::string text;
  for (std::size_t i = 0; i < std::min(kListedSets, s.sets.size()); ++i)
    text += fmt::format("  {} {}\n", i == 0 ? "equal under" : "or under   ", text_of(e.choices, s.sets[i]));
  if (s.sets.size() > kListedSets)
    text += fmt::format("  or under {} other sets of that size\n", s.sets.size() - kListedSets);
  if (s.sets.empty())
    text +=
        fmt::format("  no set of up to three choices explains it{}; the best, {}, leaves {} of {} different\n",
                    s.complete ? "" : " (not all were tried)", text_of(e.choices, s.best), s.best_differing, s.items);
  if (!s.singles.empty()) text += "  alone, of the differences:\n";
  for (const Explained& x : s.singles)
    text += fmt::format("    {} explains {} of {}{}\n", text_of(e.choices, {x.change}), x.fixed, s.differing,
                        x.broken != 0 ? fmt::format(", breaks {}", x.broken) : "");
  return text;
}

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(fmt::format("{}", value));
}

Json changes_json(const std::vector<Choice>& choices, const ChangeSet& set) {
  Json json = Json::object();
  for (const Change& change : set) json[choices[change.choice].name] = choices[change.choice].values[change.value];
  return json;
}

}  // namespace

std::string text_of(const Verdict& v, bool all_power) {
  std::string text =
      fmt::format("{}: {} {}{}: {}\n", v.name, v.operation, v.spec,
                  v.made_by.empty() ? "" : fmt::format(" by {}", v.made_by), v.equal() ? "equal" : "different");
  for (const std::string& note : v.notes) text += "  " + note + "\n";
  for (const PartVerdict& part : v.parts) text += part_text(part);
  for (const Finding& f : v.findings)
    text += fmt::format("  {}: the output {} ({:.4g} % of the elements fit)\n", f.part, f.text, 100 * f.share);
  if (v.explanation) text += explanation_text(*v.explanation);
  for (const PowerRow& row : v.power) {
    if (row.not_applicable.empty() && row.changed == 0)
      text += fmt::format("  warning: {} would have passed on these inputs\n", row.wrong);
    else if (all_power)
      text += row.not_applicable.empty() ? fmt::format("  {} would change {} elements\n", row.wrong, row.changed)
                                         : fmt::format("  {}: not tried, {}\n", row.wrong, row.not_applicable);
  }
  for (const BlindChoice& blind : v.blind)
    text += fmt::format("  these inputs cannot tell {} from {}\n", blind.choice, fmt::join(blind.values, ", "));
  return text;
}

Json json_of(const Verdict& v) {
  Json json = Json::object(
      {{"name", v.name}, {"operation", v.operation}, {"spec", v.spec}, {"made_by", v.made_by}, {"equal", v.equal()}});
  json["notes"] = Json(Json::Array{});
  for (const std::string& note : v.notes) json["notes"].push_back(note);
  json["parts"] = Json(Json::Array{});
  for (const PartVerdict& p : v.parts) {
    Json part = Json::object({{"name", p.name},
                              {"unit", p.unit},
                              {"rows", p.rows},
                              {"cols", p.cols},
                              {"compared", p.compared},
                              {"differing", p.differing},
                              {"ignored", p.ignored},
                              {"larger", p.larger},
                              {"smaller", p.smaller},
                              {"bias", number(p.bias)}});
    part["first"] = Json(Json::Array{});
    for (const Difference& d : p.first) {
      Json one = Json::object({{"row", d.row},
                               {"col", d.col},
                               {"expected", d.expected},
                               {"got", d.got},
                               {"expected_value", number(d.expected_value)},
                               {"got_value", number(d.got_value)}});
      if (d.input) one["input"] = number(*d.input);
      part["first"].push_back(std::move(one));
    }
    part["distances"] = Json::object();
    for (const auto& [d, count] : p.distances) part["distances"][std::to_string(d)] = count;
    json["parts"].push_back(std::move(part));
  }
  json["findings"] = Json(Json::Array{});
  for (const Finding& f : v.findings)
    json["findings"].push_back(Json::object({{"part", f.part}, {"text", f.text}, {"share", f.share}}));
  json["power"] = Json(Json::Array{});
  for (const PowerRow& row : v.power) {
    Json one = Json::object({{"wrong", row.wrong}, {"changed", row.changed}});
    if (!row.not_applicable.empty()) one["not_applicable"] = row.not_applicable;
    json["power"].push_back(std::move(one));
  }
  json["blind"] = Json(Json::Array{});
  for (const BlindChoice& blind : v.blind) {
    Json one = Json::object({{"choice", blind.choice}, {"bug", blind.is_bug}});
    one["values"] = Json(Json::Array{});
    for (const std::string& value : blind.values) one["values"].push_back(value);
    json["blind"].push_back(std::move(one));
  }
  if (!v.explanation) return json;
  const SearchResult& s = v.explanation->search;
  Json explanation = Json::object({{"items", s.items},
                                   {"differing", s.differing},
                                   {"counted", s.counted},
                                   {"evaluations", s.evaluations},
                                   {"complete", s.complete},
                                   {"best", changes_json(v.explanation->choices, s.best)},
                                   {"best_differing", s.best_differing}});
  explanation["sets"] = Json(Json::Array{});
  for (const ChangeSet& set : s.sets) explanation["sets"].push_back(changes_json(v.explanation->choices, set));
  explanation["singles"] = Json(Json::Array{});
  for (const Explained& x : s.singles)
    explanation["singles"].push_back(Json::object(
        {{"change", changes_json(v.explanation->choices, {x.change})}, {"fixed", x.fixed}, {"broken", x.broken}}));
  json["explanation"] = std::move(explanation);
  return json;
}

}  // namespace ng::validate
