// SPDX-License-Identifier: Apache-2.0
//
// A recipe as written: which codes travel on each edge of the model, and how they are made. Data only; it knows no
// model. resolve.hpp turns it into specs. Every key of the schema that this version cannot carry out is an error, never
// ignored.
//
//   name = "mxfp4"
//   rule = [ { linear = "embedding,router,head", use = "bf16" }, { use = "block" } ]     # the first match wins
//   [quantizer]
//   block = { like = "mxfp4", rounding = "toward_zero" }
//   [tensor]
//   carried  = { residual = "bf16", gemm_output = "bf16", logits = "f32", softmax = "f32" }
//   exchange = { dispatch = "bf16", combine = "bf16", dispatch_grad = "bf16", combine_grad = "bf16" }
//   state    = { master = "f32", adam_m = "f32", adam_v = "f32", weight_grad = "f32" }
//   [gemm.wgrad]
//   hadamard = { size = 16, signs = "te_fixed" }
// Rules may also say `from` and `via` (which form is the source), `decode` (its codes as BF16 or FP32), `estimator` (of
// weights); `saved` what the backward pass finds of an activation; quantizers `outlier` and `scale.amax` (delayed
// scaling); products `accumulate`, `carrier`, `compensate`. `switch = [{ at = 0.9, recipe = "bf16", gemms = ["fprop"]
// }]` gives products to another recipe from a step on.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/recipe/linear.hpp"

namespace ng {

/// Which layers a rule is for. A rule with a selection never matches embedding and head, which lie outside the layers.
class LayerSelector {
 public:
  /// Every layer, and embedding and head.
  LayerSelector() = default;
  /// "first:5%,last:15%" (rounded down) or "first:2,last:1". UserError.
  static LayerSelector parse(std::string_view text);
  /// These layers, counted from 0.
  static LayerSelector list(std::vector<std::int64_t> layers);

  [[nodiscard]] bool everything() const { return parts_.empty() && list_.empty(); }
  [[nodiscard]] bool selects(std::int64_t layer, std::int64_t layers) const;
  /// UserError when a listed layer does not exist.
  void check(std::int64_t layers) const;
  friend bool operator==(const LayerSelector&, const LayerSelector&) = default;

 private:
  struct Part {
    bool first = true;
    bool percent = false;
    double amount = 0;
    friend bool operator==(const Part&, const Part&) = default;
  };
  std::vector<Part> parts_;
  std::vector<std::int64_t> list_;
};

struct RecipeRule {
  std::array<bool, kLinearCount> linear{};  ///< which it names
  std::array<bool, kOperandCount> operand{};
  std::array<bool, kGemmCount> gemm{};
  LayerSelector layers;
  OperandSpec use;        ///< quantized, bf16 or f32
  std::string quantizer;  ///< its name, empty for bf16 and f32
  std::string place;      ///< "file:line:column", for messages

  [[nodiscard]] bool names(Linear which, Operand what, Gemm where) const {
    return linear[static_cast<std::size_t>(which)] && operand[static_cast<std::size_t>(what)] &&
           gemm[static_cast<std::size_t>(where)];
  }
};

/// What is kept of the inputs of some linear layers for the backward pass.
struct RecipeSaved {
  std::array<bool, kLinearCount> linear{};
  LayerSelector layers;
  SavedSpec use;
  std::string quantizer;
  std::string place;
};

struct RecipeGemm {
  HadamardSpec hadamard{};
  Carrier carrier = Carrier::bf16;
  Accumulate accumulate = Accumulate::promoted;
  Compensate compensate = Compensate::none;
  OutlierResidual residual = OutlierResidual::none;  ///< format of what is compensated
  std::string place;
};

/// All that is not a GEMM operand. Each is f32 or bf16.
struct TensorKinds {
  // carried: between operations
  OperandKind residual = OperandKind::bf16;
  OperandKind gemm_output = OperandKind::bf16;
  OperandKind logits = OperandKind::f32;  ///< of router and head
  OperandKind softmax = OperandKind::f32;
  // exchange: between ranks
  OperandKind dispatch = OperandKind::bf16;
  OperandKind combine = OperandKind::bf16;
  OperandKind dispatch_grad = OperandKind::bf16;
  OperandKind combine_grad = OperandKind::bf16;
  // state: kept over steps
  OperandKind master = OperandKind::f32;
  OperandKind adam_m = OperandKind::f32;
  OperandKind adam_v = OperandKind::f32;
  OperandKind weight_grad = OperandKind::f32;

  friend bool operator==(const TensorKinds&, const TensorKinds&) = default;
};

struct Recipe;

/// From a step on, some products are those of another recipe: operands, carrier, accumulation, compensation. The rest
/// (what is saved, every other tensor) stays.
struct RecipeSwitch {
  double fraction = 0;    ///< of the run's steps; 0: `step` says
  std::int64_t step = 0;  ///< the first one under the other recipe
  std::array<bool, kGemmCount> gemm{};
  std::string file;  ///< of the other recipe
  std::shared_ptr<const Recipe> recipe;
  std::string place;
};

/// The text of a recipe's file by its path. UserError when there is none.
using RecipeTexts = std::function<std::string(const std::string& path)>;

struct Recipe {
  std::string name;
  std::string description;
  std::string origin;  ///< file, for messages
  std::string text;    ///< as given
  std::vector<RecipeRule> rules;
  std::vector<RecipeSaved> saved;  ///< the first match wins; none: the original
  std::map<std::string, QuantizerSpec> quantizers;
  std::map<std::string, AmaxHistorySpec> amax_histories;  ///< of the quantizers with delayed scaling
  std::array<RecipeGemm, kGemmCount> gemm{};
  TensorKinds tensors;
  std::vector<RecipeSwitch> switches;  ///< in their order

  /// Parses and checks all that can be checked without a model: unknown keys and names, choices that contradict each
  /// other, rules that no edge can reach, quantizers that nothing uses. UserError "file:line:column: ...".
  static Recipe from_file(const std::filesystem::path& path);
  /// `others`: where the recipes that `switch` names come from; a text on its own has none.
  static Recipe from_text(std::string name, std::string text, const RecipeTexts& others = {});
  /// From a document to which overrides (--set) may have been applied.
  static Recipe from_document(const TomlDocument& document, const RecipeTexts& others = {});
};

/// parse_quantizer with `FILE.toml#QUANTIZER` looked up in recipe files.
[[nodiscard]] QuantizerSpec parse_quantizer_with_recipes(std::string_view text);

}  // namespace ng
