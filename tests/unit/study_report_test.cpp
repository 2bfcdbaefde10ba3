// SPDX-License-Identifier: Apache-2.0
//
// Claim: pictures and report are well-formed, self-contained, name every arm and seed, escape foreign text,
// and show diverged runs. All runs here are simulated. Alone:
// build/release/bin/unit_study --gtest_filter='Checker.*:Pictures.*:Report.*'
#include "narrowgauge/study/report.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <random>
#include <regex>
#include <set>
#include <sstream>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/study/picture.hpp"
#include "study_support.hpp"

namespace ng {
namespace {

// What is wrong with the text as XML, or nothing. Knows elements, attributes in double quotes, the five
// entities; `open_elements` need no end tag (HTML).
std::optional<std::string> malformed(const std::string& text, const std::set<std::string>& open_elements = {}) {
  static const std::regex kTag(R"re(^<(/?)([A-Za-z][A-Za-z0-9]*)((?:\s+[A-Za-z][A-Za-z0-9:-]*="[^"<]*")*)\s*(/?)>)re");
  static const std::regex kEntity(R"(^&(amp|lt|gt|quot|#39);)");
  std::vector<std::string> stack;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string near = text.substr(i, 60);
    std::smatch match;
    if (text[i] == '<') {
      const std::size_t end = text.find('>', i);
      if (end == std::string::npos) return "no end of tag at " + near;
      const std::string tag = text.substr(i, end - i + 1);
      // Split by hand: a long attribute would exhaust the stack of std::regex.
      const std::size_t long_value = tag.find("points=\"");
      std::string short_tag = tag;
      if (long_value != std::string::npos) {
        const std::size_t from = long_value + 8, to = tag.find('"', from);
        if (to == std::string::npos) return "open quote at " + near;
        if (tag.substr(from, to - from).find_first_not_of("0123456789.,- ") != std::string::npos) {
          return "points that are no numbers at " + near;
        }
        short_tag = tag.substr(0, from) + tag.substr(to);
      }
      if (!std::regex_search(short_tag, match, kTag)) return "bad tag at " + near;
      if (match[1].length() > 0) {
        if (stack.empty() || stack.back() != match[2]) return "unexpected end at " + near;
        stack.pop_back();
      } else if (match[4].length() == 0 && !open_elements.contains(match[2])) {
        stack.push_back(match[2]);
      }
      i = end;
    } else if (text[i] == '&' && !std::regex_search(near, match, kEntity)) {
      return "bare & at " + near;
    } else if (text[i] == '>') {
      return "bare > at " + near;
    }
  }
  return stack.empty() ? std::nullopt : std::optional("not closed: " + stack.back());
}

std::optional<std::string> malformed_page(const std::string& html) {
  static const std::string kDoctype = "<!DOCTYPE html>\n";
  if (html.rfind(kDoctype, 0) != 0) return "no doctype";
  std::string body = html.substr(kDoctype.size());
  const std::size_t from = body.find("<style>") + 7, to = body.find("</style>");
  body.erase(from, to - from);
  return malformed(body, {"meta"});
}

StudyResult sample() {
  StudyResult study = test::study_of({});
  std::mt19937_64 engine(1);
  study.title = "Simulated";
  study.question = "Does it matter?";
  study.prediction = "It does not.\n\nOr it does.";
  study.baseline = "bf16";
  study.notes = {"simulated numbers"};
  study.machine = "none";
  study.git_revision = "0123abc";
  study.command = "narrowgauge study run";
  const std::vector<std::pair<std::string, double>> arms = {
      {"bf16", 0}, {"mxfp8", 0.001}, {"mxfp4", 0.01}, {"bad", 0.1}};
  for (const auto& [arm, effect] : arms) {
    for (const std::uint64_t seed : {1U, 2U}) {
      RunCurve run = test::make_run(arm, seed, 2.6 + effect + 0.005 * static_cast<double>(seed));
      test::add_training(run, 120, effect, 0.01, engine);
      run.eval_step = {50, 100};
      run.eval_loss = {2.9 + effect, run.eval_loss[0]};
      run.eval_loss_bf16 = run.eval_loss;
      study.runs.push_back(run);
      if (arm == "bf16") continue;
      for (const char* site : {"layer.0/fc1/activation/fprop", "layer.1/fc1/activation/fprop",
                               "layer.0/fc2/weight/fprop", "layer.1/attn_qkv/grad_output/dgrad", "embedding"}) {
        study.errors.push_back({arm, seed, site, "rel_mse", {1, 2}, {0.001 + effect, 0.002 + effect}});
        study.errors.push_back({arm, seed, site, "scale_log2_mean", {1, 2}, {-3, -2.5}});
      }
      for (const std::int64_t layer : {1, 3}) {
        study.routers.push_back({arm, seed, layer, "max_violation", {0, 1, 2}, {0.5, 1.5, 0.25}});
        study.routers.push_back({arm, seed, layer, "router_entropy", {0, 1, 2}, {1.4, 1.2, 1.1}});
        study.routers.push_back({arm, seed, layer, "dropped", {0, 1, 2}, {0, 0, 0}});
      }
    }
    for (const char* layer : {"0", "1", "3"}) {
      GemmRow gemm;
      gemm.site = std::string("layer.") + layer + "/fc1/fprop";
      gemm.a_format = gemm.b_format = "e2m1";
      gemm.a_scales = gemm.b_scales = "mxfp4,rule=<rceil>";
      gemm.carrier = "bf16";
      gemm.flops_share = 0.125;
      study.gemms.push_back({arm, gemm});
    }
    study.flop_shares.push_back({arm, "bf16", 0.25});
    study.flop_shares.push_back({arm, "e2m1", 0.75});
  }
  return study;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

TEST(Checker, SeesWhatIsWrong) {
  EXPECT_FALSE(malformed("<a b=\"1\"><c/>x &amp; y</a>"));
  for (const char* bad :
       {"<a>", "<a></b>", "<a b=1/>", "a & b", "a > b", "<a b=\"<\"/>", "<p points=\"1,nan\"/>", "<a"}) {
    EXPECT_TRUE(malformed(bad)) << bad;
  }
}

TEST(Pictures, WellFormedSelfContainedAndDeterministic) {
  const StudyResult study = sample();
  const std::vector<Picture> pictures = make_pictures(study, judge(study));
  ASSERT_EQ(pictures.size(), 7U);
  for (const Picture& picture : pictures) {
    EXPECT_EQ(malformed(picture.svg).value_or(""), "") << picture.name;
    EXPECT_EQ(count(picture.svg, "http"), 1U) << "only the namespace";
    EXPECT_EQ(count(picture.svg, "nan") + count(picture.svg, "inf"), 0U) << picture.name;
    for (const char* arm : {"mxfp8", "mxfp4", "bad"}) EXPECT_GE(count(picture.svg, arm), 1U) << picture.name << arm;
    EXPECT_NE(picture.caption.find("cannot"), std::string::npos) << "says what cannot be told";
  }
  const std::vector<Picture> again = make_pictures(study, judge(study));
  for (std::size_t i = 0; i < pictures.size(); ++i) EXPECT_EQ(pictures[i].svg, again[i].svg);
}

TEST(Pictures, PairedDifferencesShowEverySeedBandAndVerdict) {
  const StudyResult study = sample();
  const Judgement j = judge(study);
  const Picture picture = picture_paired_differences(study, j).value();
  EXPECT_EQ(count(picture.svg, "fill=\"#ffffff\" stroke=\"#"), 6U) << "a hollow mark for each of three arms, two seeds";
  EXPECT_NE(picture.svg.find("seed spread of bf16"), std::string::npos);
  for (const ArmJudgement& arm : j.arms) {
    EXPECT_NE(picture.svg.find(std::string(verdict_name(arm.verdict))), std::string::npos);
  }
}

TEST(Pictures, ErrorNeedsPositiveValuesAndSaysWhatIsNotDrawn) {
  StudyResult study = sample();
  study.errors.push_back({"exact", 1, "layer.0/fc1/activation/fprop", "rel_mse", {1}, {0.0}});
  EXPECT_NE(picture_error_by_layer(study)->caption.find("Not drawn, because no value above zero was recorded: exact"),
            std::string::npos);
  for (ErrorSample& e : study.errors) e.value.assign(e.value.size(), std::numeric_limits<double>::quiet_NaN());
  EXPECT_FALSE(picture_error_by_layer(study));
  EXPECT_FALSE(picture_error_over_steps(study) || picture_scales_over_steps(study));
  EXPECT_EQ(make_pictures(study, judge(study)).size(), 4U);
}

TEST(Pictures, DecibelsDrawTheSamePictureAsTheRelativeError) {
  StudyResult study = sample();
  for (ErrorSample& e : study.errors) e.value = {0.01, 0.01};
  const std::string direct = picture_error_by_layer(study)->svg;
  for (ErrorSample& e : study.errors) {
    e.measure = "sqnr_db";
    e.value = {20, 20};
  }
  EXPECT_EQ(picture_error_by_layer(study)->svg, direct);
}

TEST(Pictures, DivergedRunIsMarked) {
  StudyResult study = sample();
  const auto crosses = [&] { return count(picture_loss_curves(study)->svg, "stroke-width=\"3\""); };
  EXPECT_EQ(crosses(), 0U);
  RunCurve& run = study.runs.back();
  run.status = "diverged";
  run.loss.back() = std::numeric_limits<double>::quiet_NaN();
  run.eval_loss.back() = std::numeric_limits<double>::infinity();
  EXPECT_GE(crosses(), 2U);
  EXPECT_EQ(malformed(picture_loss_curves(study)->svg).value_or(""), "");
  EXPECT_EQ(malformed_page(html_report(study)).value_or(""), "");
  EXPECT_NE(html_report(study).find("1 of 2 runs diverged"), std::string::npos);
}

TEST(Pictures, AreWrittenAsFiles) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "ng_study_report_test";
  std::filesystem::create_directories(folder);
  const std::vector<std::string> paths = write_pictures(sample(), folder.string());
  ASSERT_EQ(paths.size(), 7U);
  std::ifstream file(paths[1]);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), make_pictures(sample(), judge(sample()))[1].svg);
  std::filesystem::remove_all(folder);
  EXPECT_THROW(write_pictures(sample(), (folder / "absent").string()), MachineError);
}

TEST(Pictures, RoutersShowDroppedSlotsWhereThereAreAny) {
  StudyResult study = sample();
  EXPECT_EQ(picture_routers(study)->svg.find(">dropped<"), std::string::npos);
  for (RouterSample& router : study.routers)
    if (router.measure == "dropped") router.value = {0, 7, 9};
  EXPECT_NE(picture_routers(study)->svg.find(">dropped<"), std::string::npos);
  study.routers.clear();
  EXPECT_FALSE(picture_routers(study));
}

TEST(Report, WellFormedCompleteAndOffline) {
  const StudyResult study = sample();
  const std::string html = html_report(study);
  EXPECT_EQ(malformed_page(html).value_or(""), "");
  EXPECT_EQ(count(html, "http"), 7U) << "the namespaces of seven pictures and nothing else";
  EXPECT_EQ(count(html, "<script"), 0U);
  for (const char* part : {"Question",
                           "Prediction",
                           "Verdict",
                           "Pictures",
                           "Errors",
                           "GEMM FLOPs by format",
                           "Runs",
                           "How it was made",
                           "Holm",
                           "0123abc",
                           "simulated numbers",
                           "sha256:simulated",
                           "75.0 %",
                           "What each product executed",
                           "fc1/fprop",
                           "0–1, 3",
                           "mxfp4,rule=&lt;rceil&gt;",
                           "37.5 %",
                           "Router load",
                           "Scales while training"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
  for (const RunCurve& run : study.runs) {
    EXPECT_NE(html.find("<td>" + run.arm + "</td>"), std::string::npos) << run.arm;
    EXPECT_NE(html.find(run.run_id), std::string::npos) << run.run_id;
  }
}

TEST(Report, EscapesForeignText) {
  StudyResult study = sample();
  const std::string name = "a<b> & \"c\" 'd'";
  for (RunCurve& run : study.runs) {
    if (run.arm == "mxfp4") run.arm = name;
  }
  for (ErrorSample& e : study.errors) {
    if (e.arm == "mxfp4") e.arm = name;
    e.measure = e.site == "embedding" ? "x<y" : e.measure;
  }
  study.title = study.question = study.machine = "<script>alert(1)</script> & co";
  study.runs[0].run_id = "\x01<";
  const std::string html = html_report(study);
  EXPECT_EQ(malformed_page(html).value_or(""), "");
  EXPECT_EQ(count(html, "<script"), 0U);
  EXPECT_EQ(count(html, name), 0U);
  EXPECT_GE(count(html, "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;"), 5U);
  EXPECT_EQ(count(html, "\x01"), 0U);
}

TEST(Report, WithoutErrorsOrTrainingOrOtherArms) {
  StudyResult study = test::study_of({{2.6, 2.61}});
  EXPECT_EQ(malformed_page(html_report(study)).value_or(""), "");
  study = test::study_of({{2.6, 2.61}, {2.7, 2.71}});
  EXPECT_EQ(malformed_page(html_report(study)).value_or(""), "");
  for (RunCurve& run : study.runs) run.eval_loss = {std::numeric_limits<double>::quiet_NaN()};
  EXPECT_EQ(malformed_page(html_report(study)).value_or(""), "");
  EXPECT_THROW((void)html_report({}), UserError);
  EXPECT_THROW((void)text_table({}), UserError);
}

TEST(Report, TextTableHasARowForEachArmAndSaysWhy) {
  const StudyResult study = sample();
  const std::string text = text_table(study);
  const Judgement j = judge(study);
  EXPECT_NE(text.find("\nbf16 "), std::string::npos);
  for (const ArmJudgement& arm : j.arms) {
    EXPECT_NE(text.find("\n" + arm.arm + " "), std::string::npos);
    EXPECT_NE(text.find(arm.why), std::string::npos);
  }
}

}  // namespace
}  // namespace ng
