// SPDX-License-Identifier: Apache-2.0
//
// Reading, checking and counting a model configuration.
#include "narrowgauge/model/model_config.hpp"

#include <fmt/format.h>

#include <functional>
#include <utility>
#include <vector>

#include "narrowgauge/base/error.hpp"

namespace ng {
namespace {

constexpr std::int64_t kLargestExtent = std::int64_t{1} << 24;
constexpr double kMostParameters = 1e15;

// Names of the choices, by the values of their enums.
const std::vector<std::string> kQkNorms = {"none", "head", "full"};
const std::vector<std::string> kGates = {"softmax", "sigmoid"};
const std::vector<std::string> kGroupScores = {"max", "top2_sum"};
const std::vector<std::string> kBalances = {"batch", "sequence"};
const std::vector<std::string> kDrops = {"probability", "position"};

template <class E>
E choice(const TomlTable& table, const char* key, const std::vector<std::string>& names, E fallback) {
  return static_cast<E>(table.optional_choice(key, names, static_cast<std::size_t>(fallback)));
}
template <class E>
Json name_in(const std::vector<std::string>& names, E value) {
  return Json(names[static_cast<std::size_t>(value)]);
}

struct Count {
  std::int64_t total = 0;
  std::int64_t active = 0;
};

/// Matrices and gains of attention in one layer, but for the norm before it.
std::int64_t attention_parameters(const ModelConfig& c) {
  const std::int64_t out = c.hidden * c.attention_width();
  if (!c.mla.present()) {
    const std::int64_t gains = c.qk_norm == QkNorm::none   ? 0
                               : c.qk_norm == QkNorm::head ? 2 * c.head_dim
                                                           : (c.heads + c.kv_heads) * c.head_dim;
    return out + c.hidden * c.qkv_width() + gains;
  }
  const LatentAttention& m = c.mla;
  const std::int64_t queries = c.heads * c.head_dim;
  const std::int64_t q = m.q_rank > 0 ? c.hidden * m.q_rank + m.q_rank + m.q_rank * queries : c.hidden * queries;
  const std::int64_t kv =
      c.hidden * (m.kv_rank + m.rope_dim) + m.kv_rank + m.kv_rank * c.heads * (m.nope_dim + m.value_dim);
  return out + q + kv;
}

Count count_parameters(const ModelConfig& c) {
  Count n;
  const auto both = [&n](std::int64_t parameters) {
    n.total += parameters;
    n.active += parameters;
  };
  both(c.vocabulary * c.hidden * (c.tied_head ? 1 : 2) + c.hidden);  // embedding, head, final_norm
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    both(2 * c.hidden + attention_parameters(c));
    if (c.is_dense(layer)) {
      both(3 * c.hidden * c.dense_width);
      continue;
    }
    const std::int64_t expert = 3 * c.hidden * c.expert_width;
    both(c.hidden * c.experts + 3 * c.hidden * c.shared_width());
    n.total += c.experts * expert;
    n.active += c.top_k * expert;
  }
  return n;
}

using Fail = std::function<void(const char* key, const std::string& message)>;

void check_router(const ModelConfig& c, const Fail& fail) {
  if (c.routed_scaling <= 0.0) fail("routed_scaling", fmt::format("{} is not above 0", c.routed_scaling));
  if (c.route_groups_kept > c.route_groups)
    fail("route_groups_kept", fmt::format("{} is more than route_groups = {}", c.route_groups_kept, c.route_groups));
  if (c.experts % c.route_groups != 0)
    fail("route_groups", fmt::format("{} does not divide experts = {}", c.route_groups, c.experts));
  const std::int64_t in_group = c.experts / c.route_groups;
  if (c.route_groups_kept * in_group < c.top_k)
    fail("route_groups_kept",
         fmt::format("{} groups of {} experts are fewer than top_k = {}", c.route_groups_kept, in_group, c.top_k));
  if (c.group_score == GroupScore::top2_sum && in_group < 2)
    fail("group_score", fmt::format("top2_sum needs groups of two experts or more; {} groups of {} have one",
                                    c.route_groups, c.experts));
}

void check_latent_attention(const ModelConfig& c, const Fail& fail) {
  if (c.mla.rope_dim % 2 != 0) fail("mla.rope_dim", fmt::format("{} is odd; RoPE turns pairs", c.mla.rope_dim));
  if (c.kv_heads != c.heads)
    fail("kv_heads", fmt::format("is {}; with [mla] every head has a key of its own: heads = {}", c.kv_heads, c.heads));
  if (c.head_dim != c.mla.nope_dim + c.mla.rope_dim)
    fail("head_dim",
         fmt::format("is {}; with [mla] it is nope_dim + rope_dim = {}", c.head_dim, c.mla.nope_dim + c.mla.rope_dim));
  if (c.qk_norm != QkNorm::none) fail("qk_norm", "goes with attn_qkv; [mla] norms its latents instead");
}

void check_config(const ModelConfig& c, const Fail& fail) {
  if (c.mla.present())
    check_latent_attention(c, fail);
  else if (c.head_dim % 2 != 0)
    fail("head_dim", fmt::format("{} is odd; RoPE turns pairs", c.head_dim));
  if (c.heads % c.kv_heads != 0) fail("kv_heads", fmt::format("{} does not divide heads = {}", c.kv_heads, c.heads));
  if (c.dense_layers > c.layers)
    fail("dense_layers", fmt::format("{} is more than layers = {}", c.dense_layers, c.layers));
  if (c.dense_layers > 0 && c.dense_width == 0) fail("dense_width", "is 0 although dense_layers is not");
  if (c.dense_layers == 0 && c.dense_width != 0) fail("dense_width", "is not 0 although dense_layers is");
  const bool moe = c.dense_layers < c.layers;
  if (moe && c.experts < 1) fail("experts", "is 0 although a layer has experts");
  if (moe && c.top_k < 1) fail("top_k", "is 0 although a layer has experts");
  if (moe && c.expert_width < 1) fail("expert_width", "is 0 although a layer has experts");
  if (c.top_k > c.experts) fail("top_k", fmt::format("{} is more than experts = {}", c.top_k, c.experts));
  if (moe) check_router(c, fail);
  // In double: the exact count of what is refused here need not fit into 64 bits.
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  const double latent = real(c.mla.q_rank) + real(c.mla.kv_rank) + real(c.mla.rope_dim);
  const double width = real(c.qkv_width()) + real(c.attention_width()) + latent +
                       3 * (real(c.dense_width) + real(c.shared_width()) + real(c.experts) * real(c.expert_width));
  const double parameters = real(c.hidden) * (real(c.layers) * width + 2 * real(c.vocabulary));
  if (parameters > kMostParameters)
    fail("hidden",
         fmt::format("makes a model of {:.2g} parameters; valid: at most {:.2g}", parameters, kMostParameters));
}

}  // namespace

ModelConfig ModelConfig::from_document(const TomlDocument& document) {
  const TomlTable t = document.root();
  ModelConfig c;
  c.name = t.get_string("name");
  if (c.name.empty()) t.fail("name", "is empty");
  c.vocabulary = t.get_int("vocabulary", 2, kLargestExtent);
  c.layers = t.get_int("layers", 1, 4096);
  c.hidden = t.get_int("hidden", 1, kLargestExtent);
  c.heads = t.get_int("heads", 1, 65536);
  c.kv_heads = t.get_int("kv_heads", 1, 65536);
  c.head_dim = t.get_int("head_dim", 2, 65536);
  if (const auto mla = t.optional_table("mla")) {
    c.mla.q_rank = mla->get_int("q_rank", 0, kLargestExtent);
    c.mla.kv_rank = mla->get_int("kv_rank", 1, kLargestExtent);
    c.mla.nope_dim = mla->get_int("nope_dim", 0, 65536);
    c.mla.rope_dim = mla->get_int("rope_dim", 2, 65536);
    c.mla.value_dim = mla->get_int("value_dim", 1, 65536);
  }
  c.qk_norm = choice(t, "qk_norm", kQkNorms, c.qk_norm);
  c.rope_theta = t.get_double("rope_theta", 1.0);
  c.norm_epsilon = t.get_double("norm_epsilon", 0.0, 1.0);
  c.dense_layers = t.get_int("dense_layers", 0);
  c.dense_width = t.get_int("dense_width", 0, kLargestExtent);
  c.experts = t.get_int("experts", 0, 65536);
  c.top_k = t.get_int("top_k", 0, 65536);
  c.expert_width = t.get_int("expert_width", 0, kLargestExtent);
  c.shared_experts = t.get_int("shared_experts", 0, 1024);
  c.gate = choice(t, "gate", kGates, c.gate);
  c.renormalize = t.get_bool("renormalize");
  c.routed_scaling = t.optional_double("routed_scaling", c.routed_scaling, 0.0, 1e6);
  c.route_groups = t.optional_int("route_groups", c.route_groups, 1, 65536);
  c.route_groups_kept = t.optional_int("route_groups_kept", c.route_groups_kept, 1, 65536);
  c.group_score = choice(t, "group_score", kGroupScores, c.group_score);
  c.bias_rate = t.optional_double("bias_rate", c.bias_rate, 0.0, 1e6);
  c.capacity_factor = t.optional_double("capacity_factor", c.capacity_factor, 0.0, 1e6);
  c.drop = choice(t, "drop", kDrops, c.drop);
  c.aux_coefficient = t.get_double("aux_coefficient", 0.0);
  c.balance = choice(t, "balance", kBalances, c.balance);
  c.z_coefficient = t.get_double("z_coefficient", 0.0);
  c.tied_head = t.get_bool("tied_head");
  c.init_std = t.get_double("init_std", 0.0);
  c.context = t.get_int("context", 1, kLargestExtent);
  document.finish();
  check_config(c, [&t](const char* key, const std::string& message) { t.fail(key, message); });
  return c;
}

ModelConfig ModelConfig::from_file(const std::filesystem::path& path) {
  return from_document(TomlDocument::from_file(path));
}

ModelConfig ModelConfig::from_text(std::string name, std::string text) {
  return from_document(TomlDocument::from_text(std::move(name), std::move(text)));
}

void ModelConfig::check() const {
  check_config(*this, [this](const char* key, const std::string& message) {
    throw UserError(fmt::format("model {}: key '{}': {}", name, key, message));
  });
}

std::int64_t ModelConfig::total_parameters() const {
  return count_parameters(*this).total;
}
std::int64_t ModelConfig::active_parameters() const {
  return count_parameters(*this).active;
}

ModelShape ModelConfig::shape() const {
  ModelShape shape;
  shape.name = name;
  shape.layers = layers;
  shape.dense_layers = dense_layers;
  shape.shared_experts = shared_experts > 0;
  const auto set = [&shape](Linear which, std::int64_t out, std::int64_t in, double uses) {
    shape.linear[static_cast<std::size_t>(which)] = {out, in, uses};
  };
  if (mla.present()) {
    const std::int64_t queries = heads * head_dim;
    if (mla.q_rank > 0) {
      set(Linear::attn_q_a, mla.q_rank, hidden, 1);
      set(Linear::attn_q_b, queries, mla.q_rank, 1);
    } else {
      set(Linear::attn_q, queries, hidden, 1);
    }
    set(Linear::attn_kv_a, mla.kv_rank + mla.rope_dim, hidden, 1);
    set(Linear::attn_kv_b, heads * (mla.nope_dim + mla.value_dim), mla.kv_rank, 1);
  } else {
    set(Linear::attn_qkv, qkv_width(), hidden, 1);
  }
  set(Linear::attn_out, hidden, attention_width(), 1);
  set(Linear::router, experts, hidden, 1);
  set(Linear::fc1, 2 * expert_width, hidden, static_cast<double>(top_k));
  set(Linear::fc2, hidden, expert_width, static_cast<double>(top_k));
  set(Linear::shared_fc1, 2 * shared_width(), hidden, 1);
  set(Linear::shared_fc2, hidden, shared_width(), 1);
  set(Linear::dense_fc1, 2 * dense_width, hidden, 1);
  set(Linear::dense_fc2, hidden, dense_width, 1);
  set(Linear::embedding, vocabulary, hidden, 0);
  set(Linear::head, vocabulary, hidden, 1);
  return shape;
}

Json ModelConfig::to_json() const {
  const Json latent = !mla.present() ? Json()
                                     : Json::object({
                                           {"q_rank", mla.q_rank},
                                           {"kv_rank", mla.kv_rank},
                                           {"nope_dim", mla.nope_dim},
                                           {"rope_dim", mla.rope_dim},
                                           {"value_dim", mla.value_dim},
                                       });
  return Json::object({
      {"vocabulary", vocabulary},
      {"layers", layers},
      {"hidden", hidden},
      {"heads", heads},
      {"kv_heads", kv_heads},
      {"head_dim", head_dim},
      {"mla", latent},
      {"qk_norm", name_in(kQkNorms, qk_norm)},
      {"rope_theta", rope_theta},
      {"norm_epsilon", norm_epsilon},
      {"dense_layers", dense_layers},
      {"dense_width", dense_width},
      {"experts", experts},
      {"top_k", top_k},
      {"expert_width", expert_width},
      {"shared_experts", shared_experts},
      {"gate", name_in(kGates, gate)},
      {"renormalize", renormalize},
      {"routed_scaling", routed_scaling},
      {"route_groups", route_groups},
      {"route_groups_kept", route_groups_kept},
      {"group_score", name_in(kGroupScores, group_score)},
      {"bias_rate", bias_rate},
      {"capacity_factor", capacity_factor},
      {"drop", name_in(kDrops, drop)},
      {"aux_coefficient", aux_coefficient},
      {"balance", name_in(kBalances, balance)},
      {"z_coefficient", z_coefficient},
      {"tied_head", tied_head},
      {"init_std", init_std},
      {"context", context},
  });
}

}  // namespace ng
