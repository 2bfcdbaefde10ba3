// SPDX-License-Identifier: Apache-2.0
//
// Forms of a tensor on the CPU: what a quantizer is given (widened, transformed), all forms of one tensor, and
// decoding. Quantization itself is in cpu_quantize.cpp.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu_backend.hpp"
#include "cpu_decode.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 32;

}  // namespace

CpuBackend::FloatSource CpuBackend::float_source(const StepContext& context, const TensorView& x,
                                                 const RowGroups& groups, const QuantizerSpec& spec,
                                                 Orientation orientation) {
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

QuantizedTensor CpuBackend::quantize_request(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                             const FormRequest& request, Orientation orientation) {
  const QuantizerSpec& spec = request.spec.quantizer;
  AmaxHistory* const history = request.history;
  if (history == nullptr) return quantize(context, x, groups, spec, orientation, *request.site);
  const std::vector<float> past = history->reduced();
  if (context.phase == Phase::train) {
    const Buffer seen = tensor_amax(context, x, groups, spec, orientation);
    history->note(seen.as<float>(), static_cast<std::int64_t>(seen.bytes / sizeof(float)));
  }
  if (past.empty()) return quantize(context, x, groups, spec, orientation, *request.site);
  Buffer amax = allocate(past.size() * sizeof(float));
  std::copy(past.begin(), past.end(), amax.as<float>());
  return quantize_known_amax(context, x, groups, spec, orientation, *request.site, amax);
}

Tensor CpuBackend::decoded_fprop(const TensorForms& forms, DecodedResidual residual, Dtype dtype) {
  const Form* first = forms.find(Gemm::fprop);
  NG_CHECK(first != nullptr && first->quantized != nullptr);
  const QuantizedTensor& q = *first->quantized;
  Tensor decoded = tensor(residual == DecodedResidual::added ? Dtype::f32 : dtype, q.rows, q.cols);
  dequantize(q, decoded.view);
  if (residual == DecodedResidual::added) {
    NG_CHECK(q.residual != nullptr);
    std::vector<float> values(decoded.view.as<float>(), decoded.view.as<float>() + decoded.view.count());
    add_residual(*q.residual, values);
    std::copy(values.begin(), values.end(), decoded.view.as<float>());
    if (dtype != Dtype::f32) {
      Tensor rounded = tensor(dtype, q.rows, q.cols);
      cast(decoded.view, rounded.view);
      decoded = rounded;
    }
  }
  decoded.view.placement = forms.original.view.placement;
  return decoded;
}

TensorForms CpuBackend::produce(const StepContext& context, const Tensor& x, const RowGroups& groups,
                                std::span<const FormRequest> requests) {
  TensorForms result{x, groups, {}};
  const auto quantized_form = [&](const FormRequest& request, const TensorView& from) {
    Form form{request.gemm, orientation_of(request.operand, request.gemm), OperandKind::quantized, {}, {}};
    auto q = std::make_shared<QuantizedTensor>(quantize_request(context, from, groups, request, form.orientation));
    if (q->nan_inputs > 0)
      throw DivergedError("NaN reached " + request.site->name + " (" + std::to_string(q->nan_inputs) +
                          " elements), whose quantizer forbids it (nan = error)");
    if (tap_ != nullptr && tap_->wants(context, *request.site))
      tap_->quantized(QuantizationEvent{context, *request.site, from, groups, *q});
    form.quantized = std::move(q);
    return form;
  };
  for (const FormRequest& request : requests) {
    if (request.spec.kind == OperandKind::quantized) {
      if (request.spec.source != FormSource::fprop) {
        result.forms.push_back(quantized_form(request, x.view));
        continue;
      }
      result.forms.push_back(quantized_form(request, decoded_fprop(result, DecodedResidual::dropped, Dtype::f32).view));
      continue;
    }
    const Dtype dtype = request.spec.kind == OperandKind::f32 ? Dtype::f32 : Dtype::bf16;
    Form form{request.gemm, orientation_of(request.operand, request.gemm), request.spec.kind, {}, {}};
    for (std::size_t i = 0; i < result.forms.size(); ++i)  // requests and forms are in one order
      if (requests[i].spec == request.spec) form.plain = result.forms[i].plain;
    if (!form.plain) {
      if (request.spec.source == FormSource::fprop) {
        form.plain = decoded_fprop(result, request.spec.residual, dtype);
      } else if (x.view.dtype == dtype) {
        form.plain = x;
      } else {
        form.plain = tensor(dtype, x.view.rows, x.view.cols);
        cast(x.view, form.plain.view);
      }
    }
    result.forms.push_back(std::move(form));
  }
  if (tap_ == nullptr) return result;
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (tap_->wants_original(context, *requests[i].site)) result.forms[i].original = x;
  return result;
}

void CpuBackend::decode_rows(const QuantizedTensor& q, DecodedScales which, std::int64_t row0, std::int64_t row1,
                             float* out, std::int64_t stride) const {
  const bool with_tensor_scale = which == DecodedScales::all;
  const ElementTable& table = element_table(q.spec.element_id);
  const bool row_form = q.orientation == Orientation::row;
  const std::int64_t original_rows = row_form ? q.rows : q.cols;
  std::vector<float> scales(static_cast<std::size_t>(std::max<std::int64_t>(q.scale_cols, 1)), 1.0f);
  for (std::int64_t g = 0; g < q.groups.count(); ++g) {
    const std::int64_t begin = q.groups.begin(g, original_rows);
    const std::int64_t end = q.groups.end(g, original_rows);
    const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(g)];
    const float tensor = with_tensor_scale && q.has_tensor_scale() ? q.tensor_scales.as<float>()[g] : 1.0f;
    const bool te = with_tensor_scale && q.spec.decode == DecodeOrder::te;
    const std::int64_t first_row = row_form ? std::max(begin, row0) : row0;
    const std::int64_t last_row = row_form ? std::min(end, row1) : row1;
    const std::int64_t col0 = row_form ? 0 : begin;
    const std::int64_t count = row_form ? q.cols : end - begin;
    const std::int64_t tile = q.spec.tile_cols == 0 ? std::max<std::int64_t>(count, 1) : q.spec.tile_cols;
    const std::int64_t tiles = (count + tile - 1) / tile;
    for (std::int64_t r = first_row; r < last_row; ++r) {
      if (q.spec.scale_format != ScaleFormat::none && which != DecodedScales::none) {
        const std::int64_t in_group = row_form ? r - begin : r;
        const std::int64_t tile_row = q.spec.tile_rows == 0 ? 0 : in_group / q.spec.tile_rows;
        const std::int64_t at = row_form ? (offset + tile_row) * q.scale_cols : tile_row * q.scale_cols + offset;
        for (std::int64_t j = 0; j < tiles; ++j)
          scales[static_cast<std::size_t>(j)] =
              q.spec.scale_format == ScaleFormat::f32
                  ? q.scales.as<float>()[at + j]
                  : stored_scale_value(q.spec.scale_format, q.scales.as<std::uint8_t>()[at + j]);
        for (std::int64_t j = 0; te && j < tiles; ++j)
          scales[static_cast<std::size_t>(j)] =
              te_decode_factor(scales[static_cast<std::size_t>(j)], q.tensor_amaxes.as<float>()[g]);
      } else {
        std::fill(scales.begin(), scales.end(), 1.0f);
        if (static_cast<std::int64_t>(scales.size()) < tiles) scales.assign(static_cast<std::size_t>(tiles), 1.0f);
      }
      float* to = out + (r - row0) * stride + col0;
      kernels_.decode_row(q.storage, table.value.data(), q.codes.as<std::uint8_t>() + r * q.row_bytes, col0, count,
                          scales.data(), tile, to);
      if (with_tensor_scale && q.has_tensor_scale() && !te)
        for (std::int64_t c = 0; c < count; ++c) to[c] = decoded_product(to[c], tensor);
    }
  }
}

void CpuBackend::dequantize(const QuantizedTensor& q, const TensorView& out) {
  NG_CHECK_EQ(out.rows, q.rows);
  NG_CHECK_EQ(out.cols, q.cols);
  pool_.parallel_ranges(q.rows, kRowsPerPiece, [&](std::int64_t begin, std::int64_t end) {
    if (out.dtype == Dtype::f32) {
      decode_rows(q, DecodedScales::all, begin, end, out.as<float>() + begin * out.stride, out.stride);
      return;
    }
    NG_CHECK(out.dtype == Dtype::bf16);
    std::vector<float> rows(static_cast<std::size_t>((end - begin) * q.cols));
    decode_rows(q, DecodedScales::all, begin, end, rows.data(), q.cols);
    for (std::int64_t r = begin; r < end; ++r)
      kernels_.round_bf16(rows.data() + (r - begin) * q.cols, reinterpret_cast<std::uint16_t*>(out.row(r)), q.cols);
  });
}

}  // namespace ng::cpu
