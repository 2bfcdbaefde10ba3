// SPDX-License-Identifier: Apache-2.0
//
// One thread eight numbers of the copy, or one outside scale.
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

constexpr int kPack = 8;  ///< numbers of one thread, side by side

template <class T>
struct alignas(sizeof(T) * kPack <= 16 ? sizeof(T) * kPack : 16) Pack {
  T values[kPack];
};

NG_HD std::uint16_t rounded_bf16(float value, std::int32_t& losses) {
  const std::uint32_t bits = output_bits(ProductOutput::bf16, value);
  if (float_of(bits << 16) != value && !is_nan_bits(bits_of(value))) ++losses;
  return static_cast<std::uint16_t>(bits);
}

/// One number of type T; `losses` counts what BF16 cannot hold.
template <CarrierType kType>
struct Carried;
template <>
struct Carried<CarrierType::f32> {
  using Type = float;
  NG_HD static float of(float number, std::int32_t& /*losses*/) { return number; }
};
template <>
struct Carried<CarrierType::f32_of_bf16> {
  using Type = float;
  NG_HD static float of(float number, std::int32_t& losses) { return widen_bf16(rounded_bf16(number, losses)); }
};
template <>
struct Carried<CarrierType::bf16> {
  using Type = std::uint16_t;
  NG_HD static std::uint16_t of(float number, std::int32_t& losses) { return rounded_bf16(number, losses); }
};
template <>
struct Carried<CarrierType::fp8> {
  using Type = std::uint8_t;
};

template <CarrierType kType>
struct Carry {
  using T = typename Carried<kType>::Type;
  CarrierJob job;

  NG_HD std::uint32_t code(std::int64_t row, std::int64_t col) const {
    return load_code(job.codes + row * job.row_bytes, job.storage, static_cast<std::size_t>(col));
  }

  NG_HD float scale(std::int64_t at) const {
    return job.spec.scale_format == ScaleFormat::f32
               ? static_cast<const float*>(job.scales)[at]
               : stored_scale_value(job.spec.scale_format, static_cast<const std::uint8_t*>(job.scales)[at]);
  }

  /// A code of E4M3 or E5M2.
  NG_HD std::uint8_t fp8_code(std::int64_t row, std::int64_t col) const {
    const std::uint32_t own = code(row, col);
    if (job.spec.element_id != FormatId::e2m1) return static_cast<std::uint8_t>(own);
    constexpr ElementFormat e4m3 = kFormatOf<FormatId::e4m3>;
    return static_cast<std::uint8_t>(encode(e4m3, CastChoices{}, decode(job.spec.element, own)));
  }

  NG_HD void operator()(std::int64_t i) const {
    const OperandGroups& groups = job.groups;
    const std::int64_t packs = (job.to_stride + kPack - 1) / kPack;
    const std::int64_t to_row = i / packs;
    const std::int64_t first = i % packs * kPack;
    const bool scaled = job.codes != nullptr && job.with_scales && job.spec.scale_format != ScaleFormat::none;
    std::int32_t g = group_at(groups.place, groups.count, job.grouped_rows ? to_row : first);
    std::int64_t tile = -1;
    float tile_scale = 1.0f;
    std::int32_t losses = 0;
    Pack<T> pack{};
    for (int e = 0; e < kPack; ++e) {
      // 1. Which element of the operand this is, if any.
      std::int64_t row = to_row;
      std::int64_t col = first + e;
      if (col >= job.to_stride) break;
      while (!job.grouped_rows && col >= groups.place[g + 1]) ++g;
      std::int64_t& grouped = job.grouped_rows ? row : col;
      grouped += groups.begin[g] - groups.place[g];
      if (grouped >= groups.begin[g + 1] || (job.grouped_rows ? col >= job.depth : row >= job.rows)) continue;
      // 2. Its number, or code.
      if constexpr (kType == CarrierType::fp8) {
        pack.values[e] = fp8_code(row, col);
      } else if (job.codes == nullptr) {
        pack.values[e] =
            Carried<kType>::of(job.turned ? load_real(job.plain, col, row) : load_real(job.plain, row, col), losses);
      } else {
        float number = decode(job.spec.element, code(row, col));
        if (scaled) {
          const std::int64_t begin = groups.begin[g];
          const std::int64_t at = tile_at(job.spec, job.scale_cols, groups, job.grouped_rows, g,
                                          job.grouped_rows ? row - begin : row, job.grouped_rows ? col : col - begin);
          if (at != tile) tile_scale = scale(at);
          tile = at;
          number = decoded_product(number, tile_scale);
        }
        pack.values[e] = Carried<kType>::of(number, losses);
      }
    }
    if (losses != 0 && job.losses != nullptr) atomic_add(job.losses, static_cast<unsigned long long>(losses));
    // 3. Where it goes.
    T* const to = static_cast<T*>(job.to) + to_row * job.to_stride + first;
    if (job.to_stride % kPack == 0) {
      *reinterpret_cast<Pack<T>*>(to) = pack;
      return;
    }
    for (int e = 0; e < kPack && first + e < job.to_stride; ++e) to[e] = pack.values[e];
  }
};

struct OutsideScales {
  OutsideScaleJob job;

  NG_HD float scale(std::int32_t g, std::int64_t row, std::int64_t block) const {
    const std::int64_t length = job.groups.begin[g + 1] - job.groups.begin[g];
    const std::int64_t col = block * kScaleBlock;
    if (row >= (job.grouped_rows ? length : job.operand_rows)) return 1.0f;
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
  const std::int64_t packs = job.to_rows * ((job.to_stride + kPack - 1) / kPack);
  switch (job.type) {
    case CarrierType::f32:
      return for_each("carry", packs, stream, Carry<CarrierType::f32>{job});
    case CarrierType::f32_of_bf16:
      return for_each("carry", packs, stream, Carry<CarrierType::f32_of_bf16>{job});
    case CarrierType::bf16:
      return for_each("carry", packs, stream, Carry<CarrierType::bf16>{job});
    case CarrierType::fp8:
      return for_each("carry", packs, stream, Carry<CarrierType::fp8>{job});
  }
}

void outside_scales(const OutsideScaleJob& job, Stream stream) {
  const std::int64_t places = job.groups.place[job.groups.count];
  for_each("outside_scales", places * (job.grouped_rows ? job.blocks : job.rows), stream, OutsideScales{job});
}

}  // namespace ng::cuda::plain
