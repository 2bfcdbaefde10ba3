// SPDX-License-Identifier: Apache-2.0
//
// Names and cuts of the Hugging Face releases, from their modeling files: projections of queries, keys and values, and
// gate and up projections, are tensors of their own; each expert has its own tensors; DeepSeek's rotated rows stand in
// pairs. All of them keep [out, in].
#include "weight_names.hpp"

#include <cstdlib>
#include <utility>

namespace ng {

namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// The names of one file's style.
class Release {
 public:
  Release(const ModelConfig& config, bool mixtral) : c_(config), mixtral_(mixtral) {}

  std::vector<WeightPiece> pieces(const Parameter& p) const {
    const std::size_t slash = p.name.find('/');
    if (slash == std::string::npos) {
      if (p.name == "embedding") return {whole(kEmbedding, p)};
      return {whole(p.name == "head" ? "lm_head.weight" : "model.norm.weight", p)};
    }
    const std::string layer = "model.layers." + p.name.substr(6, slash - 6) + ".";
    const std::string part = p.name.substr(slash + 1);
    return part.starts_with("attn_") || part.ends_with("_norm") ? attention(layer, part, p)
                                                                : feed_forward(layer, part, p);
  }

 private:
  static WeightPiece whole(std::string name, const Parameter& p) { return {std::move(name), p.shape, 0, {}}; }

  std::vector<WeightPiece> attention(const std::string& layer, const std::string& part, const Parameter& p) const {
    const std::string self = layer + "self_attn.";
    const PairedRows queries{c_.head_dim, c_.mla.rope_dim}, shared{c_.mla.kv_rank + c_.mla.rope_dim, c_.mla.rope_dim};
    if (part == "attn_norm") return {whole(layer + "input_layernorm.weight", p)};
    if (part == "ffn_norm") return {whole(layer + "post_attention_layernorm.weight", p)};
    if (part == "q_norm" || part == "k_norm") return {whole(self + part + ".weight", p)};
    if (part == "q_a_norm") return {whole(self + "q_a_layernorm.weight", p)};
    if (part == "kv_a_norm") return {whole(self + "kv_a_layernorm.weight", p)};
    if (part == "attn_out") return {whole(self + "o_proj.weight", p)};
    if (part == "attn_q") return {{self + "q_proj.weight", p.shape, 0, queries}};
    if (part == "attn_q_a") return {whole(self + "q_a_proj.weight", p)};
    if (part == "attn_q_b") return {{self + "q_b_proj.weight", p.shape, 0, queries}};
    if (part == "attn_kv_a") return {{self + "kv_a_proj_with_mqa.weight", p.shape, 0, shared}};
    if (part == "attn_kv_b") return {whole(self + "kv_b_proj.weight", p)};
    const std::int64_t q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
    return {{self + "q_proj.weight", {q, c_.hidden}, 0, {}},
            {self + "k_proj.weight", {kv, c_.hidden}, q, {}},
            {self + "v_proj.weight", {kv, c_.hidden}, q + kv, {}}};
  }

  /// Gate and up projection of one SwiGLU, or its down projection.
  void swiglu(const std::string& prefix, bool first, std::int64_t width, std::int64_t row,
              std::vector<WeightPiece>& list) const {
    const bool short_names = mixtral_;
    if (first) {
      list.push_back({prefix + (short_names ? "w1" : "gate_proj") + ".weight", {width, c_.hidden}, row, {}});
      list.push_back({prefix + (short_names ? "w3" : "up_proj") + ".weight", {width, c_.hidden}, row + width, {}});
    } else {
      list.push_back({prefix + (short_names ? "w2" : "down_proj") + ".weight", {c_.hidden, width}, row, {}});
    }
  }

  std::vector<WeightPiece> feed_forward(const std::string& layer, const std::string& part, const Parameter& p) const {
    const std::string mlp = layer + (mixtral_ ? "block_sparse_moe." : "mlp.");
    if (part == "router") return {whole(mlp + "gate.weight", p)};
    if (part == "router_bias") return {whole(mlp + "gate.e_score_correction_bias", p)};
    std::vector<WeightPiece> list;
    const bool first = part.ends_with("fc1");
    if (part.starts_with("shared_")) {
      swiglu(mlp + "shared_experts.", first, c_.shared_width(), 0, list);
    } else if (part.starts_with("dense_")) {
      swiglu(mlp, first, c_.dense_width, 0, list);
    } else {
      const std::int64_t rows = first ? 2 * c_.expert_width : c_.hidden;
      for (std::int64_t e = 0; e < c_.experts; ++e)
        swiglu(mlp + "experts." + std::to_string(e) + ".", first, c_.expert_width, e * rows, list);
    }
    return list;
  }

  const ModelConfig& c_;
  bool mixtral_;
};

}  // namespace

std::vector<std::vector<WeightPiece>> weight_pieces(const ModelConfig& config, const HasTensor& has) {
  const Release release(config,
                        has("model.layers." + std::to_string(config.dense_layers) + ".block_sparse_moe.gate.weight"));
  const bool own = !has(kEmbedding);
  std::vector<std::vector<WeightPiece>> pieces;
  for (const Parameter& p : describe_parameters(config)) {
    if (own)
      pieces.push_back({{p.name, p.shape, 0, {}}});
    else
      pieces.push_back(release.pieces(p));
  }
  return pieces;
}

bool is_surplus_weight(const ModelConfig& config, const std::string& name) {
  const std::string layers = "model.layers.";
  if (!name.starts_with(layers)) return false;
  return name.ends_with("rotary_emb.inv_freq") || std::atoll(name.c_str() + layers.size()) >= config.layers;
}

std::int64_t source_row(const PairedRows& pairs, std::int64_t r) {
  if (pairs.rotated == 0) return r;
  const std::int64_t start = r / pairs.head * pairs.head + pairs.head - pairs.rotated;
  if (r < start) return r;
  const std::int64_t half = pairs.rotated / 2, i = r - start;
  return start + (i < half ? 2 * i : 2 * (i - half) + 1);
}

}  // namespace ng
