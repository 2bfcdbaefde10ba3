// SPDX-License-Identifier: Apache-2.0
//
// Parts of quantized tensors, and the list of quantizers.
#include "operations/quantized.hpp"

#include <stdexcept>

namespace ng_test {

using namespace ng;

void add_quantized(Outputs& out, Backend& backend, const std::string& name, const QuantizedTensor& q) {
  std::vector<std::int64_t> facts{static_cast<std::int64_t>(q.orientation),
                                  q.rows,
                                  q.cols,
                                  q.row_bytes,
                                  q.scale_rows,
                                  q.scale_cols,
                                  q.nan_inputs,
                                  static_cast<std::int64_t>(q.storage),
                                  q.residual != nullptr ? q.residual->count : -1};
  facts.insert(facts.end(), q.tile_offsets.begin(), q.tile_offsets.end());
  facts.insert(facts.end(), q.groups.offsets.begin(), q.groups.offsets.end());
  out.add(name + " shape", facts);
  const auto bytes = [&](const char* part, const Buffer& buffer) {
    out.add(backend, name + " " + part, buffer, Dtype::u8, static_cast<std::int64_t>(buffer.bytes));
  };
  const auto floats = [&](const char* part, const Buffer& buffer) {
    if (buffer.data != nullptr)
      out.add(backend, name + " " + part, buffer, Dtype::f32, static_cast<std::int64_t>(buffer.bytes / sizeof(float)));
  };
  bytes("codes", q.codes);
  if (q.spec.scale_format == ScaleFormat::f32)
    floats("scales", q.scales);
  else if (q.scales.data != nullptr)
    bytes("scales", q.scales);
  floats("tensor scales", q.tensor_scales);
  floats("tensor amaxes", q.tensor_amaxes);
  if (q.residual != nullptr) {
    const SparseResidual& r = *q.residual;
    out.add(name + " residual shape", std::vector<std::int64_t>{static_cast<std::int64_t>(r.format), r.rows, r.cols});
    out.add(backend, name + " row pointers", r.row_pointers, Dtype::i64, r.rows + 1);
    out.add(backend, name + " columns", r.columns, Dtype::i32, r.count);
    bytes("residual values", r.values);
  }
  out.add(name + " spec is the request's", static_cast<double>(q.spec.outlier.quantile));
}

QuantizerSpec preset(const std::string& name) {
  for (const NamedQuantizer& candidate : quantizer_presets())
    if (candidate.name == name) return candidate.spec;
  throw std::logic_error("no preset " + name);
}

std::vector<NamedSpec> training_specs() {
  std::vector<NamedSpec> list;
  for (const NamedQuantizer& named : quantizer_presets()) list.push_back({named.name, named.spec});
  const auto add = [&](const std::string& name, QuantizerSpec spec) { list.push_back({name, spec}); };
  const auto stochastic = [](QuantizerSpec spec, int bits) {
    spec.cast.rounding = Rounding::stochastic;
    spec.cast.random_bits = static_cast<std::int8_t>(bits);
    return spec;
  };
  add("mxfp4 stochastic", stochastic(preset("mxfp4"), 8));
  add("fp8_tensor stochastic 32", stochastic(preset("fp8_tensor"), 32));
  QuantizerSpec transformed = stochastic(preset("nvfp4"), 8);
  transformed.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  add("nvfp4 hadamard stochastic", transformed);
  transformed.hadamard = HadamardSpec{8, HadamardSigns::seeded, HadamardOrder::butterfly, HadamardResult::f32};
  add("nvfp4 hadamard of 8 in FP32", transformed);
  QuantizerSpec te = preset("nvfp4");
  te.decode = DecodeOrder::te;
  add("nvfp4 decoded as te", te);
  te.tensor_scope = TensorScope::whole;
  add("nvfp4 decoded as te, one scale", te);
  QuantizerSpec paper = preset("nvfp4_2d");
  paper.rule = ScaleRule::four_over_six;
  add("four over six", paper);
  QuantizerSpec forbids = preset("mxfp4");
  forbids.cast.nan = NanChoice::error;
  add("mxfp4 that forbids NaN", forbids);
  QuantizerSpec bare = bare_cast(FormatId::e5m2);
  add("bare e5m2", bare);
  return list;
}

RowGroups ragged_groups(std::int64_t rows, std::int64_t multiple) {
  if (rows == 0) return {};
  const std::int64_t first = rows / 3 / multiple * multiple;
  const std::int64_t second = rows * 5 / 6 / multiple * multiple;
  return RowGroups{{0, first, first, second, rows}};
}

}  // namespace ng_test
