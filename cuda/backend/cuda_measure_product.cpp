// SPDX-License-Identifier: Apache-2.0
//
// Sampled elements of a product on the GPU: the rows of the operands that they need are gathered, decoded or
// transformed, and summed without rounding where they lie. To the host come the sums of the sampled elements and the
// ids of the output's rows.
#include <algorithm>
#include <vector>

#include "backend/cuda_backend.hpp"
#include "backend/cuda_quantizer.hpp"
#include "narrowgauge/backend/product_samples.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/measure_product.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

/// The sampled rows of one operand: as the product took them, as its quantizer was given them, as they were before any
/// transform; [pieces, width] each.
struct GatheredOperand {
  Buffer quantized, transformed, plain;
  std::vector<float> tensor_scales;  ///< of each group, still to be applied to `quantized`; empty without

  [[nodiscard]] double scale(std::int64_t group) const {
    return tensor_scales.empty() ? 1.0 : static_cast<double>(tensor_scales[static_cast<std::size_t>(group)]);
  }
};

GatheredOperand gather(const StepContext& context, const Form& form, const Buffer& pieces, std::int64_t count,
                       std::int64_t width) {
  GatheredOperand result;
  const std::size_t bytes = static_cast<std::size_t>(count * width) * sizeof(float);
  GatherJob job;
  job.orientation = form.orientation;
  job.pieces = pieces.as<OperandPiece>();
  job.count = count;
  job.width = width;
  const auto gathered = [&](const GatherJob& from) {
    Buffer memory = allocate(bytes);
    GatherJob to = from;
    to.to = memory.as<float>();
    plain::gather_pieces(to, nullptr);
    return memory;
  };
  job.x = original_of(form);
  result.plain = gathered(job);
  result.transformed = result.plain;
  if (form.kind != OperandKind::quantized) {
    job.x = form.plain.view;
    result.quantized = gathered(job);
    return result;
  }
  const QuantizedTensor& q = *form.quantized;
  if (q.spec.hadamard.size != 0) {
    result.transformed = gathered(job);
    plain::transform_pieces(TransformJob{q.spec.hadamard, hadamard_sign_mask(q.spec.hadamard, context.seed), job.pieces,
                                         count, width, result.transformed.as<float>()},
                            nullptr);
  }
  Buffer extents;
  job.coded = describe_dequantize(q, extents);
  result.quantized = gathered(job);
  if (q.has_tensor_scale())
    result.tensor_scales = to_host<float>(q.tensor_scales.data.get(), static_cast<std::size_t>(q.groups.count()));
  return result;
}

}  // namespace

std::vector<ProductElement> CudaBackend::measure_product(const ProductEvent& event) {
  const TensorView& out = event.out;
  std::vector<std::int64_t> ids;
  if (out.placement.row_ids != nullptr && event.gemm != Gemm::wgrad)
    ids = to_host<std::int64_t>(out.placement.row_ids, static_cast<std::size_t>(out.rows));
  const ProductSamples samples = product_samples(event, ids.data());
  if (samples.rows.empty() || samples.columns.empty()) return {};

  // Pieces: of A one a row; of B one a column for each group that has a sampled row.
  const auto columns = static_cast<std::int64_t>(samples.columns.size());
  std::vector<OperandPiece> a_pieces, b_pieces;
  std::vector<std::int64_t> b_piece, row_numbers;
  std::int64_t width = 1;
  for (std::size_t i = 0; i < samples.rows.size(); ++i) {
    const ProductSamples::Row& row = samples.rows[i];
    const std::int64_t count = row.k1 - row.k0;
    width = std::max(width, count);
    a_pieces.push_back({row.a_row, row.k0, count});
    row_numbers.push_back(row.row);
    if (i == 0 || samples.rows[i - 1].group != row.group)  // rows are in order of their groups
      for (const std::int64_t column : samples.columns)
        b_pieces.push_back({row.b_row0 + column, row.b_k + row.k0, count});
    b_piece.push_back(static_cast<std::int64_t>(b_pieces.size()) - columns);
  }
  const auto rows = static_cast<std::int64_t>(samples.rows.size());
  const Buffer a_list = to_device(a_pieces), b_list = to_device(b_pieces), b_numbers = to_device(b_piece);
  const GatheredOperand a = gather(event.context, event.a, a_list, rows, width);
  const GatheredOperand b = gather(event.context, event.b, b_list, static_cast<std::int64_t>(b_pieces.size()), width);

  ProductSumsJob job;
  const auto pair = [&](ProductSamples::Pair which, const Buffer& first, const Buffer& second) {
    job.a[which] = first.as<float>();
    job.b[which] = second.as<float>();
  };
  pair(ProductSamples::kExact, a.quantized, b.quantized);
  pair(ProductSamples::kPlain, a.plain, b.plain);
  pair(ProductSamples::kFirst, a.quantized, b.transformed);
  pair(ProductSamples::kSecond, a.transformed, b.quantized);
  job.a_pieces = a_list.as<OperandPiece>();
  job.b_piece = b_numbers.as<std::int64_t>();
  job.rows = rows;
  job.columns = columns;
  job.width = width;
  const std::size_t elements = static_cast<std::size_t>(rows * columns);
  const Buffer sums = allocate(elements * ProductSamples::kPairs * sizeof(SumLimbs));
  fill_bytes(sums.data.get(), 0, sums.bytes);
  job.sums = sums.as<SumLimbs>();
  plain::sum_products(job, nullptr);

  const Buffer row_list = to_device(row_numbers), column_list = to_device(samples.columns);
  const Buffer given = allocate(elements * sizeof(float));
  plain::gather_given(
      GivenJob{out, row_list.as<std::int64_t>(), column_list.as<std::int64_t>(), rows, columns, given.as<float>()},
      nullptr);

  const std::vector<SumLimbs> limbs = to_host<SumLimbs>(sums.data.get(), elements * ProductSamples::kPairs);
  const std::vector<float> outputs = to_host<float>(given.data.get(), elements);
  std::vector<ProductElement> result;
  result.reserve(elements);
  for (std::size_t e = 0; e < elements; ++e) {
    UnroundedSum exact[ProductSamples::kPairs];
    for (int p = 0; p < ProductSamples::kPairs; ++p)
      exact[p] = unrounded(limbs[e * ProductSamples::kPairs + static_cast<std::size_t>(p)]);
    const std::size_t i = e / samples.columns.size();
    const std::int64_t group = samples.rows[i].group;
    result.push_back(sampled_element(event, samples, i, e % samples.columns.size(), exact, a.scale(group),
                                     b.scale(group), outputs[e]));
  }
  return result;
}

}  // namespace ng::cuda
