// SPDX-License-Identifier: Apache-2.0
//
// A recipe on a model: for every linear layer the specs of its three products, for every other tensor its type. What
// the model reads; it never sees the recipe. The canonical JSON and its digest are part of a run's identity: recipes
// that compute the same have the same digest, whatever they are called.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/recipe/linear.hpp"
#include "narrowgauge/recipe/recipe.hpp"

namespace ng {

/// The layer number of embedding and head.
constexpr std::int64_t kOutsideLayers = -1;

/// The model pads the rows of each expert with zeros to a multiple of this: no transform of wgrad can be longer.
constexpr std::int64_t kRowPadding = 32;

/// Share of all GEMM FLOPs of a training step (forward and backward; attention's own products not counted) that one
/// pair of operand formats takes.
struct FormatShare {
  std::string a;  ///< "e2m1", "bf16", ...
  std::string b;
  double share = 0;
};

struct ResolvedSwitch;

class ResolvedRecipe {
 public:
  std::string name;
  TensorKinds tensors;
  OperandKind embedding = OperandKind::bf16;  ///< what an embedding row is rounded to when it is looked up
  std::vector<FormatShare> flop_shares;       ///< by falling share
  std::vector<ResolvedSwitch> switches;       ///< what replaces all this from later steps on

  /// Specs of a linear layer; `layer` is kOutsideLayers for the head. LogicError when the model has no such layer.
  [[nodiscard]] const LinearSpec& linear(std::int64_t layer, Linear which) const;
  [[nodiscard]] bool has(std::int64_t layer, Linear which) const;
  [[nodiscard]] std::int64_t layers() const { return layers_; }

  /// Everything that decides numbers: specs of each edge, tensor types. Not the name, not the shares.
  [[nodiscard]] Json to_json() const;
  /// SHA-256 of the canonical text of to_json, in hexadecimal.
  [[nodiscard]] std::string digest() const;
  /// The number of tokens in a pass must be a multiple of this: the largest Hadamard transform of wgrad, which runs
  /// along them; 1 without one.
  [[nodiscard]] std::int64_t token_multiple() const;
  /// Share of the FLOPs whose operands are both quantized.
  [[nodiscard]] double quantized_share() const;

 private:
  [[nodiscard]] Json linears_json() const;
  friend ResolvedRecipe resolve(const Recipe& recipe, const ModelShape& model);
  struct Entry {
    bool present = false;
    LinearSpec spec;
  };
  [[nodiscard]] std::size_t index(std::int64_t layer, Linear which) const;

  std::int64_t layers_ = 0;
  std::vector<Entry> entries_;  // [layers + 1, kLinearCount]; the last row is outside the layers
};

/// From a step on, the products of `recipe`; it has no switches.
struct ResolvedSwitch {
  double fraction = 0;    ///< of the run's steps, rounded down; 0: `step` says
  std::int64_t step = 0;  ///< the first one
  std::string place;      ///< "file:line:column", for messages
  ResolvedRecipe recipe;
};

/// The first step of each stage in a run of `steps` steps: 0, then those of the switches. UserError when they do not
/// rise or lie outside the run.
[[nodiscard]] std::vector<std::int64_t> first_steps(const ResolvedRecipe& recipe, std::int64_t steps);

/// First matching rule wins. UserError "file:line:column: ..." when an edge has no rule, when products would be
/// silently wrong (a Hadamard transform on one operand, a scale that varies along the contraction axis inside a step of
/// the tensor core, a form made from one that does not exist), or when the model reaches none of the recipe's
/// quantizers. Every stage that a switch makes is checked alike, as one recipe mixed from two.
[[nodiscard]] ResolvedRecipe resolve(const Recipe& recipe, const ModelShape& model);

/// UserError naming the first product, and its remedy, that the arithmetic has no way to compute (hopper_product.hpp).
void check_arithmetic(const ResolvedRecipe& recipe, Arithmetic arithmetic);

/// "layer.3/fc1", "head".
[[nodiscard]] std::string linear_name(std::int64_t layer, Linear which);

/// "e2m1", "bf16", "f32".
[[nodiscard]] std::string format_label(const OperandSpec& operand);

}  // namespace ng
