// SPDX-License-Identifier: Apache-2.0
//
// The choice of sampled elements, the same on every backend.
#include "narrowgauge/backend/product_samples.hpp"

#include <algorithm>

#include "narrowgauge/base/check.hpp"

namespace ng {

const TensorView& original_of(const Form& form) {
  NG_CHECK(form.original.view.data != nullptr, "a product is looked at whose operands have lost their originals");
  return form.original.view;
}

ProductSamples product_samples(const ProductEvent& event, const std::int64_t* logical_rows) {
  const bool wgrad = event.gemm == Gemm::wgrad;
  const TensorView& out = event.out;
  const RowGroups& groups = event.groups;
  const TensorView& a = original_of(event.a);
  const std::int64_t depth = event.a.orientation == Orientation::column ? a.rows : a.cols;
  ProductSamples samples;
  const std::vector<std::int64_t> wanted = sampled_indices(wgrad ? out.rows : out.placement.rows, kSampledRows);
  samples.columns = sampled_indices(out.cols, kSampledColumns);
  const std::int64_t height = wgrad ? out.rows / groups.count() : 0;
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t first = wgrad ? g * height : groups.begin(g, out.rows);
    const std::int64_t last = wgrad ? first + height : groups.end(g, out.rows);
    for (std::int64_t r = first; r < last; ++r) {
      const bool has_ids = !wgrad && out.placement.row_ids != nullptr;
      const std::int64_t logical = wgrad ? r : has_ids ? logical_rows[r] : out.placement.row0 + r;
      const auto found = std::lower_bound(wanted.begin(), wanted.end(), logical);
      if (found == wanted.end() || *found != logical) continue;
      samples.rows.push_back({r, logical, g, found - wanted.begin(), r - first + (wgrad ? 0 : first),
                              wgrad ? groups.begin(g, depth) : 0, wgrad ? groups.end(g, depth) : depth,
                              event.gemm == Gemm::fprop ? g * out.cols : 0, event.gemm == Gemm::dgrad ? g * depth : 0});
    }
  }
  return samples;
}

ProductElement sampled_element(const ProductEvent& event, const ProductSamples& samples, std::size_t i, std::size_t j,
                               const UnroundedSum* sums, double scale_a, double scale_b, float given) {
  const ProductSamples::Row& row = samples.rows[i];
  const std::int64_t column = samples.columns[j];
  const Placement& place = event.out.placement;
  const auto scaled = [&](ProductSamples::Pair pair, double scale) {
    return scale == 1.0 ? sums[pair] : UnroundedSum(sums[pair].value() * scale);
  };
  ProductElement element;
  element.place = row.logical * place.cols + place.col0 + column;
  element.exact = scaled(ProductSamples::kExact, scale_a * scale_b);
  element.plain = scaled(ProductSamples::kPlain, 1.0);
  element.first = scaled(ProductSamples::kFirst, scale_a);
  element.second = scaled(ProductSamples::kSecond, scale_b);
  element.given += static_cast<double>(given);
  if (!event.before.empty())
    element.given += -static_cast<double>(event.before[static_cast<std::size_t>(row.sample * event.out.cols + column)]);
  return element;
}

}  // namespace ng
