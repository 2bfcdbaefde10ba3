// SPDX-License-Identifier: Apache-2.0
//
// The program's model on the CPU, made and read for tests: a configuration of the oracle, a recipe by name, parameters
// from the oracle; losses, gradients and the router's choices as plain vectors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gradient/model_file.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/model/model.hpp"
#include "narrowgauge/parallel/communicator.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "oracle/model_oracle.hpp"

namespace ng_test {

inline ng::ModelConfig program_config(const ng_oracle::ModelConfig& c) {
  return ng::ModelConfig::from_text(c.name, model_file_text(c));
}

inline std::filesystem::path recipe_folder() {
  return std::filesystem::path(NG_SOURCE_DIR) / "studies/recipes";
}

/// One rank that remembers the routing of each MoE layer. The model sends rows to their experts once per layer going
/// forward and once coming back.
class WatchingCommunicator final : public ng::Communicator {
 public:
  int rank() const override { return one_->rank(); }
  int size() const override { return one_->size(); }
  void all_reduce(const ng::TensorView& values) override { one_->all_reduce(values); }
  ng::Tensor all_gather(const ng::Tensor& rows) override { return one_->all_gather(rows); }
  ng::Tensor reduce_scatter(const ng::Tensor& rows) override { return one_->reduce_scatter(rows); }
  ng::Tensor dispatch(const ng::Routing& routing, const ng::Tensor& rows) override {
    routings.push_back(routing);
    return one_->dispatch(routing, rows);
  }
  ng::Tensor combine(const ng::Routing& routing, const ng::Tensor& rows) override {
    return one_->combine(routing, rows);
  }

  std::vector<ng::Routing> routings;

 private:
  std::unique_ptr<ng::Communicator> one_ = ng::make_single_rank();
};

/// Losses and gradients of one call of Model::train (gradients: of all calls since they were cleared).
struct ProgramResult {
  std::vector<float> token_losses;
  double aux = 0.0;
  double z = 0.0;
  std::map<std::string, std::vector<float>> gradients;
  ng_oracle::RouterDecisions decisions;
  std::int64_t padding_rows = 0;  ///< over all MoE layers
};

class Program {
 public:
  Program(const ng::ModelConfig& config, const std::string& recipe, int threads = 1, std::uint32_t seed = 5)
      : backend(ng::make_cpu_backend({threads, ng::Arithmetic::ieee, false})),
        resolved(ng::resolve(ng::Recipe::from_file(recipe_folder() / (recipe + ".toml")), config.shape())),
        edges(config, resolved),
        model(config, *backend, communicator, seed) {}

  void load(const ng_oracle::Parameters& parameters) {
    for (ng::Parameter& p : model.parameters().all()) {
      const std::vector<double>& values = parameters.at(p.name);
      const std::vector<float> data(values.begin(), values.end());
      if (static_cast<std::int64_t>(data.size()) != p.master.view.count()) throw std::logic_error(p.name + ": size");
      backend->upload(p.master.view, data.data());
    }
    edges.forget_weights();
  }

  /// Trains on a micro-batch; gradients are added to what is there.
  ProgramResult train(const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& targets,
                      std::int64_t sequences, std::int64_t length, std::int64_t step_tokens = 0,
                      std::int64_t first_token = 0, std::int32_t micro_batch = 0) {
    const std::vector<std::int32_t> ids32(ids.begin(), ids.end()), targets32(targets.begin(), targets.end());
    const std::int64_t tokens = sequences * length;
    const ng::Batch batch{ids32, targets32, sequences, length, step_tokens == 0 ? tokens : step_tokens, first_token};
    communicator.routings.clear();
    const ng::ForwardResult forward = model.train({3, 0, micro_batch, ng::Phase::train}, batch, edges);
    ProgramResult result;
    result.token_losses = floats(forward.token_loss.view);
    const auto layers = static_cast<std::size_t>(model.config().layers);
    result.decisions.experts.resize(layers);
    result.decisions.kept.resize(layers);
    for (std::size_t i = 0; i < forward.moe.size(); ++i) {
      result.aux += forward.moe[i].aux_loss;
      result.z += forward.moe[i].z_loss;
      const ng::Routing& routing = communicator.routings.at(i);
      std::vector<std::int32_t> experts(static_cast<std::size_t>(routing.expert.view.count()));
      backend->download(experts.data(), routing.expert.view);
      const std::vector<float> weights = floats(routing.weight.view);
      const std::size_t layer = static_cast<std::size_t>(forward.moe[i].layer);
      const std::size_t K = static_cast<std::size_t>(routing.expert.view.cols);
      result.padding_rows += routing.rows;
      for (std::size_t t = 0; t < experts.size(); t += K) {
        result.decisions.experts[layer].emplace_back(experts.begin() + static_cast<std::ptrdiff_t>(t),
                                                     experts.begin() + static_cast<std::ptrdiff_t>(t + K));
        std::vector<int>& kept = result.decisions.kept[layer].emplace_back();
        for (std::size_t k = t; k < t + K; ++k) {
          kept.push_back(weights[k] == 0.0f ? 0 : 1);
          result.padding_rows -= kept.back();
        }
      }
    }
    for (const ng::Parameter& p : model.parameters().all())
      if (p.trained) result.gradients[p.name] = floats(p.gradient.view);
    return result;
  }

  std::vector<float> floats(const ng::TensorView& view) const {
    std::vector<float> values(static_cast<std::size_t>(view.count()));
    backend->download(values.data(), view);
    return values;
  }

  std::unique_ptr<ng::Backend> backend;
  WatchingCommunicator communicator;
  ng::ResolvedRecipe resolved;
  ng::Edges edges;
  ng::Model model;
};

}  // namespace ng_test
