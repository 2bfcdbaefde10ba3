// SPDX-License-Identifier: Apache-2.0
//
// The HTML report. Every text that comes from outside goes through svg::escape().
#include "narrowgauge/study/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "narrowgauge/study/picture.hpp"
#include "picture_svg.hpp"
#include "report_style.hpp"

namespace ng {

namespace {

using svg::escape;

// A number, or a dash where there is none. The minus is the true sign, which browsers do not break after.
std::string number(double value, const char* format) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value < 0 ? "−∞" : "∞";
  std::string text = fmt::format(fmt::runtime(format), value);
  return text.front() == '-' ? "−" + text.substr(1) : text;
}

std::string interval(const Interval& i) {
  return std::isnan(i.low) ? "–" : fmt::format("{} … {}", number(i.low, "{:+.4f}"), number(i.high, "{:+.4f}"));
}

std::string th(std::string_view text, bool words = false) {
  return fmt::format("<th{}>{}</th>", words ? " class=\"words\"" : "", escape(text));
}
std::string td(std::string_view text, std::string_view kind = "") {
  return kind.empty() ? fmt::format("<td>{}</td>", escape(text))
                      : fmt::format("<td class=\"{}\">{}</td>", kind, escape(text));
}

std::string paragraphs(std::string_view text) {
  std::string out = "<p>";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && i + 1 < text.size() && text[i + 1] == '\n') {
      out += "</p>\n<p>";
      ++i;
    } else {
      out += escape(text.substr(i, 1));
    }
  }
  return out + "</p>\n";
}

std::string verdict_section(const StudyResult& study, const Judgement& j) {
  std::string out = "<h2>Verdict</h2>\n<div class=\"wide\"><table>\n<tr>" + th("recipe") + th("verdict", true);
  for (const auto& [seed, loss] : j.baseline_losses) out += th(fmt::format("held-out, seed {}", seed));
  out += th("difference") + th("in %") + th(fmt::format("interval, {:g} %", 100 * study.options.confidence)) +
         th("interval, all arms") + th("p (Holm)") + "</tr>\n<tr>" + td(j.baseline) + td("baseline", "words");
  for (const auto& [seed, loss] : j.baseline_losses) out += td(number(loss, "{:.4f}"));
  out += td("0") + td("0") + td("") + td("") + td("") + "</tr>\n";
  for (const ArmJudgement& arm : j.arms) {
    out += "<tr>" + td(arm.arm) +
           td(verdict_name(arm.verdict), arm.verdict == Verdict::cannot_be_told ? "words" : "words strong");
    for (const SeedPair& pair : arm.pairs) {
      out += td(std::isfinite(pair.loss) || pair.status == "done" ? number(pair.loss, "{:.4f}") : pair.status);
    }
    const bool test = arm.degrees > 0;
    out += td(number(arm.mean, "{:+.4f}")) + td(number(arm.percent, "{:+.2f}")) +
           td(test ? interval(arm.interval) : "–") + td(test ? interval(arm.family_interval) : "–") +
           td(test ? number(arm.p_holm, "{:.2g}") : "–") + "</tr>\n";
  }
  out += "</table></div>\n<p>Losses in nats per token, on held-out text, with each recipe's own forward.";
  if (std::isfinite(j.baseline_range)) {
    out += fmt::format(" Changing only the seed moved {} by {:.4f} (standard deviation {:.4f}).", escape(j.baseline),
                       j.baseline_range, j.baseline_sd);
  }
  if (std::isfinite(j.pooled_sd)) {
    out += fmt::format(" Standard deviation of a paired difference, pooled over arms: {:.4f}, {:g} degrees of freedom.",
                       j.pooled_sd, j.pooled_degrees);
  }
  out += "</p>\n";
  for (const ArmJudgement& arm : j.arms) {
    out += fmt::format("<p><b>{}: {}.</b> {}</p>\n", escape(arm.arm), verdict_name(arm.verdict), escape(arm.why));
  }
  if (!j.warnings.empty()) {
    out += "<div class=\"note\">\n";
    for (const std::string& warning : j.warnings) out += "<p>" + escape(warning) + "</p>\n";
    out += "</div>\n";
  }
  return out;
}

std::string matched_section(const Judgement& j) {
  std::string out = "<h2>By seed</h2>\n<div class=\"wide\"><table>\n<tr>" + th("recipe") + th("seed") +
                    th("held-out difference") + th("held-out loss, BF16 forward") +
                    th("training difference, equal steps") + th("its interval over steps") + th("steps") + "</tr>\n";
  for (const ArmJudgement& arm : j.arms) {
    for (const SeedPair& pair : arm.pairs) {
      out += "<tr>" + td(arm.arm) + td(std::to_string(pair.seed)) +
             td(std::isnan(pair.difference) ? pair.status : number(pair.difference, "{:+.4f}")) +
             td(number(pair.loss_bf16, "{:.4f}")) + td(number(pair.matched_mean, "{:+.4f}")) +
             td(interval(pair.matched_interval)) + td(std::to_string(pair.matched_steps)) + "</tr>\n";
    }
  }
  return out +
         "</table></div>\n<p>The last three columns cover the last part of training. Their interval holds for "
         "this pair of runs only; it knows nothing of the chance between seeds.</p>\n";
}

std::string picture_section(const StudyResult& study, const Judgement& j) {
  std::string out;
  int count = 0;
  for (const Picture& picture : make_pictures(study, j)) {
    out += fmt::format(
        "<figure id=\"{}\">\n<div class=\"wide\">{}</div>\n<figcaption><b>{}. {}.</b> {}</figcaption>\n"
        "</figure>\n",
        picture.name, picture.svg, ++count, escape(picture.title), escape(picture.caption));
  }
  return out.empty() ? "" : "<h2>Pictures</h2>\n" + out;
}

// OPERAND/GEMM of a site layer.L/LINEAR/OPERAND/GEMM, or the whole name for other sites.
std::string operand_of(const std::string& site) {
  const std::size_t first = site.find('/');
  const std::size_t second = first == std::string::npos ? first : site.find('/', first + 1);
  return second == std::string::npos ? site : site.substr(second + 1);
}

std::string error_section(const StudyResult& study) {
  if (study.errors.empty()) return "<h2>Errors</h2>\n<p>No error was recorded.</p>\n";
  struct Mean {
    double sum = 0;
    std::size_t count = 0;
  };
  std::vector<std::string> arms, measures;
  std::set<std::string> operands;
  std::map<std::tuple<std::string, std::string, std::string>, Mean> table;
  const auto once = [](std::vector<std::string>& list, const std::string& name) {
    if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
  };
  for (const ErrorSample& e : study.errors) {
    once(arms, e.arm);
    once(measures, e.measure);
    operands.insert(operand_of(e.site));
    Mean& mean = table[{e.arm, operand_of(e.site), e.measure}];
    for (const double v : e.value) {
      if (!std::isfinite(v)) continue;
      mean.sum += v;
      ++mean.count;
    }
  }
  std::string out = "<h2>Errors</h2>\n<div class=\"wide\"><table>\n<tr>" + th("operand") + th("recipe", true);
  for (const std::string& measure : measures) out += th(measure);
  out += "</tr>\n";
  for (const std::string& operand : operands) {
    for (const std::string& arm : arms) {
      std::string cells;
      bool any = false;
      for (const std::string& measure : measures) {
        const auto at = table.find({arm, operand, measure});
        const bool there = at != table.end() && at->second.count > 0;
        any = any || there;
        cells += td(there ? number(at->second.sum / static_cast<double>(at->second.count), "{:.4g}") : "–");
      }
      if (any) out += "<tr>" + td(operand) + td(arm, "words") + cells + "</tr>\n";
    }
  }
  return out +
         "</table></div>\n<p>Means over layers, linears, records and seeds of all finite values; – where nothing "
         "was recorded.</p>\n";
}

std::string flop_section(const StudyResult& study) {
  if (study.flop_shares.empty()) return {};
  std::vector<std::string> arms, formats;
  std::map<std::pair<std::string, std::string>, double> shares;
  for (const FlopShare& s : study.flop_shares) {
    if (std::find(arms.begin(), arms.end(), s.arm) == arms.end()) arms.push_back(s.arm);
    if (std::find(formats.begin(), formats.end(), s.format) == formats.end()) formats.push_back(s.format);
    shares[{s.arm, s.format}] += s.share;
  }
  std::string out = "<h2>GEMM FLOPs by format</h2>\n<div class=\"wide\"><table>\n<tr>" + th("recipe");
  for (const std::string& format : formats) out += th(format);
  out += "</tr>\n";
  for (const std::string& arm : arms) {
    out += "<tr>" + td(arm);
    for (const std::string& format : formats) {
      const auto at = shares.find({arm, format});
      out += td(at == shares.end() ? "–" : number(100 * at->second, "{:.1f} %"));
    }
    out += "</tr>\n";
  }
  return out +
         "</table></div>\n<p>What really ran, of all multiplications in matrix products of a training step.</p>\n";
}

// "layer.3/fc1/fprop" -> layer 3 and "fc1/fprop"; sites outside of layers are their own.
std::pair<std::int64_t, std::string> layer_and_product(const std::string& site) {
  constexpr std::string_view kPrefix = "layer.";
  const std::size_t slash = site.find('/');
  if (!site.starts_with(kPrefix) || slash == std::string::npos) return {-1, site};
  return {std::strtoll(site.c_str() + kPrefix.size(), nullptr, 10), site.substr(slash + 1)};
}

// "0–3, 7"
std::string layer_list(const std::vector<std::int64_t>& layers) {
  std::string out;
  for (std::size_t i = 0; i < layers.size();) {
    std::size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    if (layers[i] >= 0) {
      out += fmt::format("{}{}", out.empty() ? "" : ", ", layers[i]);
      if (end - i > 1) out += fmt::format("–{}", layers[end - 1]);
    }
    i = end;
  }
  return out.empty() ? "–" : out;
}

// Products that an arm executed in the same way in several layers are one row.
std::string gemm_section(const StudyResult& study) {
  if (study.gemms.empty()) return {};
  struct Row {
    std::string arm, product;
    GemmRow gemm;
    std::vector<std::int64_t> layers;
    double share = 0;
  };
  std::vector<Row> rows;
  std::map<std::vector<std::string>, std::size_t> known;
  for (const ExecutedGemm& e : study.gemms) {
    const auto [layer, product] = layer_and_product(e.gemm.site);
    const GemmRow& g = e.gemm;
    const auto [at, fresh] = known.try_emplace({e.arm, product, g.a_scales, g.b_scales, g.a_format, g.b_format,
                                                g.carrier, g.arithmetic, g.accumulate, g.output, g.algorithm},
                                               rows.size());
    if (fresh) rows.push_back({e.arm, product, g, {}, 0});
    rows[at->second].layers.push_back(layer);
    rows[at->second].share += g.flops_share;
  }
  std::string out = "<h2>What each product executed</h2>\n";
  for (std::size_t begin = 0; begin < rows.size();) {
    std::size_t end = begin;
    while (end < rows.size() && rows[end].arm == rows[begin].arm) ++end;
    out += fmt::format("<details>\n<summary>{}</summary>\n<div class=\"wide\"><table>\n<tr>", escape(rows[begin].arm)) +
           th("product") + th("layers", true) + th("first operand", true) + th("second operand", true) +
           th("carrier", true) + th("arithmetic", true) + th("accumulation", true) + th("output", true) +
           th("algorithm", true) + th("FLOPs") + "</tr>\n";
    for (; begin < end; ++begin) {
      const Row& row = rows[begin];
      const auto operand = [](const std::string& format, const std::string& scales) {
        return scales == "none" ? format : scales;
      };
      out += "<tr>" + td(row.product) + td(layer_list(row.layers), "words") +
             td(operand(row.gemm.a_format, row.gemm.a_scales), "words") +
             td(operand(row.gemm.b_format, row.gemm.b_scales), "words") + td(row.gemm.carrier, "words") +
             td(row.gemm.arithmetic, "words") + td(row.gemm.accumulate, "words") + td(row.gemm.output, "words") +
             td(row.gemm.algorithm, "words") + td(number(100 * row.share, "{:.1f} %")) + "</tr>\n";
    }
    out += "</table></div>\n</details>\n";
  }
  return out +
         "<p>fprop: activation × weight; dgrad: output gradient × weight; wgrad: output gradient × activation. FLOPs: "
         "share of all products of a step.</p>\n";
}

std::string run_section(const StudyResult& study) {
  std::string out = "<h2>Runs</h2>\n<div class=\"wide\"><table>\n<tr>" + th("recipe") + th("seed") + th("run", true) +
                    th("status", true) + th("last step") + th("tokens") + th("seconds") + th("tokens/s") + "</tr>\n";
  for (const RunCurve& run : study.runs) {
    out += "<tr>" + td(run.arm) + td(std::to_string(run.seed)) + td(run.run_id, "words") + td(run.status, "words") +
           td(run.step.empty() ? "–" : number(run.step.back(), "{:.0f}")) + td(number(run.tokens, "{:.0f}")) +
           td(number(run.seconds, "{:.1f}")) + td(run.seconds > 0 ? number(run.tokens / run.seconds, "{:.0f}") : "–") +
           "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string making_section(const StudyResult& study) {
  std::set<std::string> models, data;
  for (const RunCurve& run : study.runs) {
    models.insert(run.model);
    data.insert(run.data_digest);
  }
  std::string out = "<h2>How it was made</h2>\n<div class=\"wide\"><table>\n";
  const auto row = [&](std::string_view name, const std::string& value) {
    if (!value.empty())
      out += "<tr>" + td(name) + "<td class=\"sentence\"><code>" + escape(value) + "</code></td></tr>\n";
  };
  row("command", study.command);
  row("git revision", study.git_revision);
  row("machine", study.machine);
  for (const std::string& model : models) row("model", model);
  for (const std::string& digest : data) row("data digest", digest);
  out += "</table></div>\n";
  for (const std::string& note : study.notes) out += paragraphs(note);
  const JudgementOptions& o = study.options;
  out += fmt::format(
      "<p>How arms are judged. Held-out loss at the end, paired by seed; Student t on the paired differences, with the "
      "larger of the arm's own spread and the spread pooled over all arms; Holm's correction over all arms at {:g} %. "
      "Worse or better also needs the same sign in every seed, the training loss at equal steps on the same side in "
      "every seed (block bootstrap over the last {:g} % of the steps, {} resamples) and, with fewer than four seeds, a "
      "difference larger than the baseline's own seed spread. Same within tolerance needs an interval inside ±{:g} "
      "nats. Everything else cannot be told.</p>\n",
      100 * o.confidence, 100 * o.window_fraction, o.resamples, o.tolerance);
  return out;
}

}  // namespace

std::string html_report(const StudyResult& study) {
  const Judgement j = judge(study);
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n"
      "<h1>{0}</h1>\n",
      escape(study.title), kReportStyle);
  if (!study.question.empty()) out += "<h2>Question</h2>\n" + paragraphs(study.question);
  if (!study.prediction.empty()) out += "<h2>Prediction, written before the runs</h2>\n" + paragraphs(study.prediction);
  out += verdict_section(study, j) + picture_section(study, j) + matched_section(j) + error_section(study) +
         flop_section(study) + gemm_section(study) + run_section(study) + making_section(study);
  return out + "</body>\n</html>\n";
}

}  // namespace ng
