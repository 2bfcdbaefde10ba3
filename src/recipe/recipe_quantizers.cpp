// SPDX-License-Identifier: Apache-2.0
//
// The [quantizer] tables of a recipe: `like` first, then changes key by key through the same setters as quantizer
// texts.
#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "recipe_parts.hpp"

namespace ng::recipe_parts {
namespace {

// Value of a key as quantizer texts write it: strings as they are, numbers printed.
std::string value_text(const TomlTable& table, std::string_view key) {
  switch (table.kind(key).value()) {
    case TomlKind::integer: {
      const std::int64_t value = table.get_int(key);
      return key == "inf_scale" ? fmt::format("0x{:02X}", value) : fmt::format("{}", value);
    }
    case TomlKind::real:
      return fmt::format("{}", table.get_double(key));
    default:
      return table.get_string(key);
  }
}

void apply(QuantizerSpec& spec, const TomlTable& table, std::string_view key, std::string_view choice) {
  if (!table.has(key)) return;
  try {
    if (choice == "tile") {
      const std::vector<std::int64_t> tile = table.get_int_list(key, 0, 65536);
      if (tile.size() != 2) table.fail(key, "is not [rows, columns]");
      set_choice(spec, choice, fmt::format("{}x{}", tile[0], tile[1]));
    } else {
      set_choice(spec, choice, value_text(table, key));
    }
  } catch (const UserError& error) {
    if (std::string_view(error.what()).find(table.where(key)) != std::string_view::npos) throw;
    table.fail(key, error.what());
  }
}

class QuantizerTables {
 public:
  explicit QuantizerTables(const TomlTable& table) : table_(table) {}

  const QuantizerSpec& get(const std::string& name) {
    if (const auto found = done_.find(name); found != done_.end()) return found->second;
    return done_.emplace(name, parse(name)).first->second;
  }

  void fill(Recipe& recipe) {
    for (const std::string& name : table_.keys()) (void)get(name);
    recipe.quantizers = done_;
    recipe.amax_histories = histories_;
  }

 private:
  QuantizerSpec base(const TomlTable& table, const std::string& name) {
    const std::string like = table.get_string("like");
    for (const NamedQuantizer& preset : quantizer_presets())
      if (preset.name == like && !table_.has(like)) return preset.spec;
    const std::vector<std::string> own = table_.keys();
    if (std::find(own.begin(), own.end(), like) == own.end()) {
      std::vector<std::string> valid = own;
      std::erase(valid, name);
      for (std::string& preset : preset_names()) valid.push_back(std::move(preset));
      table.fail("like", fmt::format("no quantizer or preset '{}'; {}", like, suggestion(like, valid)));
    }
    if (std::find(open_.begin(), open_.end(), like) != open_.end())
      table.fail("like", fmt::format("'{}' is like itself", like));
    const QuantizerSpec& found = get(like);
    if (const auto history = histories_.find(like); history != histories_.end()) histories_[name] = history->second;
    return found;
  }

  // `outlier = { quantile, scope }`: the clamp. What becomes of the rest is said by the product, in `compensate`.
  static void parse_outlier(QuantizerSpec& spec, const TomlTable& table) {
    const std::optional<TomlTable> outlier = table.optional_table("outlier");
    if (!outlier) return;
    spec.outlier = OutlierSpec{};
    spec.outlier.quantile = outlier->get_double("quantile", 0.0, 1.0);
    spec.outlier.scope = static_cast<OutlierScope>(outlier->optional_choice("scope", names_of<OutlierScope>(), 0));
    spec.outlier.residual = OutlierResidual::none;
    if (!(spec.outlier.quantile > 0.5 && spec.outlier.quantile < 1.0))
      outlier->fail("quantile", fmt::format("{} is not above 0.5 and below 1", spec.outlier.quantile));
  }

  // `scale.amax = { history, reduce }`: delayed scaling, for scales of the whole tensor.
  void parse_history(const QuantizerSpec& spec, const TomlTable& scale, const std::string& name) {
    const std::optional<TomlTable> amax = scale.optional_table("amax");
    if (amax) {
      AmaxHistorySpec history;
      history.history = static_cast<std::int32_t>(amax->get_int("history", 0, 65536));
      history.reduce = static_cast<AmaxReduce>(amax->optional_choice("reduce", names_of<AmaxReduce>(), 0));
      histories_.erase(name);
      if (history.history > 0) histories_[name] = history;
    }
    if (histories_.count(name) == 0) return;
    const bool whole = spec.scale_format == ScaleFormat::f32 && spec.tile_rows == 0 && spec.tile_cols == 0;
    if (!whole && !needs_tensor_amax(spec.rule))
      scale.fail("amax",
                 "delayed scaling is for scales of the whole tensor: tile = [0, 0] with FP32 scales, or rules "
                 "with a tensor scale");
  }

  QuantizerSpec parse(const std::string& name) {
    const TomlTable table = table_.get_table(name);
    if (name == "bf16" || name == "f32") table_.fail(name, "the name means the unquantized tensor; choose another");
    if (table.has("hadamard"))
      table.fail("hadamard",
                 fmt::format("belongs to a product, so that both operands get it: [gemm.{}] hadamard = ...", "wgrad"));
    const bool derived = table.has("like");
    open_.push_back(name);
    QuantizerSpec spec = derived ? base(table, name) : QuantizerSpec{};
    open_.pop_back();
    if (!derived) {
      (void)table.get_string("element");  // demanded
      if (table.has("scale")) (void)table.get_int_list("tile", 0, 65536);
    }
    apply(spec, table, "element", "element");
    apply(spec, table, "tile", "tile");
    if (const std::optional<TomlTable> scale = table.optional_table("scale")) {
      if (!derived) {
        (void)scale->get_string("format");
        (void)scale->get_string("rule");
      }
      apply(spec, *scale, "format", "scale");
      for (const std::string_view key : {"rule", "application", "floor", "inf_scale", "tensor_scope"})
        apply(spec, *scale, key, key);
      parse_history(spec, *scale, name);
    } else if (!derived && spec.element.nan == NanCodes::none) {
      spec.cast.nan = NanChoice::error;  // as a bare element in quantizer texts
    }
    for (const std::string_view key : {"rounding", "overflow", "nan", "zero_sign", "decode"})
      apply(spec, table, key, key);
    parse_outlier(spec, table);
    try {
      check_quantizer(spec);
    } catch (const UserError& error) {
      table_.fail(name, error.what());
    }
    return spec;
  }

  const TomlTable& table_;
  std::map<std::string, QuantizerSpec> done_;
  std::map<std::string, AmaxHistorySpec> histories_;
  std::vector<std::string> open_;  // being parsed: a chain of `like`
};

}  // namespace

void parse_quantizers(const TomlTable& root, Recipe& recipe) {
  if (const std::optional<TomlTable> table = root.optional_table("quantizer")) QuantizerTables(*table).fill(recipe);
}

}  // namespace ng::recipe_parts
