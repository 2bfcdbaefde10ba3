// SPDX-License-Identifier: Apache-2.0
//
// The edges of a model under one resolved recipe: for each linear layer, which forms its operands are asked in, under
// which site names, and the weight's forms of the current step. The model hands these to the backend and never looks
// at what they say.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/recipe/resolve.hpp"

namespace ng {

/// One linear layer. Sites are named `layer.3/fc1/activation/fprop` (operands) and `layer.3/fc1/fprop` (products).
struct LinearEdges {
  std::string name;  ///< "layer.3/fc1", "head"
  LinearSpec spec;
  Site operand_sites[kGemmCount][kOperandCount];
  Site product_sites[kGemmCount];
  Site saved_site;  ///< "layer.3/fc1/activation/saved": keys the random draws of saved codes
  std::vector<FormRequest> requests[kOperandCount];  ///< by operand: fprop, dgrad, wgrad as it takes part
  double uses_per_token = 1.0;
  std::int64_t out = 0;
  std::int64_t in = 0;

  TensorForms weight;  ///< forms of the weight in the current step
  std::int64_t weight_step = -1;
};

/// What quantizers remember from step to step. Owned by training.
struct QuantizerState {
  std::map<std::string, AmaxHistory> amax;  ///< by site, of the edges with delayed scaling

  /// Ends a step.
  void advance() {
    for (auto& [site, history] : amax) history.advance();
  }
};

class Edges {
 public:
  Edges(const ModelConfig& config, const ResolvedRecipe& recipe);
  Edges(const Edges&) = delete;  // requests point at sites
  Edges& operator=(const Edges&) = delete;

  LinearEdges& linear(std::int64_t layer, Linear which);
  std::vector<LinearEdges>& all() { return linears_; }
  const TensorKinds& tensors() const { return tensors_; }
  OperandKind embedding() const { return embedding_; }

  /// All operand sites of the model, numbered by their index; and those that are quantized under this recipe.
  const std::vector<Site>& sites() const { return sites_; }
  std::vector<Site> quantized_sites() const;
  /// The sites of all products, numbered on their own.
  std::vector<Site> products() const;
  const OperandSpec& spec(std::uint32_t site_index) const { return *site_specs_[site_index]; }
  /// The quantizer of the row form of the tensor whose column form a site names, if it has one.
  const QuantizerSpec* row_spec(std::uint32_t site_index) const;

  /// Lets the requests of delayed quantizers use `state`, which gets an empty history for each and must outlive the
  /// edges. Without it they scale by the current amax.
  void bind(QuantizerState& state);

  /// Weights changed: forms are made anew at their next use.
  void forget_weights();

 private:
  std::vector<LinearEdges> linears_;
  std::vector<int> position_;  // [layers + 1][kLinearCount] -> index into linears_, -1 if absent
  std::vector<Site> sites_;
  std::vector<const OperandSpec*> site_specs_;
  std::vector<const OperandSpec*> site_row_specs_;
  TensorKinds tensors_;
  OperandKind embedding_;
  std::int64_t layers_;
};

}  // namespace ng
