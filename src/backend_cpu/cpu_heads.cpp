// SPDX-License-Identifier: Apache-2.0
//
// What happens to the heads of a row before attention: rotation, norms of queries and keys, and the heads of latent
// attention. Rows in pieces; sums that run down the rows in pieces of columns.
#include <algorithm>
#include <array>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

void check_table(const AttentionShape& shape, const TensorView& table) {
  NG_CHECK_EQ(table.cols % 2, 0, "RoPE turns pairs");
  NG_CHECK(table.dtype == Dtype::f32, "the table of angles is f32");
  NG_CHECK_EQ(table.rows, shape.sequence_length);
}

const float* angles_of(const AttentionShape& shape, const TensorView& table, std::int64_t token) {
  return reinterpret_cast<const float*>(table.row(token % shape.sequence_length));
}

/// Columns of qkv that are normalised as one, `width` wide, sharing one gain: the queries, or the keys.
struct NormedCols {
  std::int64_t first;
  std::int64_t count;
  std::int64_t width;
  std::int64_t rstd_col;
};

std::array<NormedCols, 2> normed_cols(const AttentionShape& shape, QkNorm kind) {
  NG_CHECK(kind != QkNorm::none);
  const std::int64_t D = shape.head_dim, H = shape.heads, G = shape.kv_heads;
  if (kind == QkNorm::head) return {{{0, H, D, 0}, {H * D, G, D, H}}};
  return {{{0, 1, H * D, 0}, {H * D, 1, G * D, 1}}};
}

/// Where the parts of a head of latent attention lie; offsets in a row of qkv, q and kv.
struct LatentCols {
  std::int64_t H, D, R, N, V;  ///< heads, head_dim, rotated, not rotated, value_dim

  LatentCols(const AttentionShape& shape, const TensorView& table)
      : H(shape.heads), D(shape.head_dim), R(table.cols), N(D - R), V(shape.value_dim) {
    NG_CHECK_EQ(shape.kv_heads, H, "latent attention has a key for each query head");
    NG_CHECK(N >= 0, R, " rotated columns of ", D);
    check_table(shape, table);
  }
  std::int64_t query(std::int64_t h) const { return h * D; }
  std::int64_t key(std::int64_t h) const { return (H + h) * D; }
  std::int64_t value(std::int64_t h) const { return 2 * H * D + h * V; }
  std::int64_t kv(std::int64_t h) const { return h * (N + V); }
  std::int64_t kv_cols() const { return H * (N + V); }
};

}  // namespace

void CpuBackend::rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) {
  const std::int64_t D = shape.head_dim;
  const std::int64_t turned = shape.heads + shape.kv_heads;
  check_table(shape, table);
  NG_CHECK_EQ(table.cols, D);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  const TensorView heads = col_slice(qkv, 0, turned * D);
  pool_.parallel_ranges(qkv.rows, piece_rows(qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess rows(kernels_, heads);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const angles = angles_of(shape, table, t);
      float* const row = rows.load(t);
      for (std::int64_t h = 0; h < turned; ++h) kernels_.rope(angles, inverse, row + h * D, D);
      rows.store(t);
    }
  });
}

void CpuBackend::qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                         const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) {
  const auto parts = normed_cols(shape, kind);
  const std::int64_t normed = shape.query_cols() + shape.key_cols();
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(out, qkv.rows, qkv.cols);
  check_shape(rstd, qkv.rows, parts[0].count + parts[1].count);
  NG_CHECK(rstd.dtype == Dtype::f32, "saved norms are f32");
  const float* const gains[] = {list_of_floats(q_gain, parts[0].width), list_of_floats(k_gain, parts[1].width)};
  pool_.parallel_ranges(qkv.rows, piece_rows(qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess from(kernels_, qkv), to(kernels_, out);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = from.load(t);
      float* const y = to.target(t);
      float* const saved = reinterpret_cast<float*>(rstd.row(t));
      for (std::size_t i = 0; i < parts.size(); ++i)
        for (std::int64_t n = 0; n < parts[i].count; ++n) {
          const std::int64_t col = parts[i].first + n * parts[i].width;
          saved[parts[i].rstd_col + n] = kernels_.rms_norm(x + col, gains[i], epsilon, y + col, parts[i].width);
        }
      std::copy(x + normed, x + qkv.cols, y + normed);
      to.store(t);
    }
  });
}

void CpuBackend::qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv,
                                  const TensorView& q_gain, const TensorView& k_gain, const TensorView& rstd,
                                  const TensorView& d_qkv, const TensorView& d_q_gain, const TensorView& d_k_gain) {
  const auto parts = normed_cols(shape, kind);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(d_qkv, qkv.rows, qkv.cols);
  check_shape(rstd, qkv.rows, parts[0].count + parts[1].count);
  NG_CHECK(rstd.dtype == Dtype::f32, "saved norms are f32");
  const TensorView gain_views[] = {q_gain, k_gain}, gradient_views[] = {d_q_gain, d_k_gain};
  const auto saved = [&](std::int64_t t) { return reinterpret_cast<const float*>(rstd.row(t)); };
  // 1. Gains, from the gradient of the outputs.
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const NormedCols& part = parts[i];
    float* const d_gain = list_of_floats(gradient_views[i], part.width);
    pool_.parallel_ranges(part.width, kPieceCols, [&](std::int64_t begin, std::int64_t end) {
      std::vector<RowAccess> x, dy;
      for (std::int64_t n = 0; n < part.count; ++n) {
        const std::int64_t col = part.first + n * part.width + begin;
        x.emplace_back(kernels_, col_slice(qkv, col, end - begin));
        dy.emplace_back(kernels_, col_slice(d_qkv, col, end - begin));
      }
      for (std::int64_t t = 0; t < qkv.rows; ++t)
        for (std::int64_t n = 0; n < part.count; ++n) {
          const std::size_t head = static_cast<std::size_t>(n);
          kernels_.gain_gradient(x[head].load(t), saved(t)[part.rstd_col + n], dy[head].load(t), d_gain + begin,
                                 end - begin);
        }
    });
  }
  // 2. Inputs, in place.
  const float* const gains[] = {list_of_floats(gain_views[0], parts[0].width),
                                list_of_floats(gain_views[1], parts[1].width)};
  const TensorView d_normed = col_slice(d_qkv, 0, shape.query_cols() + shape.key_cols());
  pool_.parallel_ranges(qkv.rows, piece_rows(qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess from(kernels_, qkv), gradient(kernels_, d_normed);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = from.load(t);
      float* const d = gradient.load(t);
      for (std::size_t i = 0; i < parts.size(); ++i)
        for (std::int64_t n = 0; n < parts[i].count; ++n) {
          const std::int64_t col = parts[i].first + n * parts[i].width;
          kernels_.rms_norm_backward(x + col, gains[i], saved(t)[parts[i].rstd_col + n], d + col, d + col, false,
                                     parts[i].width);
        }
      gradient.store(t);
    }
  });
}

void CpuBackend::latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q,
                              const TensorView& kv, const TensorView& shared_key, const TensorView& qkv) {
  const LatentCols at(shape, table);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(q, qkv.rows, shape.query_cols());
  check_shape(kv, qkv.rows, at.kv_cols());
  check_shape(shared_key, qkv.rows, at.R);
  pool_.parallel_ranges(qkv.rows, piece_rows(qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess q_rows(kernels_, q), kv_rows(kernels_, kv), key_rows(kernels_, shared_key), out(kernels_, qkv);
    const FloatScratch turned(at.R);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const angles = angles_of(shape, table, t);
      const float* const queries = q_rows.load(t);
      const float* const latent = kv_rows.load(t);
      float* const row = out.target(t);
      std::copy_n(key_rows.load(t), at.R, turned.get());
      kernels_.rope(angles, false, turned.get(), at.R);
      std::copy_n(queries, shape.query_cols(), row);
      for (std::int64_t h = 0; h < at.H; ++h) {
        kernels_.rope(angles, false, row + at.query(h) + at.N, at.R);
        std::copy_n(latent + at.kv(h), at.N, row + at.key(h));
        std::copy_n(turned.get(), at.R, row + at.key(h) + at.N);
        std::copy_n(latent + at.kv(h) + at.N, at.V, row + at.value(h));
      }
      out.store(t);
    }
  });
}

void CpuBackend::latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                                       const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) {
  const LatentCols at(shape, table);
  check_shape(d_qkv, shape.tokens(), shape.qkv_cols());
  check_shape(d_q, d_qkv.rows, shape.query_cols());
  check_shape(d_kv, d_qkv.rows, at.kv_cols());
  check_shape(d_shared_key, d_qkv.rows, at.R);
  pool_.parallel_ranges(d_qkv.rows, piece_rows(d_qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess from(kernels_, d_qkv), q_rows(kernels_, d_q), kv_rows(kernels_, d_kv),
        key_rows(kernels_, d_shared_key);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const angles = angles_of(shape, table, t);
      const float* const row = from.load(t);
      float* const queries = q_rows.target(t);
      float* const latent = kv_rows.target(t);
      float* const key = key_rows.target(t);
      std::copy_n(row, shape.query_cols(), queries);
      for (std::int64_t h = 0; h < at.H; ++h) {
        kernels_.rope(angles, true, queries + at.query(h) + at.N, at.R);
        std::copy_n(row + at.key(h), at.N, latent + at.kv(h));
        std::copy_n(row + at.value(h), at.V, latent + at.kv(h) + at.N);
        if (h == 0)
          std::copy_n(row + at.key(h) + at.N, at.R, key);
        else
          kernels_.add(key, row + at.key(h) + at.N, key, at.R);
      }
      kernels_.rope(angles, true, key, at.R);
      q_rows.store(t);
      kv_rows.store(t);
      key_rows.store(t);
    }
  });
}

}  // namespace ng::cpu
