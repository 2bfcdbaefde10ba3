// SPDX-License-Identifier: Apache-2.0
//
// The plain kernels of the outlier split: bounds by counting, entries in the order of columns, sums in the order of
// entries.
#include "plain/outliers.hpp"

#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

struct Bounds {
  OutlierJob job;

  /// Number of elements of a scope, and element i of it.
  template <class Element>
  NG_HD OutlierBounds of(std::int64_t count, const Element& element) const {
    for (std::int64_t i = 0; i < count; ++i)
      if (is_nan_bits(bits_of(element(i)))) return {};
    if (count == 0) return {};
    const OutlierRanks ranks = outlier_ranks(job.spec.quantile, count);
    const auto key = [&](std::int64_t i) { return sort_key(element(i)); };
    return {value_of_sort_key(key_at_rank(count, ranks.low, key)),
            value_of_sort_key(key_at_rank(count, ranks.high, key))};
  }

  NG_HD void operator()(std::int64_t s) const {
    if (job.spec.scope == OutlierScope::row) {
      const Segment segment = segment_of(job, s);
      job.bounds[s] = of(segment.end - segment.begin,
                         [&](std::int64_t i) { return load_outlier(job, segment.line, segment.begin + i); });
    } else {
      const GroupExtent& group = job.groups[s];
      job.bounds[s] = of((group.end - group.begin) * job.x.cols, [&](std::int64_t i) {
        return load_real(job.x, group.begin + i / job.x.cols, i % job.x.cols);
      });
    }
  }
};

struct Count {
  OutlierJob job;
  NG_HD void operator()(std::int64_t s) const {
    const Segment segment = segment_of(job, s);
    const OutlierBounds bounds = bounds_of(job, s, segment);
    std::int64_t count = 0;
    for (std::int64_t i = segment.begin; i < segment.end; ++i)
      count += is_outlier(bounds, load_outlier(job, segment.line, i)) ? 1 : 0;
    job.positions[s + 1] = count;
  }
};

/// One thread: running sums.
struct Accumulate {
  std::int64_t* positions;
  std::int64_t segments;
  NG_HD void operator()(std::int64_t) const {
    positions[0] = 0;
    for (std::int64_t s = 0; s < segments; ++s) positions[s + 1] += positions[s];
  }
};

struct Split {
  OutlierJob job;
  NG_HD void operator()(std::int64_t s) const {
    const Segment segment = segment_of(job, s);
    const OutlierBounds bounds = bounds_of(job, s, segment);
    std::int64_t entry = job.columns != nullptr ? job.positions[s] : 0;
    for (std::int64_t i = segment.begin; i < segment.end; ++i) {
      const float value = load_outlier(job, segment.line, i);
      if (job.columns != nullptr && is_outlier(bounds, value)) store_residual(job, bounds, entry++, i, value);
      store_clamped(job, segment.line, i, clamp_outlier(bounds, value));
    }
  }
};

struct ResidualRows {
  const std::int64_t* positions;
  std::int64_t group_count;
  std::int64_t* row_pointers;
  NG_HD void operator()(std::int64_t line) const { row_pointers[line] = positions[line * group_count]; }
};

struct AddResidualProduct {
  ResidualView a;
  std::int64_t row0;
  TensorView b, out;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t m = i / out.cols;
    const std::int64_t n = i % out.cols;
    float* to = static_cast<float*>(out.data) + m * out.stride + n;
    float sum = *to;
    for (std::int64_t e = a.row_pointers[row0 + m]; e < a.row_pointers[row0 + m + 1]; ++e)
      sum = add_compensation(sum, a.value(e), load_real(b, n, a.columns[e]));
    *to = sum;
  }
};

struct AddResidual {
  ResidualView residual;
  TensorView decoded;
  NG_HD void operator()(std::int64_t r) const {
    float* row = static_cast<float*>(decoded.data) + r * decoded.stride;
    for (std::int64_t e = residual.row_pointers[r]; e < residual.row_pointers[r + 1]; ++e) {
      float& value = row[residual.columns[e]];
      value = add_rn(value, residual.value(e));
    }
  }
};

}  // namespace

void outlier_bounds(const OutlierJob& job, Stream stream) {
  for_each("outlier_bounds", job.spec.scope == OutlierScope::row ? job.segments : job.group_count, stream, Bounds{job});
}

void outlier_positions(const OutlierJob& job, Stream stream) {
  for_each("outlier_count", job.segments, stream, Count{job});
  for_each("outlier_positions", 1, stream, Accumulate{job.positions, job.segments});
}

void split_outliers(const OutlierJob& job, Stream stream) {
  for_each("split_outliers", job.segments, stream, Split{job});
}

void residual_rows(const OutlierJob& job, std::int64_t lines, std::int64_t* row_pointers, Stream stream) {
  for_each("residual_rows", lines + 1, stream, ResidualRows{job.positions, job.group_count, row_pointers});
}

void add_residual_product(const ResidualView& a, std::int64_t row0, const TensorView& b, const TensorView& out,
                          Stream stream) {
  for_each("add_residual_product", out.rows * out.cols, stream, AddResidualProduct{a, row0, b, out});
}

void add_residual(const ResidualView& residual, const TensorView& decoded, Stream stream) {
  for_each("add_residual", decoded.rows, stream, AddResidual{residual, decoded});
}

}  // namespace ng::cuda::plain
