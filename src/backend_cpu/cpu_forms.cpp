// SPDX-License-Identifier: Apache-2.0
//
// Forms of a tensor on the CPU: quantization along rows or columns, decoding, and the error sums of a quantized form.
// A column form is made from the original where it lies: tiles run down its columns and codes are written transposed.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu_backend.hpp"
#include "cpu_decode.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/quantize/four_over_six.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 32;  // even: a piece of a column form starts at a whole byte
constexpr std::int64_t kColsPerPiece = 64;

/// Tiles of one group in the axes of the original: `rows` x `cols` elements each, `row_tiles` x `col_tiles` of them.
struct TileGrid {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_tiles;
  std::int64_t col_tiles;
};

TileGrid grid_of(const QuantizerSpec& spec, Orientation orientation, std::int64_t rows, std::int64_t cols) {
  const bool row = orientation == Orientation::row;
  const std::int64_t tile_rows = row ? spec.tile_rows : spec.tile_cols;
  const std::int64_t tile_cols = row ? spec.tile_cols : spec.tile_rows;
  return {tile_rows == 0 ? std::max<std::int64_t>(rows, 1) : tile_rows,
          tile_cols == 0 ? std::max<std::int64_t>(cols, 1) : tile_cols, tile_count(rows, tile_rows),
          tile_count(cols, tile_cols)};
}

/// Scales of the tiles of one group, in the axes of the original.
struct GroupScales {
  TileGrid grid{};
  std::vector<std::uint32_t> amax;
  std::vector<float> encode;
  std::vector<float> decode;
  std::vector<std::uint32_t> code;
  std::vector<std::uint8_t> poisoned;
  TensorScale tensor;

  void resize(const TileGrid& g) {
    grid = g;
    const std::size_t n = static_cast<std::size_t>(g.row_tiles * g.col_tiles);
    amax.assign(n, 0);
    encode.assign(n, 1.0f);
    decode.assign(n, 1.0f);
    code.assign(n, 0);
    poisoned.assign(n, 0);
  }
};

bool needs_row_ids(const QuantizerSpec& spec) { return spec.cast.rounding == Rounding::stochastic; }

void store_scale(QuantizedTensor& q, std::int64_t row, std::int64_t col, std::uint32_t code) {
  const std::int64_t at = row * q.scale_cols + col;
  if (q.spec.scale_format == ScaleFormat::f32)
    q.scales.as<float>()[at] = float_of(code);
  else
    q.scales.as<std::uint8_t>()[at] = static_cast<std::uint8_t>(code);
}

}  // namespace

CpuBackend::FloatSource CpuBackend::float_source(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                                 const QuantizerSpec& spec, Orientation orientation) {
  NG_CHECK(x.dtype == Dtype::f32 || x.dtype == Dtype::bf16);
  FloatSource source{x.as<float>(), x.stride, {}};
  const HadamardSpec& hadamard = spec.hadamard;
  if (x.dtype == Dtype::f32 && hadamard.size == 0) return source;
  source.copy.resize(static_cast<std::size_t>(x.rows * x.cols));
  source.data = source.copy.data();
  source.stride = x.cols;
  pool_.parallel_ranges(x.rows, kRowsPerPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* to = source.copy.data() + r * x.cols;
      if (x.dtype == Dtype::bf16)
        kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(x.row(r)), to, x.cols);
      else
        std::memcpy(to, x.row(r), static_cast<std::size_t>(x.cols) * sizeof(float));
    }
  });
  if (hadamard.size == 0) return source;
  const HadamardSignMask mask = hadamard_sign_mask(hadamard, context.seed);
  if (orientation == Orientation::row) {
    NG_CHECK_EQ(x.cols % hadamard.size, 0);
    pool_.parallel_for(x.rows, [&](std::int64_t r) {
      kernels_.hadamard_row(hadamard, mask, source.copy.data() + r * x.cols, x.cols);
    });
  } else {
    for (std::int64_t g = 0; g < groups.count(); ++g) {
      const std::int64_t begin = groups.begin(g, x.rows);
      const std::int64_t rows = groups.end(g, x.rows) - begin;
      NG_CHECK_EQ(rows % hadamard.size, 0);
      pool_.parallel_for(rows / hadamard.size, [&](std::int64_t i) {
        kernels_.hadamard_columns(hadamard, mask, source.copy.data() + (begin + i * hadamard.size) * x.cols, x.cols,
                                  x.cols);
      });
    }
  }
  return source;
}

QuantizedTensor CpuBackend::quantize(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                     const QuantizerSpec& spec, Orientation orientation, const Site& site) {
  const FloatSource source = float_source(context, x, groups, spec, orientation);
  return quantize_floats(context, source.data, source.stride, x, groups, spec, orientation, site);
}

QuantizedTensor CpuBackend::quantize_floats(const StepContext& context, const float* data, std::int64_t stride,
                                            const TensorView& x, const RowGroups& groups, const QuantizerSpec& spec,
                                            Orientation orientation, const Site& site) {
  const bool row_form = orientation == Orientation::row;
  const std::int64_t group_count = groups.count();
  QuantizedTensor q;
  q.spec = spec;
  q.orientation = orientation;
  q.rows = row_form ? x.rows : x.cols;
  q.cols = row_form ? x.cols : x.rows;
  q.groups = groups;
  q.storage = storage_of(spec.element);
  q.row_bytes = static_cast<std::int64_t>(packed_row_bytes(q.storage, static_cast<std::size_t>(q.cols)));
  q.codes = allocate(static_cast<std::size_t>(q.rows * q.row_bytes));

  // 1. amax of every tile.
  std::vector<GroupScales> scales(static_cast<std::size_t>(group_count));
  q.tile_offsets.assign(1, 0);
  for (std::int64_t g = 0; g < group_count; ++g) {
    const std::int64_t begin = groups.begin(g, x.rows);
    const std::int64_t rows = groups.end(g, x.rows) - begin;
    GroupScales& s = scales[static_cast<std::size_t>(g)];
    s.resize(grid_of(spec, orientation, rows, x.cols));
    q.tile_offsets.push_back(q.tile_offsets.back() + s.grid.row_tiles);
    pool_.parallel_for(s.grid.row_tiles, [&](std::int64_t t) {
      const std::int64_t last = std::min(rows, (t + 1) * s.grid.rows);
      for (std::int64_t r = t * s.grid.rows; r < last; ++r)
        kernels_.amax_tiles(data + (begin + r) * stride, x.cols, s.grid.cols, r > t * s.grid.rows,
                            s.amax.data() + t * s.grid.col_tiles);
    });
  }

  // 2. Tensor scales, then tile scales.
  const bool has_scales = spec.scale_format != ScaleFormat::none;
  q.scale_rows = row_form ? q.tile_offsets.back() : tile_count(x.cols, spec.tile_rows);
  q.scale_cols = row_form ? tile_count(x.cols, spec.tile_cols) : q.tile_offsets.back();
  if (has_scales)
    q.scales = allocate(static_cast<std::size_t>(q.scale_rows * q.scale_cols) *
                        (spec.scale_format == ScaleFormat::f32 ? sizeof(float) : 1));
  if (needs_tensor_amax(spec.rule)) {
    q.tensor_scales = allocate(static_cast<std::size_t>(group_count) * sizeof(float));
    std::uint32_t whole = 0;
    for (const GroupScales& s : scales)
      for (const std::uint32_t amax : s.amax) whole = std::max(whole, amax);
    for (std::int64_t g = 0; g < group_count; ++g) {
      GroupScales& s = scales[static_cast<std::size_t>(g)];
      std::uint32_t amax = whole;
      if (spec.tensor_scope == TensorScope::group)
        amax = s.amax.empty() ? 0 : *std::max_element(s.amax.begin(), s.amax.end());
      s.tensor = tensor_scale(spec, amax);
      q.tensor_scales.as<float>()[g] = s.tensor.decode;
    }
  }
  bool has_nan = false;
  for (std::int64_t g = 0; g < group_count; ++g) {
    GroupScales& s = scales[static_cast<std::size_t>(g)];
    for (const std::uint32_t amax : s.amax) has_nan = has_nan || amax >= kInfinityBits;
    if (!has_scales) continue;
    kernels_.tile_scales(spec, s.tensor, s.amax.data(), static_cast<std::int64_t>(s.amax.size()),
                         TileScaleArrays{s.encode.data(), s.decode.data(), s.code.data(), s.poisoned.data()});
    for (const float factor : s.encode) has_nan = has_nan || !is_finite_bits(bits_of(factor));
    if (spec.rule == ScaleRule::four_over_six) {
      const std::int64_t begin = groups.begin(g, x.rows);
      choose_four_over_six(spec, orientation, data + begin * stride, stride, groups.end(g, x.rows) - begin, x.cols,
                           s.grid.rows, s.grid.cols, s.amax, s.tensor, s.encode, s.code);
    }
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    for (std::int64_t i = 0; i < s.grid.row_tiles; ++i)
      for (std::int64_t j = 0; j < s.grid.col_tiles; ++j) {
        const std::uint32_t code = s.code[static_cast<std::size_t>(i * s.grid.col_tiles + j)];
        if (row_form)
          store_scale(q, offset + i, j, code);
        else
          store_scale(q, j, offset + i, code);
      }
  }
  if (has_nan && spec.cast.nan == NanChoice::error && spec.element.nan == NanCodes::none)
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t c = 0; c < x.cols; ++c) q.nan_inputs += is_nan_bits(bits_of(data[r * stride + c])) ? 1 : 0;

  // 3. Codes.
  const std::size_t code_bytes = q.storage == CodeStorage::half ? 2 : 1;
  const bool random = needs_row_ids(spec);
  const RandomStream stream{context.seed, RandomPurpose::stochastic_rounding, site.tensor_id,
                            static_cast<std::uint32_t>(context.step)};
  std::uint8_t* codes = q.codes.as<std::uint8_t>();
  const auto encode_part = [&](const GroupScales& s, std::int64_t row, std::int64_t row_in_group, std::int64_t col0,
                               std::int64_t cols, std::uint32_t* draws, void* out) {
    if (random) {
      const std::int64_t logical = logical_row(x.placement, row);
      if (logical >= 0)
        kernels_.fill_draws(stream,
                            static_cast<std::uint64_t>(logical) * static_cast<std::uint64_t>(x.placement.cols) +
                                static_cast<std::uint64_t>(x.placement.col0 + col0),
                            cols, spec.cast.random_bits, draws);
      else
        std::fill(draws, draws + cols, 0u);
    }
    const std::int64_t tile0 = (row_in_group / s.grid.rows) * s.grid.col_tiles + col0 / s.grid.cols;
    kernels_.encode_row(spec, EncodeRow{data + row * stride + col0, cols, s.grid.cols,
                                        s.encode.data() + tile0, s.poisoned.data() + tile0, has_nan, draws, out});
  };
  for (std::int64_t g = 0; g < group_count; ++g) {
    const GroupScales& s = scales[static_cast<std::size_t>(g)];
    const std::int64_t begin = groups.begin(g, x.rows);
    const std::int64_t rows = groups.end(g, x.rows) - begin;
    if (row_form) {
      pool_.parallel_ranges(rows, kRowsPerPiece, [&](std::int64_t first, std::int64_t last) {
        std::vector<std::uint8_t> line(static_cast<std::size_t>(x.cols) * code_bytes);
        std::vector<std::uint32_t> draws(random ? static_cast<std::size_t>(x.cols) : 0);
        for (std::int64_t r = first; r < last; ++r) {
          std::uint8_t* to = codes + (begin + r) * q.row_bytes;
          void* direct = q.storage == CodeStorage::nibble ? line.data() : to;
          encode_part(s, begin + r, r, 0, x.cols, draws.data(), direct);
          if (q.storage == CodeStorage::nibble) kernels_.pack_nibbles(line.data(), x.cols, to);
        }
      });
      continue;
    }
    // Column form: pieces of columns, so that each row of the transposed codes has one writer.
    const std::int64_t step = s.grid.cols >= kColsPerPiece ? s.grid.cols : kColsPerPiece / s.grid.cols * s.grid.cols;
    pool_.parallel_ranges(x.cols, step, [&](std::int64_t col0, std::int64_t col1) {
      const std::int64_t width = col1 - col0;
      std::vector<std::uint8_t> block(static_cast<std::size_t>(kRowsPerPiece * width) * code_bytes);
      std::vector<std::uint32_t> draws(random ? static_cast<std::size_t>(width) : 0);
      std::uint8_t column[kRowsPerPiece];
      for (std::int64_t r0 = 0; r0 < rows; r0 += kRowsPerPiece) {
        const std::int64_t height = std::min(kRowsPerPiece, rows - r0);
        for (std::int64_t r = 0; r < height; ++r)
          encode_part(s, begin + r0 + r, r0 + r, col0, width, draws.data(),
                      block.data() + static_cast<std::size_t>(r * width) * code_bytes);
        for (std::int64_t c = 0; c < width; ++c) {
          std::uint8_t* to = codes + (col0 + c) * q.row_bytes;
          const std::int64_t at = begin + r0;
          if (q.storage == CodeStorage::half) {
            for (std::int64_t r = 0; r < height; ++r)
              std::memcpy(to + 2 * (at + r), block.data() + 2 * (r * width + c), 2);
          } else if (q.storage == CodeStorage::byte) {
            for (std::int64_t r = 0; r < height; ++r) to[at + r] = block[static_cast<std::size_t>(r * width + c)];
          } else if (at % 2 == 0) {
            for (std::int64_t r = 0; r < height; ++r) column[r] = block[static_cast<std::size_t>(r * width + c)];
            kernels_.pack_nibbles(column, height, to + at / 2);
          } else {
            for (std::int64_t r = 0; r < height; ++r) {  // the byte that holds the previous group's last code
              const std::uint8_t code = block[static_cast<std::size_t>(r * width + c)];
              std::uint8_t& byte = to[(at + r) / 2];
              byte = static_cast<std::uint8_t>((at + r) % 2 == 0 ? code : (byte & 0xf) | code << 4);
            }
          }
        }
      }
    });
  }
  return q;
}

/// Chooses for each tile between the scales for 6 and for 4 by the error that the spec names (numerics.md section 2).
void CpuBackend::choose_four_over_six(const QuantizerSpec& spec, Orientation orientation, const float* data,
                                      std::int64_t stride, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
                                      std::int64_t tile_cols, const std::vector<std::uint32_t>& amax,
                                      const TensorScale& tensor, std::vector<float>& encode_factors,
                                      std::vector<std::uint32_t>& codes) {
  const std::int64_t col_tiles = (cols + tile_cols - 1) / tile_cols;
  const std::int64_t count = static_cast<std::int64_t>(amax.size());
  pool_.parallel_for(count, [&](std::int64_t t) {
    const std::int64_t row0 = t / col_tiles * tile_rows;
    const std::int64_t col0 = t % col_tiles * tile_cols;
    const std::int64_t height = std::min(tile_rows, rows - row0);
    const std::int64_t width = std::min(tile_cols, cols - col0);
    // A line is a row of the tile as quantized.
    const bool row_form = orientation == Orientation::row;
    const std::int64_t lines = row_form ? height : width;
    const std::int64_t length = row_form ? width : height;
    NG_CHECK(lines <= kFourOverSixLines);
    const std::size_t at = static_cast<std::size_t>(t);
    const TileScale scale = four_over_six_scale(spec, amax[at], tensor, lines, length, [&](std::int64_t l, std::int64_t i) {
      return row_form ? data[(row0 + l) * stride + col0 + i] : data[(row0 + i) * stride + col0 + l];
    });
    encode_factors[at] = spec.application == ScaleApplication::divide ? scale.divisor : scale.encode;
    codes[at] = scale.code;
  });
}

TensorForms CpuBackend::produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                                std::span<const FormRequest> requests) {
  TensorForms result{x, groups, {}};
  const auto quantized_form = [&](const FormRequest& request, const TensorView& from) {
    Form form{request.gemm, orientation_of(request.operand, request.gemm), OperandKind::quantized, {}, {}};
    auto q = std::make_shared<QuantizedTensor>(
        quantize(context, from, groups, request.spec.quantizer, form.orientation, *request.site));
    if (q->nan_inputs > 0)
      throw DivergedError("NaN reached " + request.site->name + " (" + std::to_string(q->nan_inputs) +
                          " elements), whose quantizer forbids it (nan = error)");
    if (tap_ != nullptr && context.phase == Phase::train && tap_->wants(context, *request.site))
      tap_->quantized(QuantizationEvent{context, *request.site, from, groups, *q});
    form.quantized = std::move(q);
    return form;
  };
  for (const FormRequest& request : requests) {
    if (request.spec.kind == OperandKind::quantized) {
      if (request.spec.source == FormSource::original) {
        result.forms.push_back(quantized_form(request, x.view));
        continue;
      }
      const Form* first = result.find(Gemm::fprop);
      NG_CHECK(first != nullptr && first->quantized != nullptr);
      Tensor decoded = tensor(Dtype::f32, x.view.rows, x.view.cols);
      dequantize(*first->quantized, decoded.view);
      decoded.view.placement = x.view.placement;
      result.forms.push_back(quantized_form(request, decoded.view));
      continue;
    }
    const Dtype dtype = request.spec.kind == OperandKind::f32 ? Dtype::f32 : Dtype::bf16;
    Form form{request.gemm, orientation_of(request.operand, request.gemm), request.spec.kind, {}, {}};
    for (const Form& other : result.forms)
      if (other.kind == request.spec.kind) form.plain = other.plain;
    if (!form.plain) {
      if (x.view.dtype == dtype) {
        form.plain = x;
      } else {
        form.plain = tensor(dtype, x.view.rows, x.view.cols);
        cast(x.view, form.plain.view);
      }
    }
    result.forms.push_back(std::move(form));
  }
  return result;
}

void CpuBackend::decode_rows(const QuantizedTensor& q, bool with_tensor_scale, std::int64_t row0, std::int64_t row1,
                             float* out, std::int64_t stride) const {
  const ElementTable& table = element_table(q.spec.element_id);
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t original_rows = row_form ? q.rows : q.cols;
  std::vector<float> scales(static_cast<std::size_t>(std::max<std::int64_t>(q.scale_cols, 1)), 1.0f);
  for (std::int64_t g = 0; g < q.groups.count(); ++g) {
    const std::int64_t begin = q.groups.begin(g, original_rows);
    const std::int64_t end = q.groups.end(g, original_rows);
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    const float tensor = with_tensor_scale && q.has_tensor_scale() ? q.tensor_scales.as<float>()[g] : 1.0f;
    const std::int64_t first_row = row_form ? std::max(begin, row0) : row0;
    const std::int64_t last_row = row_form ? std::min(end, row1) : row1;
    const std::int64_t col0 = row_form ? 0 : begin;
    const std::int64_t count = row_form ? q.cols : end - begin;
    const std::int64_t tile = q.spec.tile_cols == 0 ? std::max<std::int64_t>(count, 1) : q.spec.tile_cols;
    const std::int64_t tiles = (count + tile - 1) / tile;
    for (std::int64_t r = first_row; r < last_row; ++r) {
      if (q.spec.scale_format != ScaleFormat::none) {
        const std::int64_t in_group = row_form ? r - begin : r;
        const std::int64_t tile_row = q.spec.tile_rows == 0 ? 0 : in_group / q.spec.tile_rows;
        const std::int64_t at = row_form ? (offset + tile_row) * q.scale_cols : tile_row * q.scale_cols + offset;
        for (std::int64_t j = 0; j < tiles; ++j)
          scales[static_cast<std::size_t>(j)] =
              q.spec.scale_format == ScaleFormat::f32
                  ? q.scales.as<float>()[at + j]
                  : stored_scale_value(q.spec.scale_format, q.scales.as<std::uint8_t>()[at + j]);
      } else {
        std::fill(scales.begin(), scales.end(), 1.0f);
        if (static_cast<std::int64_t>(scales.size()) < tiles) scales.assign(static_cast<std::size_t>(tiles), 1.0f);
      }
      float* to = out + (r - row0) * stride + col0;
      kernels_.decode_row(q.storage, table.value.data(), q.codes.as<std::uint8_t>() + r * q.row_bytes, col0, count,
                          scales.data(), tile, to);
      if (with_tensor_scale && q.has_tensor_scale())
        for (std::int64_t c = 0; c < count; ++c) to[c] = decoded_product(to[c], tensor);
    }
  }
}

void CpuBackend::dequantize(const QuantizedTensor& q, const TensorView& out) {
  NG_CHECK_EQ(out.rows, q.rows);
  NG_CHECK_EQ(out.cols, q.cols);
  pool_.parallel_ranges(q.rows, kRowsPerPiece, [&](std::int64_t begin, std::int64_t end) {
    if (out.dtype == Dtype::f32) {
      decode_rows(q, true, begin, end, out.as<float>() + begin * out.stride, out.stride);
      return;
    }
    NG_CHECK(out.dtype == Dtype::bf16);
    std::vector<float> rows(static_cast<std::size_t>((end - begin) * q.cols));
    decode_rows(q, true, begin, end, rows.data(), q.cols);
    for (std::int64_t r = begin; r < end; ++r)
      kernels_.round_bf16(rows.data() + (r - begin) * q.cols, reinterpret_cast<std::uint16_t*>(out.row(r)), q.cols);
  });
}

}  // namespace ng::cpu
