// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of what stored scales and codes say: counts, logarithms, gaps, scaling-aware transposes.
#include "narrowgauge/quantize/measure_terms.hpp"
#include "narrowgauge/quantize/transpose_block.hpp"
#include "plain/measure.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);
constexpr std::int64_t kPiece = 64;  ///< codes or scales that one thread looks at

struct MeasuredTiles {
  DequantizeJob coded;
  const std::uint8_t* measured;
  std::int64_t height;
  std::uint8_t* tiles;
  NG_HD void operator()(std::int64_t i) const {
    const GroupExtent& group = coded.groups[group_of_tile(coded.groups, coded.group_count, i)];
    const std::int64_t begin = group.begin + (i - group.first_tile) * height;
    const std::int64_t end = height == 0 || begin + height > group.end ? group.end : begin + height;
    tiles[i] = 0;
    for (std::int64_t r = begin; r < end; ++r)
      if (measured[r] != 0) tiles[i] = 1;
  }
};

struct CountCodes {
  CountJob job;
  std::int64_t pieces;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / pieces;
    if (job.counted_rows != nullptr && job.counted_rows[row] == 0) return;
    const std::int64_t first = i % pieces * kPiece;
    const std::int64_t last = first + kPiece < job.cols ? first + kPiece : job.cols;
    for (std::int64_t c = first; c < last; ++c)
      if (job.counted_cols == nullptr || job.counted_cols[c] != 0)
        atomic_add(&job.counts[load_code(job.codes + row * job.row_bytes, job.storage, static_cast<std::size_t>(c))],
                   1ull);
  }
};

struct FloatScales {
  ScaleJob job;
  NG_HD void operator()(std::int64_t piece) const {
    const bool row_form = job.coded.orientation == Orientation::row;
    const std::int64_t count = job.scale_rows * job.coded.scale_cols;
    const std::int64_t last = (piece + 1) * kPiece < count ? (piece + 1) * kPiece : count;
    SumLimbs limbs;
    limbs.clear();
    unsigned long long counted = 0;
    for (std::int64_t i = piece * kPiece; i < last; ++i) {
      const std::int64_t tile = row_form ? i / job.coded.scale_cols : i % job.coded.scale_cols;
      const float scale = static_cast<const float*>(job.coded.scales)[i];
      if ((job.counted != nullptr && job.counted[tile] == 0) || !has_log(scale)) continue;
      limbs.add(log2_rn(static_cast<double>(scale)));
      ++counted;
      atomic_max(&job.totals->largest_scale, bits_of(scale));
      atomic_max(&job.totals->smallest_scale, ~bits_of(scale));
    }
    if (counted == 0) return;
    atomic_add(&job.totals->scale_count, counted);
    SumLimbs& sum = job.totals->sums[static_cast<int>(MeasuredSum::scale_log2)];
    for (int w = 0; w < SumLimbs::kWords; ++w)
      if (limbs.word[w] != 0) atomic_add(&sum.word[w], limbs.word[w]);
  }
};

/// Number of the stored scale of an element, in the axes of the form.
NG_HD std::int64_t scale_number(const DequantizeJob& q, std::int64_t row, std::int64_t col) {
  const bool row_form = q.orientation == Orientation::row;
  const GroupExtent& group = q.groups[group_of_row(q.groups, q.group_count, row_form ? row : col)];
  const std::int64_t along = row_form ? row : col;
  const std::int64_t height = row_form ? q.spec.tile_rows : q.spec.tile_cols;
  const std::int64_t width = row_form ? q.spec.tile_cols : q.spec.tile_rows;
  const std::int64_t i = group.first_tile + (height == 0 ? 0 : (along - group.begin) / height);
  const std::int64_t j = width == 0 ? 0 : (row_form ? col : row) / width;
  return row_form ? i * q.scale_cols + j : j * q.scale_cols + i;
}

NG_HD float stored_scale(const DequantizeJob& q, std::int64_t number) {
  return q.spec.scale_format == ScaleFormat::f32
             ? static_cast<const float*>(q.scales)[number]
             : stored_scale_value(q.spec.scale_format, static_cast<const std::uint8_t*>(q.scales)[number]);
}

struct ScaleLogs {
  ScaleJob job;
  NG_HD void operator()(std::int64_t i) const {
    const DequantizeJob& q = job.coded;
    const std::int64_t tile = q.orientation == Orientation::row ? i / q.scale_cols : i % q.scale_cols;
    const float tensor =
        q.tensor_scales != nullptr ? q.tensor_scales[group_of_tile(q.groups, q.group_count, tile)] : 1.0f;
    job.logs[i] = scale_log(stored_scale(q, i), tensor);
  }
};

struct GapLeaves {
  GapJob job;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / job.partials.nodes;
    if (!job.partials.counts(row)) return;
    const std::int64_t begin = i % job.partials.nodes * kLeaf;
    const std::int64_t end = begin + kLeaf < job.cols ? begin + kLeaf : job.cols;
    double sum = 0;
    unsigned long long count = 0;
    for (std::int64_t c = begin; c < end; ++c) {
      const double gap =
          scale_gap(job.row_logs[scale_number(job.row, row, c)], job.column_logs[scale_number(job.column, c, row)]);
      if (!(gap >= 0)) continue;  // NaN
      sum = add_rn(sum, gap);
      ++count;
    }
    job.partials.data[i] = sum;
    if (count != 0) atomic_add(&job.totals->gap_count, count);
  }
};

struct AllZeroTiles {
  TransposeJob job;
  NG_HD void operator()(std::int64_t i) const {
    const DequantizeJob& q = job.coded;
    const std::int64_t first = i % job.tiles * job.tile;
    const std::int64_t last = first + job.tile < q.cols ? first + job.tile : q.cols;
    const std::uint8_t* row = q.codes + i / job.tiles * q.row_bytes;
    job.all_zero[i] = 1;
    for (std::int64_t c = first; c < last; ++c)
      if ((load_code(row, q.storage, static_cast<std::size_t>(c)) & magnitude_mask(q.spec.element)) != 0)
        job.all_zero[i] = 0;
  }
};

/// Squares of one row in one tile, both methods; tiles with a scale that is no power of two are left out.
struct TransposeTiles {
  TransposeJob job;
  NG_HD void operator()(std::int64_t i) const {
    const DequantizeJob& q = job.coded;
    const std::int64_t row = i / job.tiles;
    const std::int64_t tile = i % job.tiles;
    const GroupExtent& group = q.groups[group_of_row(q.groups, q.group_count, row)];
    const std::int64_t row0 = group.begin + (row - group.begin) / job.tile * job.tile;
    const std::int64_t rows = row0 + job.tile < group.end ? job.tile : group.end - row0;
    const auto scale_at = [&](std::int64_t r) {
      return stored_scale(q, (group.first_tile + r - group.begin) * q.scale_cols + tile);
    };
    const auto exponent = [&](std::int64_t r) { return exponent_of_bits(bits_of(scale_at(row0 + r))); };
    const auto all_zero = [&](std::int64_t r) { return job.all_zero[(row0 + r) * job.tiles + tile] != 0; };
    bool powers = true;
    for (std::int64_t r = row0; r < row0 + rows; ++r) powers = powers && is_power_of_two(scale_at(r));
    const std::int64_t first = tile * job.tile;
    const std::int64_t last = first + job.tile < q.cols ? first + job.tile : q.cols;
    for (int m = 0; m < kTransposeSums; ++m) {
      double sum = 0;
      if (powers) {
        const TransposeMethod method = m == 0 ? TransposeMethod::exact : TransposeMethod::published;
        const std::int64_t from = transpose_scale_row(method, rows, exponent, all_zero);
        const float scale = scale_at(row0 + from);
        for (std::int64_t c = first; c < last; ++c) {
          const std::uint32_t code = load_code(q.codes + row * q.row_bytes, q.storage, static_cast<std::size_t>(c));
          const std::uint32_t turned =
              transposed_code(method, q.spec.element, code, exponent(row - row0), exponent(from));
          const float before = job.decoded != nullptr ? job.decoded[row * q.cols + c] : decoded_element(q, row, c);
          const double error = sub_rn(static_cast<double>(decoded_product(decode(q.spec.element, turned), scale)),
                                      static_cast<double>(before));
          sum = add_rn(sum, mul_rn(error, error));
        }
      }
      job.squares[m * q.rows * job.tiles + i] = sum;
    }
    if (powers && job.partials.counts(row))
      atomic_add(&job.totals->transpose_count, static_cast<unsigned long long>(last - first));
  }
};

struct TransposeRows {
  TransposeJob job;
  NG_HD void operator()(std::int64_t i) const {
    double sum = 0;
    for (std::int64_t t = 0; t < job.tiles; ++t) sum = add_rn(sum, job.squares[i * job.tiles + t]);
    job.partials.data[i] = sum;
  }
};

}  // namespace

void measured_tiles(const DequantizeJob& coded, const std::uint8_t* measured, std::int64_t tile_height,
                    std::int64_t tile_count, std::uint8_t* tiles, Stream stream) {
  for_each("measured_tiles", tile_count, stream, MeasuredTiles{coded, measured, tile_height, tiles});
}

void count_codes(const CountJob& job, Stream stream) {
  const std::int64_t pieces = (job.cols + kPiece - 1) / kPiece;
  for_each("count_codes", job.rows * pieces, stream, CountCodes{job, pieces});
}

void measure_scales(const ScaleJob& job, Stream stream) {
  const std::int64_t count = job.scale_rows * job.coded.scale_cols;
  for_each("measure_scales", (count + kPiece - 1) / kPiece, stream, FloatScales{job});
}

void scale_logs(const ScaleJob& job, Stream stream) {
  for_each("scale_logs", job.scale_rows * job.coded.scale_cols, stream, ScaleLogs{job});
}

void measure_gap(const GapJob& job, Stream stream) {
  for_each("measure_gap", job.partials.rows * job.partials.nodes, stream, GapLeaves{job});
}

void measure_transposes(const TransposeJob& job, Stream stream) {
  const std::int64_t tiles = job.coded.rows * job.tiles;
  for_each("transpose_all_zero", tiles, stream, AllZeroTiles{job});
  for_each("transpose_tiles", tiles, stream, TransposeTiles{job});
  for_each("transpose_rows", kTransposeSums * job.coded.rows, stream, TransposeRows{job});
}

}  // namespace ng::cuda::plain
