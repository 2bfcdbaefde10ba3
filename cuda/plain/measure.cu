// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of error sums: one thread one leaf, then one thread the tree of a row, then few threads that add
// rows without rounding.
#include "plain/measure.hpp"

#include "narrowgauge/quantize/measure_terms.hpp"
#include "plain/elements.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);
constexpr std::int64_t kRowsPerThread = 64;  ///< that one thread adds before others see its sum

struct MeasuredRows {
  Placement place;
  const GroupExtent* groups;
  std::int64_t group_count, size;
  std::uint8_t* measured;
  unsigned long long* count;
  NG_HD void operator()(std::int64_t r) const {
    const GroupExtent& group = groups[group_of_row(groups, group_count, r)];
    const std::int64_t first = group.begin + (r - group.begin) / size * size;
    const std::int64_t last = first + size < group.end ? first + size : group.end;
    measured[r] = holds_real_row(place.row_ids, place.rows, first, last) ? 1 : 0;
    if (measured[r] != 0) atomic_add(count, 1ull);
  }
};

/// Decoded value and limit of element (r, c) of the original.
struct ValueAndLimit {
  float value, limit;
};
NG_HD ValueAndLimit decoded_with_limit(const MeasureJob& job, std::int64_t r, std::int64_t c) {
  const DequantizeJob& q = job.coded;
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t row = row_form ? r : c;
  const std::int64_t col = row_form ? c : r;
  const ElementScale scale = element_scale(q, row, col);
  const float tensor = q.tensor_scales != nullptr ? q.tensor_scales[scale.group] : 1.0f;
  const float amax = q.tensor_amaxes != nullptr ? q.tensor_amaxes[scale.group] : 0.0f;
  return {job.decoded != nullptr ? job.decoded[row * q.cols + col] : decoded_element(q, row, col),
          block_limit(q.spec, scale.scale, tensor, amax)};
}

struct Leaf {
  std::int64_t row, number, begin, end;
};
NG_HD Leaf leaf_of(const RowPartials& partials, std::int64_t cols, std::int64_t i) {
  const std::int64_t number = i % partials.nodes;
  const std::int64_t begin = number * kLeaf;
  return {i / partials.nodes, number, begin, begin + kLeaf < cols ? begin + kLeaf : cols};
}

NG_HD void add_count(unsigned long long* to, std::int64_t count) {
  if (count != 0) atomic_add(to, static_cast<unsigned long long>(count));
}

struct ErrorLeaves {
  MeasureJob job;
  NG_HD void operator()(std::int64_t i) const {
    const Leaf leaf = leaf_of(job.partials, job.x.cols, i);
    if (!job.partials.counts(leaf.row)) return;
    ErrorTerms terms;
    for (std::int64_t c = leaf.begin; c < leaf.end; ++c) {
      const ValueAndLimit d = decoded_with_limit(job, leaf.row, c);
      terms.add(load_real(job.x, leaf.row, c), d.value, d.limit);
    }
    const double sums[kErrorSums] = {terms.error2,  terms.square,       terms.decoded2,
                                     terms.product, terms.signed_error, terms.absolute};
    for (int s = 0; s < kErrorSums; ++s) job.partials.of(s, leaf.row)[leaf.number] = sums[s];
    MeasureTotals& totals = *job.totals;
    add_count(&totals.nonzero, terms.nonzero);
    add_count(&totals.underflow, terms.underflow);
    add_count(&totals.saturated, terms.saturated);
    atomic_max(&totals.max_abs, bits_of(terms.max_abs));
    atomic_max(&totals.max_rel, bits_of(terms.max_rel));
  }
};

struct DoubleLeaves {
  MeasureJob job;
  const float* twice;
  NG_HD void operator()(std::int64_t i) const {
    const Leaf leaf = leaf_of(job.partials, job.x.cols, i);
    if (!job.partials.counts(leaf.row)) return;
    DoubleTerms terms;
    for (std::int64_t c = leaf.begin; c < leaf.end; ++c) {
      const std::int64_t at =
          job.coded.orientation == Orientation::row ? leaf.row * job.coded.cols + c : c * job.coded.cols + leaf.row;
      terms.add(load_real(job.x, leaf.row, c), job.decoded[at], twice[at]);
    }
    job.partials.of(0, leaf.row)[leaf.number] = terms.error2;
    job.partials.of(1, leaf.row)[leaf.number] = terms.total2;
    add_count(&job.totals->changed, terms.changed);
  }
};

/// The roots of the trees, each where its first node lay.
struct Roots {
  RowPartials partials;
  NG_HD void operator()(std::int64_t i) const {
    if (partials.counts(i % partials.rows))
      reduce_tree(partials.data + i * partials.nodes, static_cast<std::size_t>(partials.nodes));
  }
};

struct AddRoots {
  RowPartials partials;
  std::int64_t pieces;
  SumLimbs* sums;
  NG_HD void operator()(std::int64_t i) const {
    const int s = static_cast<int>(i / pieces);
    const std::int64_t first = i % pieces * kRowsPerThread;
    const std::int64_t last = first + kRowsPerThread < partials.rows ? first + kRowsPerThread : partials.rows;
    SumLimbs limbs;
    limbs.clear();
    for (std::int64_t r = first; r < last; ++r)
      if (partials.counts(r)) limbs.add(partials.of(s, r)[0]);
    for (int w = 0; w < SumLimbs::kWords; ++w)
      if (limbs.word[w] != 0) atomic_add(&sums[s].word[w], limbs.word[w]);
  }
};

}  // namespace

void measured_rows(const Placement& place, const GroupExtent* groups, std::int64_t group_count, std::int64_t rows,
                   std::int64_t size, std::uint8_t* measured, unsigned long long* count, Stream stream) {
  for_each("measured_rows", rows, stream, MeasuredRows{place, groups, group_count, size, measured, count});
}

void measure_errors(const MeasureJob& job, Stream stream) {
  for_each("measure_errors", job.partials.rows * job.partials.nodes, stream, ErrorLeaves{job});
}

void measure_doubles(const MeasureJob& job, const float* twice, Stream stream) {
  for_each("measure_doubles", job.partials.rows * job.partials.nodes, stream, DoubleLeaves{job, twice});
}

void add_rows(const RowPartials& partials, MeasuredSum first, int sums, MeasureTotals* totals, Stream stream) {
  if (partials.nodes > 1) for_each("sum_trees", sums * partials.rows, stream, Roots{partials});
  const std::int64_t pieces = (partials.rows + kRowsPerThread - 1) / kRowsPerThread;
  for_each("add_rows", sums * pieces, stream, AddRoots{partials, pieces, totals->sums + static_cast<int>(first)});
}

}  // namespace ng::cuda::plain
