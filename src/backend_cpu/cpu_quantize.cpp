// SPDX-License-Identifier: Apache-2.0
//
// An FP32 matrix to its quantized form: amax of the tiles, scales, codes. Where a tile's scale depends on nothing
// beyond the tile, the three follow each other for a few rows at a time, so that the matrix is read from memory once.
// Column forms are made from the original where it lies: tiles run down its columns, codes are written transposed.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "narrowgauge/quantize/four_over_six.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 32;  // even: a piece of a column form starts at a whole byte
constexpr std::int64_t kColsPerPiece = 64;
constexpr std::int64_t kNearElements = 8192;  // 32 KiB: what is read twice then comes from the first-level cache

/// The tiles of one group in the axes of the original, and their scales.
struct GroupTiles {
  std::int64_t begin = 0;  // first row of the group
  std::int64_t rows = 0;
  std::int64_t tile_rows = 1, tile_cols = 1;  // elements of a tile
  std::int64_t row_tiles = 0, col_tiles = 0;  // tiles of the group
  std::int64_t offset = 0;                    // first tile of the group along the grouped axis
  TensorScale tensor;
  std::vector<std::uint32_t> amax, code;
  std::vector<float> encode;
  std::vector<std::uint8_t> poisoned;
};

class Quantization {
 public:
  Quantization(const CpuKernels& kernels, ThreadPool& pool, const StepContext& context, const float* data,
               std::int64_t stride, const TensorView& x, const Site& site, const float* known_amax, QuantizedTensor& q)
      : kernels_(kernels),
        pool_(pool),
        data_(data),
        stride_(stride),
        x_(x),
        known_amax_(known_amax),
        q_(q),
        row_form_(q.orientation == Orientation::row),
        random_(q.spec.cast.rounding == Rounding::stochastic),
        special_(special_codes(q.spec.element, q.spec.cast)),
        stream_{context.seed, RandomPurpose::stochastic_rounding, site.tensor_id,
                static_cast<std::uint32_t>(context.step)} {
    lay_out();
  }

  void run() {
    if (row_form_ && !needs_tensor_amax(q_.spec.rule)) {
      for (GroupTiles& g : groups_) {
        const std::int64_t step = std::max<std::int64_t>(1, kRowsPerPiece / g.tile_rows);
        const std::int64_t tile_elements = std::max<std::int64_t>(1, g.tile_rows * x_.cols);
        const std::int64_t near = std::max<std::int64_t>(1, kNearElements / tile_elements);
        pool_.parallel_ranges(g.row_tiles, step, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t first = begin; first < end; first += near) {
            const std::int64_t last = std::min(end, first + near);
            measure_amax(g, first, last);
            const bool careful = make_scales(g, first, last);
            encode_rows(g, first * g.tile_rows, std::min(g.rows, last * g.tile_rows), careful);
          }
        });
      }
    } else {
      for (GroupTiles& g : groups_) pool_.parallel_for(g.row_tiles, [&](std::int64_t t) { measure_amax(g, t, t + 1); });
      if (needs_tensor_amax(q_.spec.rule)) make_tensor_scales();
      for (GroupTiles& g : groups_) {
        std::atomic<bool> careful = false;
        pool_.parallel_for(g.row_tiles, [&](std::int64_t t) {
          if (make_scales(g, t, t + 1)) careful = true;
        });
        if (row_form_) {
          pool_.parallel_ranges(g.rows, kRowsPerPiece,
                                [&](std::int64_t first, std::int64_t last) { encode_rows(g, first, last, careful); });
          continue;
        }
        // Pieces of columns, so that each row of the transposed codes has one writer.
        const std::int64_t step =
            g.tile_cols >= kColsPerPiece ? g.tile_cols : kColsPerPiece / g.tile_cols * g.tile_cols;
        pool_.parallel_ranges(x_.cols, step,
                              [&](std::int64_t first, std::int64_t last) { encode_columns(g, first, last, careful); });
      }
    }
    if (saw_nan_ && q_.spec.cast.nan == NanChoice::error && q_.spec.element.nan == NanCodes::none)
      for (std::int64_t r = 0; r < x_.rows; ++r)
        for (std::int64_t c = 0; c < x_.cols; ++c)
          q_.nan_inputs += is_nan_bits(bits_of(data_[r * stride_ + c])) ? 1 : 0;
  }

 private:
  void lay_out();
  void measure_amax(GroupTiles& g, std::int64_t first, std::int64_t last);
  void make_tensor_scales();
  bool make_scales(GroupTiles& g, std::int64_t first, std::int64_t last);
  void choose_four_over_six(GroupTiles& g, std::int64_t tile);
  std::size_t draw_bytes(std::int64_t count) const {
    return random_ ? static_cast<std::size_t>(count) * q_.spec.cast.random_bits / 8 : 0;
  }
  void encode_part(const GroupTiles& g, std::int64_t row, std::int64_t col0, std::int64_t cols, bool careful,
                   std::uint8_t* draws, void* out, std::uint8_t* nibbles);
  void encode_rows(const GroupTiles& g, std::int64_t first, std::int64_t last, bool careful);
  void encode_columns(const GroupTiles& g, std::int64_t col0, std::int64_t col1, bool careful);

  const CpuKernels& kernels_;
  ThreadPool& pool_;
  const float* data_;
  std::int64_t stride_;
  const TensorView& x_;
  const float* known_amax_;  // of each group, or of all; nullptr: measured
  QuantizedTensor& q_;
  bool row_form_;
  bool random_;
  SpecialCodes special_;
  RandomStream stream_;
  std::vector<GroupTiles> groups_;
  std::atomic<bool> saw_nan_ = false;
};

/// Shapes of tiles and scales; q's buffers are allocated by the caller from these.
void Quantization::lay_out() {
  const QuantizerSpec& spec = q_.spec;
  const std::int64_t tile_rows = row_form_ ? spec.tile_rows : spec.tile_cols;
  const std::int64_t tile_cols = row_form_ ? spec.tile_cols : spec.tile_rows;
  for (std::int64_t i = 0; i < q_.groups.count(); ++i) {
    GroupTiles g;
    g.begin = q_.groups.begin(i, x_.rows);
    g.rows = q_.groups.end(i, x_.rows) - g.begin;
    g.tile_rows = tile_rows == 0 ? std::max<std::int64_t>(g.rows, 1) : tile_rows;
    g.tile_cols = tile_cols == 0 ? std::max<std::int64_t>(x_.cols, 1) : tile_cols;
    g.row_tiles = tile_count(g.rows, tile_rows);
    g.col_tiles = tile_count(x_.cols, tile_cols);
    g.offset = q_.tile_offsets[static_cast<std::size_t>(i)];
    const std::size_t tiles = static_cast<std::size_t>(g.row_tiles * g.col_tiles);
    g.amax.resize(tiles);
    g.code.resize(tiles);
    g.encode.assign(tiles, 1.0f);
    g.poisoned.assign(tiles, 0);
    groups_.push_back(std::move(g));
  }
}

/// Rows of tiles [first, last).
void Quantization::measure_amax(GroupTiles& g, std::int64_t first, std::int64_t last) {
  for (std::int64_t t = first; t < last; ++t) {
    const std::int64_t end = std::min(g.rows, (t + 1) * g.tile_rows);
    for (std::int64_t r = t * g.tile_rows; r < end; ++r)
      kernels_.amax_tiles(data_ + (g.begin + r) * stride_, x_.cols, g.tile_cols, r > t * g.tile_rows,
                          g.amax.data() + t * g.col_tiles);
  }
  // One tile a group: its amax is the tensor's. Elements may then be anything.
  if (known_amax_ != nullptr && !needs_tensor_amax(q_.spec.rule)) {
    g.amax[0] = magnitude_bits(known_amax_[&g - groups_.data()]);
    saw_nan_ = true;
  }
}

void Quantization::make_tensor_scales() {
  const bool by_group = q_.spec.tensor_scope == TensorScope::group;
  const auto measured = [&](const GroupTiles& g, bool merge, std::uint32_t& amax) {
    const std::int64_t count = static_cast<std::int64_t>(g.amax.size());
    if (count > 0) kernels_.amax_tiles(reinterpret_cast<const float*>(g.amax.data()), count, count, merge, &amax);
  };
  std::uint32_t whole = 0;
  if (!by_group && known_amax_ == nullptr)
    for (const GroupTiles& g : groups_) measured(g, true, whole);
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    GroupTiles& g = groups_[i];
    std::uint32_t amax = whole;
    if (by_group && known_amax_ == nullptr) measured(g, true, amax);
    if (known_amax_ != nullptr) amax = magnitude_bits(known_amax_[q_.spec.tensor_scope == TensorScope::group ? i : 0]);
    g.tensor = tensor_scale(q_.spec, amax);
    q_.tensor_scales.as<float>()[i] = g.tensor.decode;
    if (q_.spec.decode == DecodeOrder::te) q_.tensor_amaxes.as<float>()[i] = g.tensor.amax;
  }
}

/// Rows of tiles [first, last). True when an element may be NaN once it is scaled.
bool Quantization::make_scales(GroupTiles& g, std::int64_t first, std::int64_t last) {
  const QuantizerSpec& spec = q_.spec;
  const std::size_t begin = static_cast<std::size_t>(first * g.col_tiles);
  const std::size_t end = static_cast<std::size_t>(last * g.col_tiles);
  bool careful = known_amax_ != nullptr && !needs_tensor_amax(spec.rule);
  if (spec.scale_format == ScaleFormat::none) {
    for (std::size_t i = begin; i < end; ++i) careful = careful || g.amax[i] >= kInfinityBits;
    if (careful) saw_nan_ = true;
    return careful;
  }
  if (!kernels_.tile_scales(spec, g.tensor, g.amax.data() + begin, static_cast<std::int64_t>(end - begin),
                            TileScaleArrays{g.encode.data() + begin, g.code.data() + begin, g.poisoned.data() + begin}))
    careful = true;
  if (careful) saw_nan_ = true;
  if (spec.rule == ScaleRule::four_over_six)
    for (std::size_t i = begin; i < end; ++i) choose_four_over_six(g, static_cast<std::int64_t>(i));
  const std::int64_t stride = row_form_ ? 1 : q_.scale_cols;  // between the tiles of a row of tiles
  for (std::int64_t t = first; t < last; ++t) {
    const std::uint32_t* codes = g.code.data() + t * g.col_tiles;
    const std::int64_t at = row_form_ ? (g.offset + t) * q_.scale_cols : g.offset + t;
    if (spec.scale_format == ScaleFormat::f32) {
      float* to = q_.scales.as<float>() + at;
      for (std::int64_t j = 0; j < g.col_tiles; ++j) to[j * stride] = float_of(codes[j]);
    } else {
      std::uint8_t* to = q_.scales.as<std::uint8_t>() + at;
      for (std::int64_t j = 0; j < g.col_tiles; ++j) to[j * stride] = static_cast<std::uint8_t>(codes[j]);
    }
  }
  return careful;
}

void Quantization::choose_four_over_six(GroupTiles& g, std::int64_t tile) {
  const std::int64_t row0 = tile / g.col_tiles * g.tile_rows;
  const std::int64_t col0 = tile % g.col_tiles * g.tile_cols;
  const std::int64_t height = std::min(g.tile_rows, g.rows - row0);
  const std::int64_t width = std::min(g.tile_cols, x_.cols - col0);
  const std::int64_t lines = row_form_ ? height : width;  // a line is a row of the tile as quantized
  NG_CHECK(lines <= kFourOverSixLines);
  const std::size_t at = static_cast<std::size_t>(tile);
  const float* corner = data_ + (g.begin + row0) * stride_ + col0;
  const TileScale scale = four_over_six_scale(
      q_.spec, g.amax[at], g.tensor, lines, row_form_ ? width : height,
      [&](std::int64_t l, std::int64_t i) { return row_form_ ? corner[l * stride_ + i] : corner[i * stride_ + l]; });
  g.encode[at] = q_.spec.application == ScaleApplication::divide ? scale.divisor : scale.encode;
  g.code[at] = scale.code;
}

/// Codes of `cols` elements of a row of the group, one byte each (two for wider formats), from column col0 on; where
/// `nibbles` is not null two a byte there, `out` being scratch. `draws`: scratch of draw_bytes(cols).
void Quantization::encode_part(const GroupTiles& g, std::int64_t row, std::int64_t col0, std::int64_t cols,
                               bool careful, std::uint8_t* draws, void* out, std::uint8_t* nibbles) {
  if (random_) {
    const std::int64_t logical = logical_row(x_.placement, g.begin + row);
    if (logical >= 0)
      kernels_.fill_draws(stream_,
                          static_cast<std::uint64_t>(logical) * static_cast<std::uint64_t>(x_.placement.cols) +
                              static_cast<std::uint64_t>(x_.placement.col0 + col0),
                          cols, q_.spec.cast.random_bits, draws);
    else
      std::memset(draws, 0, draw_bytes(cols));
  }
  const std::int64_t tile = row / g.tile_rows * g.col_tiles + col0 / g.tile_cols;
  kernels_.encode_row(q_.spec, special_,
                      EncodeRow{data_ + (g.begin + row) * stride_ + col0, cols, g.tile_cols, g.encode.data() + tile,
                                g.poisoned.data() + tile, careful, draws, out, nibbles});
}

void Quantization::encode_rows(const GroupTiles& g, std::int64_t first, std::int64_t last, bool careful) {
  const bool nibbles = q_.storage == CodeStorage::nibble;
  std::vector<std::uint8_t> line(nibbles ? static_cast<std::size_t>(x_.cols) : 0);
  std::vector<std::uint8_t> draws(draw_bytes(x_.cols));
  for (std::int64_t r = first; r < last; ++r) {
    std::uint8_t* to = q_.codes.as<std::uint8_t>() + (g.begin + r) * q_.row_bytes;
    encode_part(g, r, 0, x_.cols, careful, draws.data(), nibbles ? line.data() : to, nibbles ? to : nullptr);
  }
}

void Quantization::encode_columns(const GroupTiles& g, std::int64_t col0, std::int64_t col1, bool careful) {
  const std::int64_t width = col1 - col0;
  const std::size_t code_bytes = q_.storage == CodeStorage::half ? 2 : 1;
  std::vector<std::uint8_t> block(static_cast<std::size_t>(kRowsPerPiece * width) * code_bytes);
  std::vector<std::uint8_t> draws(draw_bytes(width));
  std::vector<std::uint8_t> columns(static_cast<std::size_t>(kRowsPerPiece * width));
  for (std::int64_t r0 = 0; r0 < g.rows; r0 += kRowsPerPiece) {
    const std::int64_t height = std::min(kRowsPerPiece, g.rows - r0);
    for (std::int64_t r = 0; r < height; ++r)
      encode_part(g, r0 + r, col0, width, careful, draws.data(),
                  block.data() + static_cast<std::size_t>(r * width) * code_bytes, nullptr);
    const std::int64_t at = g.begin + r0;
    if (q_.storage == CodeStorage::half) {
      for (std::int64_t c = 0; c < width; ++c) {
        std::uint8_t* to = q_.codes.as<std::uint8_t>() + (col0 + c) * q_.row_bytes;
        for (std::int64_t r = 0; r < height; ++r) std::memcpy(to + 2 * (at + r), block.data() + 2 * (r * width + c), 2);
      }
      continue;
    }
    kernels_.transpose_codes(block.data(), height, width, columns.data(), kRowsPerPiece);
    for (std::int64_t c = 0; c < width; ++c) {
      const std::uint8_t* column = columns.data() + c * kRowsPerPiece;
      std::uint8_t* to = q_.codes.as<std::uint8_t>() + (col0 + c) * q_.row_bytes;
      if (q_.storage == CodeStorage::byte) {
        std::memcpy(to + at, column, static_cast<std::size_t>(height));
      } else if (at % 2 == 0) {
        kernels_.pack_nibbles(column, height, to + at / 2);
      } else {
        for (std::int64_t r = 0; r < height; ++r) {  // the byte that holds the previous group's last code
          std::uint8_t& byte = to[(at + r) / 2];
          byte = static_cast<std::uint8_t>((at + r) % 2 == 0 ? column[r] : (byte & 0xf) | column[r] << 4);
        }
      }
    }
  }
}

}  // namespace

QuantizedTensor CpuBackend::quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                     const QuantizerSpec& spec, Orientation orientation, const Site& site) {
  return quantize_source(context, x, groups, spec, orientation, site, nullptr);
}

QuantizedTensor CpuBackend::quantize_known_amax(const StepContext& context, const TensorView& x,
                                                const RowGroups& groups, const QuantizerSpec& spec,
                                                Orientation orientation, const Site& site, const Buffer& amax) {
  const bool whole_tile = spec.scale_format != ScaleFormat::none && spec.tile_rows == 0 && spec.tile_cols == 0;
  NG_CHECK(needs_tensor_amax(spec.rule) || whole_tile);
  const bool one = needs_tensor_amax(spec.rule) && spec.tensor_scope == TensorScope::whole;
  NG_CHECK_EQ(amax.bytes, (one ? 1u : static_cast<std::size_t>(groups.count())) * sizeof(float));
  return quantize_source(context, x, groups, spec, orientation, site, amax.as<float>());
}

Buffer CpuBackend::tensor_amax(const StepContext& context, const TensorView& x, const RowGroups& groups,
                               const QuantizerSpec& spec, Orientation orientation) {
  FloatSource source = float_source(context, x, groups, spec, orientation);
  if (spec.outlier.quantile != 0.0) (void)split_outliers(spec, orientation, x, groups, source);
  const bool one = spec.tensor_scope == TensorScope::whole;
  Buffer result = allocate((one ? 1u : static_cast<std::size_t>(groups.count())) * sizeof(float));
  std::uint32_t whole = 0;
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    std::uint32_t amax = 0;
    for (std::int64_t r = groups.begin(g, x.rows); r < groups.end(g, x.rows) && x.cols > 0; ++r)
      kernels_.amax_tiles(source.data + r * source.stride, x.cols, x.cols, true, &amax);
    whole = std::max(whole, amax);
    result.as<float>()[one ? 0 : g] = float_of(one ? whole : amax);
  }
  return result;
}

QuantizedTensor CpuBackend::quantize_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                            const QuantizerSpec& spec, Orientation orientation, const Site& site,
                                            const float* amax) {
  FloatSource source = float_source(context, x, groups, spec, orientation);
  const bool row_form = orientation == Orientation::row;
  QuantizedTensor q;
  if (spec.outlier.quantile != 0.0) q.residual = split_outliers(spec, orientation, x, groups, source);
  q.spec = spec;
  q.orientation = orientation;
  q.rows = row_form ? x.rows : x.cols;
  q.cols = row_form ? x.cols : x.rows;
  q.groups = groups;
  q.storage = storage_of(spec.element);
  q.row_bytes = static_cast<std::int64_t>(packed_row_bytes(q.storage, static_cast<std::size_t>(q.cols)));
  q.codes = allocate(static_cast<std::size_t>(q.rows * q.row_bytes));
  q.tile_offsets.assign(1, 0);
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const std::int64_t rows = groups.end(g, x.rows) - groups.begin(g, x.rows);
    q.tile_offsets.push_back(q.tile_offsets.back() + tile_count(rows, row_form ? spec.tile_rows : spec.tile_cols));
  }
  q.scale_rows = row_form ? q.tile_offsets.back() : tile_count(x.cols, spec.tile_rows);
  q.scale_cols = row_form ? tile_count(x.cols, spec.tile_cols) : q.tile_offsets.back();
  if (spec.scale_format != ScaleFormat::none)
    q.scales = allocate(static_cast<std::size_t>(q.scale_rows * q.scale_cols) *
                        (spec.scale_format == ScaleFormat::f32 ? sizeof(float) : 1));
  if (needs_tensor_amax(spec.rule))
    q.tensor_scales = allocate(static_cast<std::size_t>(groups.count()) * sizeof(float));
  if (spec.decode == DecodeOrder::te)
    q.tensor_amaxes = allocate(static_cast<std::size_t>(groups.count()) * sizeof(float));
  Quantization(kernels_, pool_, context, source.data, source.stride, x, site, amax, q).run();
  return q;
}

}  // namespace ng::cpu
