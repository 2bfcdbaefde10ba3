// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of sampled products: one thread one gathered element, one group of a transform, or a stretch of a
// sum.
#include "plain/measure_product.hpp"

#include "narrowgauge/numerics/ieee_rn.hpp"
#include "plain/elements.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

constexpr std::int64_t kStretch = 64;  ///< products that one thread adds
constexpr int kPairs = 4;

struct GatherPieces {
  GatherJob job;
  NG_HD void operator()(std::int64_t i) const {
    const OperandPiece& piece = job.pieces[i / job.width];
    if (i % job.width >= piece.count) return;
    const std::int64_t k = piece.first + i % job.width;
    if (job.coded.codes != nullptr) {
      const DequantizeJob& q = job.coded;
      const std::uint32_t code = load_code(q.codes + piece.row * q.row_bytes, q.storage, static_cast<std::size_t>(k));
      job.to[i] = decoded_product(decode(q.spec.element, code), element_scale(q, piece.row, k).scale);
    } else {
      job.to[i] = job.orientation == Orientation::row ? load_real(job.x, piece.row, k) : load_real(job.x, k, piece.row);
    }
  }
};

struct TransformPieces {
  TransformJob job;
  std::int64_t per_piece;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t n = job.hadamard.size;
    const std::int64_t piece = i / per_piece;
    const std::int64_t first = i % per_piece * n;
    if (first >= job.pieces[piece].count) return;
    hadamard_transform(job.hadamard, job.signs, job.data + piece * job.width + first);
  }
};

struct SumProducts {
  ProductSumsJob job;
  std::int64_t stretches;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t first = i % stretches * kStretch;
    const std::int64_t sum = i / stretches;
    const int pair = static_cast<int>(sum % kPairs);
    const std::int64_t column = sum / kPairs % job.columns;
    const std::int64_t row = sum / kPairs / job.columns;
    const std::int64_t count = job.a_pieces[row].count;
    const std::int64_t last = first + kStretch < count ? first + kStretch : count;
    const float* a = job.a[pair] + row * job.width;
    const float* b = job.b[pair] + (job.b_piece[row] + column) * job.width;
    SumLimbs limbs;
    limbs.clear();
    for (std::int64_t k = first; k < last; ++k) limbs.add(mul_rn(static_cast<double>(a[k]), static_cast<double>(b[k])));
    for (int w = 0; w < SumLimbs::kWords; ++w)
      if (limbs.word[w] != 0) atomic_add(&job.sums[sum].word[w], limbs.word[w]);
  }
};

struct GatherGiven {
  GivenJob job;
  NG_HD void operator()(std::int64_t i) const {
    job.given[i] = load_real(job.out, job.rows[i / job.column_count], job.columns[i % job.column_count]);
  }
};

}  // namespace

void gather_pieces(const GatherJob& job, Stream stream) {
  for_each("gather_pieces", job.count * job.width, stream, GatherPieces{job});
}

void transform_pieces(const TransformJob& job, Stream stream) {
  const std::int64_t per_piece = (job.width + job.hadamard.size - 1) / job.hadamard.size;
  for_each("transform_pieces", job.count * per_piece, stream, TransformPieces{job, per_piece});
}

void sum_products(const ProductSumsJob& job, Stream stream) {
  const std::int64_t stretches = (job.width + kStretch - 1) / kStretch;
  for_each("sum_products", job.rows * job.columns * kPairs * stretches, stream, SumProducts{job, stretches});
}

void gather_given(const GivenJob& job, Stream stream) {
  for_each("gather_given", job.row_count * job.column_count, stream, GatherGiven{job});
}

}  // namespace ng::cuda::plain
