// SPDX-License-Identifier: Apache-2.0
//
// Claim: a run in which everything is recorded, at every site and on the probe batch, ends with the same bytes as one
// in which nothing is; its records are the same whether it was interrupted or not, and, where codes are, however its
// steps are cut into micro-batches. Alone: ctest -R training_recorded
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "narrowgauge/base/error.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::differing;
using ng_test::End;
using ng_test::end_of;
using ng_test::Folder;
using ng_test::run;
using ng_test::Settings;
using ng_test::small_request;

constexpr const char* kEverything = R"(
[[entry]]
name = "tensors"
site = "*"
measure = ["rel_mse", "sqnr_db", "cosine", "max_abs_error", "max_rel_error", "bias", "underflow_rate",
           "saturation_rate", "scale_log2_mean", "scale_log2_min", "scale_log2_max", "scale_shift", "scale_distance",
           "row_column_scale_gap", "double_quant_error", "double_quant_excess", "double_quant_changed",
           "transpose_error", "transpose_error_published"]
every = 2
code_histogram_every = 3
[[entry]]
name = "weights"
site = "*/weight/*"
measure = ["scale_drift", "scale_flip_rate", "scale_drift_from_start"]
every = 1
[[entry]]
name = "products"
site = "*"
measure = "gemm_error"
every = 2
[[entry]]
name = "probe"
site = "*/activation/fprop"
measure = ["rel_mse", "scale_drift", "scale_flip_rate", "scale_drift_from_start"]
batch = "probe"
every = 2
)";

ng::RunRequest recorded(const std::string& recipe, Settings settings = {}) {
  settings.emplace(settings.begin(), "train.steps", "4");
  ng::RunRequest request = small_request(recipe, std::move(settings));
  request.record_path = "everything.toml";
  request.record_text = kEverything;
  return request;
}

bool same_records(const End& a, const End& b) {
  if (a.records.size() != b.records.size() || a.histograms != b.histograms) return false;
  for (std::size_t i = 0; i < a.records.size(); ++i)
    if (a.records[i].size() != b.records[i].size() ||
        std::memcmp(a.records[i].data(), b.records[i].data(), a.records[i].size() * sizeof(float)) != 0)
      return false;
  return true;
}

TEST(Recorded, EverythingIsThereAndChangesNothing) {
  for (const char* recipe : {"fp8_blockwise", "nvfp4", "mxfp4_sr_all"}) {
    const Folder folder(std::string("recorded-") + recipe);
    const End full = run(folder, "full", recorded(recipe));
    ng::RunRequest request = recorded(recipe);
    request.record_path = "none";
    request.record_text.clear();
    const End none = run(folder, "none", request);
    EXPECT_EQ(differing(full, none), std::vector<std::string>{});
    EXPECT_EQ(full.losses, none.losses);
    EXPECT_EQ(full.evals, none.evals);

    // Every measure has a number somewhere; transposes only where scales are powers of two.
    const ng::RunReader reader(folder.file("full.h5"));
    for (const std::string& name : reader.record_names()) {
      const ng::RecordSeries series = reader.record(name);
      for (std::size_t m = 0; m < series.measures.size(); ++m) {
        bool any = false;
        for (std::size_t r = 0; r < series.steps.size(); ++r)
          for (std::size_t s = 0; s < series.sites.size(); ++s) any = any || !std::isnan(series.at(r, s, m));
        const bool transposed = series.measures[m].starts_with("transpose");
        const bool powers = std::string(recipe) != "nvfp4";  // E4M3 scales are none
        EXPECT_EQ(any, !transposed || powers) << recipe << " " << name << " " << series.measures[m];
      }
    }
    // A product's total error is at least of the size of its operands'; with both quantized it is not smaller than
    // either by more than chance allows. Accumulation in FP32 is far below both.
    const ng::RecordSeries products = reader.record("products");
    const auto at = [&](const std::string& site, std::size_t measure) {
      const auto found = std::find(products.sites.begin(), products.sites.end(), site);
      return products.at(0, static_cast<std::size_t>(found - products.sites.begin()), measure);
    };
    for (const char* site : {"layer.1/fc1/fprop", "layer.1/fc2/wgrad", "layer.0/attn_qkv/dgrad"}) {
      if (std::string(recipe) == "nvfp4") continue;  // its kept layers are all of this model's
      EXPECT_LT(at(site, 0), at(site, 1)) << recipe << site;
      EXPECT_GT(at(site, 1), 0.3f * (at(site, 2) + at(site, 3))) << recipe << site;
      EXPECT_LT(at(site, 1), 3.0f * (at(site, 2) + at(site, 3))) << recipe << site;
    }
    const ng::CodeHistograms codes = reader.code_histograms("tensors");
    EXPECT_EQ(codes.steps, (std::vector<std::int64_t>{0, 3}));
    EXPECT_EQ(codes.codes, std::string(recipe) == "fp8_blockwise" ? 256 : 16);
    std::int64_t elements = 0;
    for (std::int64_t c = 0; c < codes.codes; ++c) elements += codes.counts[static_cast<std::size_t>(c)];
    EXPECT_GT(elements, 0);
    EXPECT_EQ(elements % 64, 0) << "all elements of a tensor with rows of 64 or 256";
  }
}

TEST(Recorded, ResumedEqualsUninterrupted) {
  const Folder folder("recorded-resume");
  const ng::RunRequest request = recorded("mxfp4");
  const End whole = run(folder, "whole", request);
  EXPECT_FALSE(whole.recorder.empty());
  for (const int stop : {3}) {  // a step after a checkpoint
    const std::string file = folder.file("cut" + std::to_string(stop) + ".h5");
    ng::RunOptions options;
    int asked = 0;
    options.interrupted = [&] { return asked++ == stop; };
    EXPECT_THROW(ng::train_run(ng::plan_run(request), file, options), ng::InterruptedError);
    ng::resume_run(file, ng::RunOptions{});
    const End resumed = end_of(file);
    EXPECT_TRUE(same_records(whole, resumed));
    EXPECT_EQ(whole.recorder, resumed.recorder);
    EXPECT_EQ(differing(whole, resumed), std::vector<std::string>{});
  }
}

TEST(Recorded, MicroBatchesChangeNoRecordWhereCodesAreTheSame) {
  const Folder folder("recorded-micro");
  for (const auto& [recipe, pieces] : {std::pair<const char*, int>{"mxfp4", 4}, {"mxfp8", 2}}) {
    const auto with = [&, name = recipe](int count) {
      return recorded(
          name, {{"model.dense_layers", "2"}, {"train.micro_batches", std::to_string(count)}, {"train.steps", "3"}});
    };
    const End whole = run(folder, std::string(recipe) + "1", with(1));
    EXPECT_TRUE(same_records(whole, run(folder, std::string(recipe) + "-cut", with(pieces)))) << recipe;
  }
}

// Rows of experts lie in another order in every cut; their row forms have the same codes nevertheless.
TEST(Recorded, MicroBatchesChangeNoRecordOfExpertsRows) {
  const Folder folder("recorded-experts");
  const auto with = [&](int pieces) {
    return recorded("mxfp8", {{"model.aux_coefficient", "0.0"},
                              {"model.z_coefficient", "0.0"},
                              {"train.micro_batches", std::to_string(pieces)},
                              {"train.warmup_steps", "0"},
                              {"train.steps", "1"}});
  };
  (void)run(folder, "1", with(1));
  (void)run(folder, "4", with(4));
  const ng::RunReader a(folder.file("1.h5")), b(folder.file("4.h5"));
  int compared = 0;
  for (const char* entry : {"tensors", "products", "probe"}) {
    const ng::RecordSeries whole = a.record(entry), parts = b.record(entry);
    for (std::size_t s = 0; s < whole.sites.size(); ++s) {
      const std::string& site = whole.sites[s];
      const bool rows = site.ends_with("activation/fprop") || site.ends_with("grad_output/dgrad") ||
                        (std::string(entry) == "products" && !site.ends_with("/wgrad"));
      if (!rows || site.find("/fc") == std::string::npos) continue;
      for (std::size_t m = 0; m < whole.measures.size(); ++m) {
        if (whole.measures[m].starts_with("transpose")) continue;  // takes blocks of rows
        const float x = whole.at(0, s, m), y = parts.at(0, s, m);
        EXPECT_EQ(std::memcmp(&x, &y, sizeof x), 0) << site << " " << whole.measures[m] << " " << x << " " << y;
        compared += std::isnan(x) ? 0 : 1;
      }
    }
  }
  EXPECT_GT(compared, 50);
}

}  // namespace
