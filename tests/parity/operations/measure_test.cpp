// SPDX-License-Identifier: Apache-2.0
//
// Claim: measure and measure_product of the CUDA backend give the CPU backend's sums, counts, maxima and lists, bit by
// bit: of every quantizer, both orientations, ragged groups, padding rows, transforms, residuals of outliers.
// Alone: build/release/bin/operations_on_host --gtest_filter='OperationParity.Measure*'
#include <cstring>

#include "operations/quantized.hpp"

namespace ng_test {
namespace {

using namespace ng;

const Site kSite{"layer.1/fc1/activation/wgrad", 3, 77};

StepContext context_of_step() {
  StepContext context;
  context.step = 11;
  context.seed = 5;
  return context;
}

void add_sum(Outputs& out, const std::string& name, const UnroundedSum& sum) {
  std::vector<std::int64_t> words(sizeof sum / sizeof(std::int64_t));
  std::memcpy(words.data(), &sum, sizeof sum);
  out.add(name, words);
}

void add_measurement(Outputs& out, const Measurement& m) {
  const MeasureSums& s = m.sums;
  const std::pair<const char*, double> numbers[] = {
      {"count", s.count},
      {"nonzero", s.nonzero},
      {"underflow", s.underflow},
      {"saturated", s.saturated},
      {"max_abs_error", s.max_abs_error},
      {"max_rel_error", s.max_rel_error},
      {"scale_count", s.scale_count},
      {"scale_log2_min", s.scale_log2_min},
      {"scale_log2_max", s.scale_log2_max},
      {"double_changed", s.double_changed},
      {"gap_count", s.gap_count},
      {"transpose_count", s.transpose_count},
  };
  for (const auto& [name, value] : numbers) out.add(name, value);
  const std::pair<const char*, const UnroundedSum*> sums[] = {
      {"error2", &s.error2},
      {"square", &s.square},
      {"decoded2", &s.decoded2},
      {"product", &s.product},
      {"signed_error", &s.signed_error},
      {"absolute", &s.absolute},
      {"scale_log2_sum", &s.scale_log2_sum},
      {"double_error2", &s.double_error2},
      {"double_total2", &s.double_total2},
      {"single_total2", &s.single_total2},
      {"gap", &s.gap},
      {"transpose2", &s.transpose2},
      {"transpose_published2", &s.transpose_published2},
  };
  for (const auto& [name, sum] : sums) add_sum(out, name, *sum);
  std::vector<std::int64_t> scales;
  for (const PlacedScale& scale : m.scales) {
    scales.push_back(scale.place);
    scales.push_back(std::bit_cast<std::int32_t>(scale.scale));
  }
  out.add("scales", scales);
  out.add("codes", m.code_counts);
}

/// What recipes use beside training_specs(): scales of powers of two, wide elements, outlier splits.
std::vector<NamedSpec> measured_specs() {
  std::vector<NamedSpec> list = training_specs();
  const auto add = [&](const std::string& name, QuantizerSpec spec) { list.push_back({name, spec}); };
  QuantizerSpec powers = preset("fp8_1x128");
  powers.rule = ScaleRule::absmax_pow2;
  add("fp8_1x128 of powers of two", powers);
  powers.tile_cols = 16;
  add("fp8_1x16 of powers of two", powers);
  powers.element = format_of(FormatId::e5m6);
  powers.element_id = FormatId::e5m6;
  add("e5m6 of powers of two", powers);
  add("bare bf16", bare_cast(FormatId::bf16));
  for (const OutlierResidual residual : {OutlierResidual::bf16, OutlierResidual::e4m3, OutlierResidual::none})
    for (const OutlierScope scope : {OutlierScope::row, OutlierScope::tensor}) {
      QuantizerSpec clamped = preset("fp4_token");
      clamped.outlier = OutlierSpec{0.9, scope, residual};
      add("clamped", clamped);
      clamped = preset("mxfp4");
      clamped.outlier = OutlierSpec{0.95, scope, residual};
      clamped.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
      add("clamped and transformed", clamped);
    }
  return list;
}

struct Shape {
  std::int64_t rows, cols;
  bool grouped, padded;
};

/// Rows of experts: some are padding, and their ids are negative or behind the logical tensor.
Tensor padding_ids(Backend& b, std::int64_t rows) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(rows));
  for (std::int64_t r = 0; r < rows; ++r)
    ids[static_cast<std::size_t>(r)] = r % 32 >= 20 ? (r % 3 == 0 ? -1 : 300 + r) : (r * 37) % 299;
  const Tensor tensor = b.tensor(Dtype::i64, 1, rows);
  b.upload(tensor.view, ids.data());
  return tensor;
}

Outputs measured(Backend& b, const QuantizerSpec& spec, Orientation orientation, Dtype dtype, const Shape& shape,
                 Values kind, std::uint32_t seed, const MeasureRequest& request) {
  Tensor x = tensor_of(b, dtype, shape.rows, shape.cols, kind, seed, seed % 2 == 0 ? 0 : 3);
  x.view.placement = Placement{4 * shape.rows, shape.cols + 16, 7, 16, nullptr};
  const Tensor ids = padding_ids(b, shape.rows);
  if (shape.padded) {
    x.view.placement.rows = 299;
    x.view.placement.row_ids = ids.view.as<std::int64_t>();
  }
  const RowGroups groups = shape.grouped ? ragged_groups(shape.rows, shape.rows % 16 == 0 ? 16 : 1) : RowGroups{};
  const StepContext context = context_of_step();
  const QuantizedTensor q = b.quantize(context, x.view, groups, spec, orientation, kSite);
  Outputs out;
  add_measurement(out, b.measure({context, kSite, x.view, groups, q}, request));
  return out;
}

constexpr Shape kShapes[] = {
    {80, 96, false, false}, {77, 301, true, false}, {96, 544, true, true}, {64, 64, false, true}};

TEST_F(OperationParity, MeasureErrors) {
  std::uint32_t seed = 0;
  for (const NamedSpec& named : measured_specs())
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Shape& shape : kShapes) {
        ++seed;
        const std::int64_t n = named.spec.hadamard.size;
        if (n != 0 && (shape.rows % n != 0 || shape.cols % n != 0)) continue;
        const Values kind = seed % 5 == 0 ? Values::special : seed % 5 == 1 ? Values::wide : Values::normal;
        const MeasureRequest request{.transpose = true, .scales = true, .codes = seed % 3 == 0};
        expect_parity(named.name + (orientation == Orientation::row ? " row " : " column ") + std::to_string(seed),
                      [&](Backend& b) {
                        return measured(b, named.spec, orientation, seed / 2 % 2 == 0 ? Dtype::f32 : Dtype::bf16, shape,
                                        kind, seed, request);
                      });
      }
}

// Column forms beside quantizers along the rows.
TEST_F(OperationParity, MeasureDoubleQuantizationAndGaps) {
  std::uint32_t seed = 1000;
  const std::vector<NamedSpec> specs = measured_specs();
  for (std::size_t i = 0; i < specs.size(); ++i)
    for (const Shape& shape : kShapes) {
      ++seed;
      const QuantizerSpec& column = specs[i].spec;
      const QuantizerSpec& row = specs[(i * 7 + seed) % specs.size()].spec;
      const std::int64_t n = column.hadamard.size;
      if (n != 0 && shape.rows % n != 0) continue;
      const Values kind = seed % 4 == 0 ? Values::special : seed % 4 == 1 ? Values::wide : Values::normal;
      const MeasureRequest request{.row_spec = &row, .double_quantization = seed % 3 != 0, .scale_gap = seed % 3 != 1};
      expect_parity(specs[i].name + " " + std::to_string(seed), [&](Backend& b) {
        return measured(b, column, Orientation::column, seed % 2 == 0 ? Dtype::f32 : Dtype::bf16, shape, kind, seed,
                        request);
      });
    }
}

// Trees of many leaves, blocks of a transpose, empty tensors.
TEST_F(OperationParity, MeasureShapes) {
  const QuantizerSpec row = preset("mxfp8_e4m3");
  for (const char* name : {"mxfp4", "mxfp8_e4m3", "nvfp4", "fp8_tensor", "fp4_token"})
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Shape& shape :
           {Shape{5, 8512, false, false}, Shape{160, 2816, true, false}, Shape{3, 9216, false, true},
            Shape{0, 64, false, false}, Shape{64, 0, false, false}, Shape{1, 1, false, false}}) {
        const MeasureRequest request{.row_spec = orientation == Orientation::column ? &row : nullptr,
                                     .double_quantization = true,
                                     .scale_gap = true,
                                     .transpose = true,
                                     .scales = true,
                                     .codes = true};
        expect_parity(std::string(name) + " " + std::to_string(shape.rows) + "x" + std::to_string(shape.cols),
                      [&](Backend& b) {
                        return measured(b, preset(name), orientation, Dtype::bf16, shape, Values::normal,
                                        static_cast<std::uint32_t>(shape.cols), request);
                      });
      }
}

// ---- products

/// An operand [rows, cols] with its original; `quantizer`: nullptr for a plain one, which is BF16.
Form operand_of(Backend& b, const Tensor& x, const RowGroups& groups, Gemm gemm, Operand operand,
                const QuantizerSpec* quantizer) {
  Form form{gemm, orientation_of(operand, gemm), OperandKind::bf16, {}, {}};
  form.original = x;
  if (quantizer == nullptr) {
    form.plain = b.tensor(Dtype::bf16, x.view.rows, x.view.cols);
    b.cast(x.view, form.plain.view);
    return form;
  }
  form.kind = OperandKind::quantized;
  form.quantized = std::make_shared<QuantizedTensor>(
      b.quantize(context_of_step(), x.view, groups, *quantizer, form.orientation, kSite));
  return form;
}

Outputs measured_products(Backend& b, Gemm gemm, const QuantizerSpec* a_spec, const QuantizerSpec* b_spec, Values kind,
                          std::uint32_t seed) {
  constexpr std::int64_t kR = 96, kC = 48, kN = 80;  // rows of all experts, hidden, outputs
  const RowGroups groups = ragged_groups(kR, 16);
  const std::int64_t experts = groups.count();
  RowGroups stack;
  for (std::int64_t e = 0; e <= experts; ++e) stack.offsets.push_back(e * kN);
  const Dtype dtype = seed % 2 == 0 ? Dtype::f32 : Dtype::bf16;
  const Tensor x = tensor_of(b, dtype, kR, kC, kind, seed, 1);
  const Tensor dy = tensor_of(b, dtype, kR, kN, Values::normal, seed + 1);
  const Tensor weight = tensor_of(b, Dtype::f32, experts * kN, kC, Values::normal, seed + 2, 3);
  const bool wgrad = gemm == Gemm::wgrad;
  const Form first = operand_of(b, gemm == Gemm::fprop ? x : dy, groups, gemm, operand_a(gemm), a_spec);
  const Form second = operand_of(b, wgrad ? x : weight, wgrad ? groups : stack, gemm, operand_b(gemm), b_spec);
  const std::int64_t rows = wgrad ? experts * kN : kR;
  Tensor out =
      tensor_of(b, wgrad ? Dtype::f32 : dtype, rows, gemm == Gemm::fprop ? kN : kC, Values::normal, seed + 3, 5);
  const Tensor ids = padding_ids(b, kR);
  out.view.placement = Placement{wgrad ? rows : 299, out.view.cols + 7, 0, 7, nullptr};
  if (!wgrad && seed % 3 != 0) out.view.placement.row_ids = ids.view.as<std::int64_t>();
  const std::vector<float> before = values(Values::normal, kSampledRows * out.view.cols, seed + 4);
  const StepContext context = context_of_step();
  const ProductEvent event{
      context, kSite,  gemm,     first,
      second,  groups, out.view, wgrad ? std::span<const float>(before) : std::span<const float>()};
  Outputs found;
  std::size_t elements = 0;
  for (const ProductElement& element : b.measure_product(event)) {
    found.add("place", std::vector<std::int64_t>{element.place});
    add_sum(found, "given", element.given);
    add_sum(found, "exact", element.exact);
    add_sum(found, "plain", element.plain);
    add_sum(found, "first", element.first);
    add_sum(found, "second", element.second);
    ++elements;
  }
  EXPECT_GT(elements, 0u) << seed;
  return found;
}

TEST_F(OperationParity, MeasureProducts) {
  std::uint32_t seed = 5000;
  QuantizerSpec turned = preset("nvfp4");
  turned.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  QuantizerSpec clamped = preset("fp4_token");
  clamped.outlier = OutlierSpec{0.9, OutlierScope::row, OutlierResidual::bf16};
  const QuantizerSpec specs[] = {preset("mxfp4"),       preset("nvfp4"), preset("fp8_1x128"), turned,
                                 preset("fp8_128x128"), clamped,         preset("fp8_tensor")};
  for (const QuantizerSpec& a : specs)
    for (const QuantizerSpec* second : {&a, &specs[1], static_cast<const QuantizerSpec*>(nullptr)})
      for (const Gemm gemm : {Gemm::fprop, Gemm::dgrad, Gemm::wgrad}) {
        ++seed;
        const Values kind = seed % 4 == 0 ? Values::special : seed % 4 == 1 ? Values::wide : Values::normal;
        const std::string name = "product " + std::to_string(seed);
        expect_parity(name, [&](Backend& b) { return measured_products(b, gemm, &a, second, kind, seed); });
        if (second != nullptr) continue;
        expect_parity(name + " the other way",
                      [&](Backend& b) { return measured_products(b, gemm, nullptr, &a, kind, seed); });
      }
}

}  // namespace
}  // namespace ng_test
