// SPDX-License-Identifier: Apache-2.0
//
// From forms to the kernels' plain data.
#include "backend/product_operands.hpp"

#include <limits>

#include "fast/carry.hpp"
#include "narrowgauge/base/check.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

std::int32_t narrow32(std::int64_t value) {
  NG_CHECK_LE(value, std::numeric_limits<std::int32_t>::max());
  return static_cast<std::int32_t>(value);
}

std::int64_t rounded_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

/// Rows of a quantized form's groups are rows of the product's operand, or columns.
bool has_grouped_rows(const Form& form) {
  return form.orientation == Orientation::row;
}

}  // namespace

OperandShape shape_of(const Form& form) {
  if (form.kind == OperandKind::quantized) return {form.quantized->rows, form.quantized->cols};
  const TensorView& x = form.plain.view;
  return form.orientation == Orientation::column ? OperandShape{x.cols, x.rows} : OperandShape{x.rows, x.cols};
}

std::vector<ProductPart> product_parts(const Product& product) {
  const OperandShape a = shape_of(*product.a), b = shape_of(*product.b);
  const RowGroups& groups = *product.groups;
  const std::int64_t count = groups.count();
  const bool wgrad = product.gemm == Gemm::wgrad;
  // wgrad contracts over the grouped rows; otherwise A's rows are grouped and B is a stack of one matrix per group.
  const std::int64_t n = product.gemm == Gemm::fprop ? b.rows / count : b.rows;
  NG_CHECK_EQ(product.out.cols, n);
  NG_CHECK(!product.accumulate || product.out.dtype == Dtype::f32);
  std::vector<ProductPart> parts;
  for (std::int64_t g = 0; g < count; ++g) {
    const std::int64_t begin = groups.begin(g, wgrad ? a.depth : a.rows);
    const std::int64_t length = groups.end(g, wgrad ? a.depth : a.rows) - begin;
    if (wgrad)
      parts.push_back({a.rows, n, length, 0, begin, 0, begin, g * a.rows});
    else if (product.gemm == Gemm::fprop)
      parts.push_back({length, n, a.depth, begin, 0, g * n, 0, begin});
    else
      parts.push_back({length, n, a.depth, begin, 0, 0, g * a.depth, begin});
    const ProductPart& part = parts.back();
    NG_CHECK_LE(part.out_row + part.m, product.out.rows);
    NG_CHECK_LE(part.b_row + part.n, b.rows);
    NG_CHECK_LE(part.b_k + part.k, b.depth);
  }
  return parts;
}

GemmSpec gemm_spec_of(const Product& product) {
  const auto operand = [](const Form& form) {
    OperandSpec spec;
    spec.kind = form.kind;
    if (form.quantized != nullptr) spec.quantizer = form.quantized->spec;
    return spec;
  };
  return {operand(*product.a), operand(*product.b), product.carrier, product.accumulation};
}

OperandGroups operand_groups(const Form& form, const Product& product, const Padding& padding) {
  const bool grouped_rows = has_grouped_rows(form);
  const OperandShape shape = shape_of(form);
  const std::int64_t extent = grouped_rows ? shape.rows : shape.depth;
  const std::int64_t count =
      form.kind == OperandKind::quantized ? form.quantized->groups.count() : product.groups->count();
  NG_CHECK_LE(count, kMostProductGroups);
  // A stacked weight that is not quantized has no list of its own: its groups are equal.
  const bool stacked = grouped_rows ? product.gemm == Gemm::fprop && &form == product.b
                                    : product.gemm == Gemm::dgrad && &form == product.b;
  const std::int64_t alignment = grouped_rows ? padding.rows : padding.depth;
  OperandGroups groups;
  groups.count = narrow32(count);
  std::int64_t place = 0;
  for (std::int64_t g = 0; g < count; ++g) {
    const std::size_t i = static_cast<std::size_t>(g);
    std::int64_t begin = 0, end = 0;
    if (form.kind == OperandKind::quantized) {
      begin = form.quantized->groups.begin(g, extent);
      end = form.quantized->groups.end(g, extent);
      groups.first_tile[i] = narrow32(form.quantized->tile_offsets[i]);
    } else {
      begin = stacked ? extent / count * g : product.groups->begin(g, extent);
      end = stacked ? extent / count * (g + 1) : product.groups->end(g, extent);
    }
    groups.begin[i] = narrow32(begin);
    groups.begin[i + 1] = narrow32(end);
    place += rounded_up(end - begin, alignment);
    groups.place[i + 1] = narrow32(place);
  }
  return groups;
}

CarriedOperand carry_operand(const Form& form, const Product& product, CarrierType type, bool with_scales,
                             const Padding& padding, unsigned long long* losses, KernelChoice choice) {
  const OperandShape shape = shape_of(form);
  CarriedOperand carried;
  carried.grouped_rows = has_grouped_rows(form);
  carried.groups = operand_groups(form, product, padding);
  const std::int64_t grouped = carried.groups.place[carried.groups.count];
  carried.rows = carried.grouped_rows ? grouped : rounded_up(shape.rows, padding.rows);
  carried.stride = carried.grouped_rows ? rounded_up(shape.depth, padding.depth) : grouped;
  const std::int64_t width = type == CarrierType::fp8 ? 1 : type == CarrierType::bf16 ? 2 : 4;
  carried.numbers = allocate(static_cast<std::size_t>(carried.rows * carried.stride * width));
  CarrierJob job;
  if (form.kind == OperandKind::quantized) {
    const QuantizedTensor& q = *form.quantized;
    job.spec = q.spec;
    job.storage = q.storage;
    job.codes = q.codes.as<std::uint8_t>();
    job.row_bytes = q.row_bytes;
    job.scales = q.scales.data.get();
    job.scale_cols = q.scale_cols;
    job.with_scales = with_scales;
    job.losses = losses;
  } else {
    job.plain = form.plain.view;
    job.turned = form.orientation == Orientation::column;
  }
  job.grouped_rows = carried.grouped_rows;
  job.groups = carried.groups;
  job.rows = shape.rows;
  job.depth = shape.depth;
  job.type = type;
  job.to = carried.numbers.data.get();
  job.to_rows = carried.rows;
  job.to_stride = carried.stride;
  if (choice == KernelChoice::fastest && fast::serves_carry(job))
    fast::carry(job, nullptr);
  else
    plain::carry(job, nullptr);
  return carried;
}

namespace {

/// A job without places, layout and target.
OutsideScaleJob outside_scale_job(const Form& form, const Product& product, OutsideScale outside,
                                  const Padding& padding) {
  const OperandShape shape = shape_of(form);
  OutsideScaleJob job;
  job.grouped_rows = has_grouped_rows(form);
  job.groups = operand_groups(form, product, padding);
  job.operand_rows = shape.rows;
  job.rows = rounded_up(shape.rows, padding.rows);
  job.depth = shape.depth;
  if (outside == OutsideScale::none) return job;
  const QuantizedTensor& q = *form.quantized;
  job.spec = q.spec;
  if (q.has_tensor_scale()) {
    job.tensor_scales = q.tensor_scales.as<float>();
  } else {
    job.scales = q.scales.as<float>();
    job.scale_cols = q.scale_cols;
  }
  return job;
}

std::int64_t blocks_of(std::int64_t k) {
  return (k + kScaleBlock - 1) / kScaleBlock;
}

/// Blocks of k in each group, rounded up to a multiple of `multiple`; one where the mode is not blockwise.
void place_blocks(OutsideScaleJob& job, ScaleMode mode, std::int64_t multiple) {
  const auto blocks = [&](std::int64_t k) { return is_blockwise(mode) ? rounded_up(blocks_of(k), multiple) : 1; };
  OperandGroups& groups = job.groups;
  job.blocks = blocks(job.depth);
  for (std::int32_t g = 0; g < groups.count && !job.grouped_rows; ++g)
    groups.place[g + 1] = groups.place[g] + narrow32(blocks(groups.begin[g + 1] - groups.begin[g]));
}

CarriedScales laid_out(OutsideScaleJob job) {
  CarriedScales scales;
  scales.values = allocate(static_cast<std::size_t>(job.before(job.groups.count)) * sizeof(float));
  job.to = scales.values.as<float>();
  scales.job = job;
  plain::outside_scales(job, nullptr);
  return scales;
}

}  // namespace

CarriedScales model_scales(const Form& form, const Product& product, OutsideScale outside, ScaleMode mode) {
  OutsideScaleJob job = outside_scale_job(form, product, outside, {});
  place_blocks(job, mode, 1);
  return laid_out(job);
}

CarriedScales library_scales(const Form& form, const Product& product, OutsideScale outside, ScaleMode mode,
                             const Padding& padding) {
  OutsideScaleJob job = outside_scale_job(form, product, outside, padding);
  if (mode == ScaleMode::block_128x128 && &form == product.b) {
    job.row_step = kScaleBlock;
    job.rows = blocks_of(job.rows);
    for (std::int32_t g = 0; g < job.groups.count && job.grouped_rows; ++g)
      job.groups.place[g + 1] =
          job.groups.place[g] + narrow32(blocks_of(job.groups.begin[g + 1] - job.groups.begin[g]));
    place_blocks(job, mode, 4);
    return laid_out(job);
  }
  if (is_blockwise(mode)) job.layout = ScaleLayout::blocks;
  place_blocks(job, mode, 1);
  return laid_out(job);
}

}  // namespace ng::cuda
