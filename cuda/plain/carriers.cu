// SPDX-License-Identifier: Apache-2.0
//
// One thread one number of the copy, or one outside scale.
#include "plain/carriers.hpp"

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

/// Where in the scales of an operand the tile of (row, column) is; `in_group`: the grouped one of the two, in group g.
NG_HD std::int64_t tile_at(const QuantizerSpec& spec, std::int64_t scale_cols, const OperandGroups& groups,
                           bool grouped_rows, std::int32_t g, std::int64_t row, std::int64_t col) {
  std::int64_t i = spec.tile_rows == 0 ? 0 : row / spec.tile_rows;
  std::int64_t j = spec.tile_cols == 0 ? 0 : col / spec.tile_cols;
  (grouped_rows ? i : j) += groups.first_tile[g];
  return i * scale_cols + j;
}

struct Carry {
  CarrierJob job;

  NG_HD std::uint32_t code(std::int64_t row, std::int64_t col) const {
    return load_code(job.codes + row * job.row_bytes, job.storage, static_cast<std::size_t>(col));
  }

  NG_HD float number(std::int32_t g, std::int64_t row, std::int64_t col) const {
    if (job.codes == nullptr) return job.turned ? load_real(job.plain, col, row) : load_real(job.plain, row, col);
    const float element = decode(job.spec.element, code(row, col));
    if (!job.with_scales || job.spec.scale_format == ScaleFormat::none) return element;
    const std::int64_t begin = job.groups.begin[g];
    const std::int64_t at = tile_at(job.spec, job.scale_cols, job.groups, job.grouped_rows, g,
                                    job.grouped_rows ? row - begin : row, job.grouped_rows ? col : col - begin);
    const float scale =
        job.spec.scale_format == ScaleFormat::f32
            ? static_cast<const float*>(job.scales)[at]
            : stored_scale_value(job.spec.scale_format, static_cast<const std::uint8_t*>(job.scales)[at]);
    return decoded_product(element, scale);
  }

  /// A code of E4M3 or E5M2.
  NG_HD std::uint8_t fp8_code(std::int64_t row, std::int64_t col) const {
    const std::uint32_t own = code(row, col);
    if (job.spec.element_id != FormatId::e2m1) return static_cast<std::uint8_t>(own);
    constexpr ElementFormat e4m3 = kFormatOf<FormatId::e4m3>;
    return static_cast<std::uint8_t>(encode(e4m3, CastChoices{}, decode(job.spec.element, own)));
  }

  NG_HD std::uint16_t bf16(float value) const {
    const std::uint32_t bits = output_bits(ProductOutput::bf16, value);
    if (job.losses != nullptr && float_of(bits << 16) != value && !is_nan_bits(bits_of(value)))
      atomic_add(job.losses, 1);
    return static_cast<std::uint16_t>(bits);
  }

  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / job.to_stride;
    const std::int64_t at = i % job.to_stride;
    // 1. Which column of the operand this is, if any.
    std::int32_t g = 0;
    std::int64_t col = at;
    bool there = at < job.depth;
    if (job.grouped_rows) {
      g = group_at(job.groups.begin, job.groups.count, row);
    } else {
      g = group_at(job.groups.place, job.groups.count, at);
      col = job.groups.begin[g] + (at - job.groups.place[g]);
      there = col < job.groups.begin[g + 1];
    }
    // 2. The number.
    switch (job.type) {
      case CarrierType::f32:
        static_cast<float*>(job.to)[i] = there ? number(g, row, col) : 0.0f;
        break;
      case CarrierType::f32_of_bf16:
        static_cast<float*>(job.to)[i] = there ? widen_bf16(bf16(number(g, row, col))) : 0.0f;
        break;
      case CarrierType::bf16:
        static_cast<std::uint16_t*>(job.to)[i] = there ? bf16(number(g, row, col)) : std::uint16_t{0};
        break;
      case CarrierType::fp8:
        static_cast<std::uint8_t*>(job.to)[i] = there ? fp8_code(row, col) : std::uint8_t{0};
        break;
    }
  }
};

struct OutsideScales {
  OutsideScaleJob job;

  NG_HD float scale(std::int32_t g, std::int64_t row, std::int64_t block) const {
    const std::int64_t length = job.groups.begin[g + 1] - job.groups.begin[g];
    const std::int64_t col = block * kScaleBlock;
    if (row >= (job.grouped_rows ? length : job.rows * job.row_step)) return 1.0f;
    if (col >= (job.grouped_rows ? job.depth : length)) return 1.0f;
    if (job.tensor_scales != nullptr) return job.tensor_scales[g];
    if (job.scales == nullptr) return 1.0f;
    return job.scales[tile_at(job.spec, job.scale_cols, job.groups, job.grouped_rows, g, row, col)];
  }

  NG_HD void operator()(std::int64_t i) const {
    const std::int32_t* place = job.groups.place;
    std::int32_t g = 0;
    std::int64_t row = 0, block = 0, rows = 0, blocks = 0;
    if (job.grouped_rows) {
      row = i / job.blocks;
      block = i % job.blocks;
      g = group_at(place, job.groups.count, row);
      row -= place[g];
      rows = place[g + 1] - place[g];
      blocks = job.blocks;
    } else {
      const std::int64_t all = place[job.groups.count];
      row = i / all;
      block = i % all;
      g = group_at(place, job.groups.count, block);
      block -= place[g];
      rows = job.rows;
      blocks = place[g + 1] - place[g];
    }
    const std::int64_t at = job.layout == ScaleLayout::rows ? row * blocks + block : block * rows + row;
    job.to[job.before(g) + at] = scale(g, row * job.row_step, block);
  }
};

}  // namespace

void carry(const CarrierJob& job, Stream stream) {
  for_each("carry", job.rows * job.to_stride, stream, Carry{job});
}

void outside_scales(const OutsideScaleJob& job, Stream stream) {
  const std::int64_t places = job.groups.place[job.groups.count];
  for_each("outside_scales", places * (job.grouped_rows ? job.blocks : job.rows), stream, OutsideScales{job});
}

}  // namespace ng::cuda::plain
