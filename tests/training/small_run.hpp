// SPDX-License-Identifier: Apache-2.0
//
// A run small enough for a test: two layers, one of them dense, on the shipped corpus; and its end as bytes, compared.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "narrowgauge/recording/checkpoint.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng_test {

inline const char* const kSmallModel = R"(
name = "test"
vocabulary = 256
layers = 2
hidden = 64
heads = 2
kv_heads = 1
head_dim = 32
rope_theta = 10000.0
norm_epsilon = 1e-5
dense_layers = 1
dense_width = 96
experts = 4
top_k = 2
expert_width = 32
shared_experts = 1
renormalize = true
aux_coefficient = 0.01
z_coefficient = 0.001
tied_head = false
init_std = 0.02
context = 64
)";

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The source tree; on another machine than the build's, NARROWGAUGE_SOURCE says where it lies.
inline std::filesystem::path source_root() {
  const char* const elsewhere = std::getenv("NARROWGAUGE_SOURCE");
  return elsewhere != nullptr ? elsewhere : NG_SOURCE_DIR;
}

using Settings = std::vector<std::pair<std::string, std::string>>;

inline ng::RunRequest small_request(const std::string& recipe, Settings settings = {}) {
  const std::filesystem::path root = source_root();
  ng::RunRequest request;
  request.model_path = "test model";
  request.model_text = kSmallModel;
  request.recipe_path = (root / "studies/recipes" / (recipe + ".toml")).string();
  request.recipe_text = file_text(request.recipe_path);
  request.data = (root / "data/corpora/austen.toml").string();
  request.settings = {{"train.steps", "6"},           {"train.batch", "4"},      {"train.sequence_length", "64"},
                      {"train.warmup_steps", "2"},    {"train.eval_every", "3"}, {"train.eval_windows", "4"},
                      {"train.checkpoint_every", "2"}};
  for (auto& setting : settings) request.settings.push_back(std::move(setting));
  return request;
}

/// A folder that goes with the test.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("narrowgauge-" + name + "-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// What a run ended with: weights and optimizer state by name, losses, records. Equal ends are equal bytes.
struct End {
  std::map<std::string, std::vector<std::byte>> tensors;
  std::map<std::string, std::vector<std::byte>> recorder;  ///< what the recorder carries on; depends on the plan
  std::vector<double> losses;
  std::vector<std::pair<double, double>> evals;
  std::vector<std::vector<float>> records;
  std::vector<std::vector<std::uint32_t>> histograms;
};

inline End end_of(const std::string& run_file) {
  End end;
  const auto checkpoint = ng::CheckpointStore(ng::checkpoint_folder_of(run_file)).load_latest();
  if (!checkpoint) throw std::runtime_error("no checkpoint of " + run_file);
  for (const auto& [name, array] : checkpoint->tensors)
    (name.starts_with("recorder/") ? end.recorder : end.tensors)[name] = array.data;
  const ng::RunReader reader(run_file);
  for (const ng::TrainRow& row : reader.train()) {
    end.losses.push_back(row.loss);
    end.losses.push_back(row.grad_norm);
  }
  for (const ng::EvalRow& row : reader.eval()) end.evals.emplace_back(row.loss, row.loss_bf16);
  for (const std::string& name : reader.record_names()) {
    end.records.push_back(reader.record(name).values);
    end.histograms.push_back(reader.code_histograms(name).counts);
  }
  return end;
}

/// Names of tensors that differ in a byte.
inline std::vector<std::string> differing(const End& a, const End& b) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : a.tensors)
    if (b.tensors.at(name) != bytes) names.push_back(name);
  return names;
}

/// NaNs are compared as bytes too.
inline bool same_bytes(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].size() != b[i].size() || std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0)
      return false;
  return true;
}

/// Trains into NAME.h5 of the folder.
inline End run(const Folder& folder, const std::string& name, const ng::RunRequest& request, int threads = 1,
               bool baseline = false) {
  ng::RunOptions options;
  options.backend.threads = threads;
  options.backend.baseline_isa = baseline;
  const std::string file = folder.file(name + ".h5");
  ng::train_run(ng::plan_run(request), file, options);
  return end_of(file);
}

/// Weights, optimizer state, losses, evaluations.
inline void expect_equal(const End& a, const End& b) {
  EXPECT_EQ(differing(a, b), std::vector<std::string>{});
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.evals, b.evals);
}

}  // namespace ng_test
