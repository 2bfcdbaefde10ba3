// SPDX-License-Identifier: Apache-2.0
//
// How the heads of a token lie in one row, and which norm queries and keys go through. Plain data; orders and roundings
// are written at the operations of Backend.
#pragma once

#include <cstdint>

namespace ng {

/// RMS norms of queries and keys before RoPE: none, of each head, or of all heads of a token at once.
enum class QkNorm : std::uint8_t { none, head, full };

/// A row of qkv is H query heads of D, G key heads of D, G value heads of Dv.
struct AttentionShape {
  std::int64_t sequences = 0;        ///< B
  std::int64_t sequence_length = 0;  ///< tokens per sequence
  std::int64_t heads = 0;            ///< H
  std::int64_t kv_heads = 0;         ///< G
  std::int64_t head_dim = 0;         ///< D
  std::int64_t value_dim = 0;        ///< Dv

  [[nodiscard]] std::int64_t tokens() const { return sequences * sequence_length; }
  [[nodiscard]] std::int64_t query_cols() const { return heads * head_dim; }
  [[nodiscard]] std::int64_t key_cols() const { return kv_heads * head_dim; }
  [[nodiscard]] std::int64_t value_cols() const { return kv_heads * value_dim; }
  [[nodiscard]] std::int64_t qkv_cols() const { return query_cols() + key_cols() + value_cols(); }
  [[nodiscard]] std::int64_t out_cols() const { return heads * value_dim; }
};

}  // namespace ng
