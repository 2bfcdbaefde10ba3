// SPDX-License-Identifier: Apache-2.0
//
// Claim: outlier splits of the CUDA backend have the CPU backend's bytes: codes of the clamped part, residuals with
// their order, the amax of what is left, decoded forms with the residual added, and the compensation product.
// Alone: build/release/bin/operations_on_host --gtest_filter='OperationParity.Outliers*'
#include "operations/quantized.hpp"

namespace ng_test {
namespace {

using namespace ng;

const Site kSite{"layer.0/fc1/activation/fprop", 1, 21};

QuantizerSpec split(const char* name, double quantile, OutlierScope scope, OutlierResidual residual) {
  QuantizerSpec spec = preset(name);
  spec.outlier = OutlierSpec{quantile, scope, residual};
  return spec;
}

/// Values of which many are equal, so that bounds fall on ties; or of some other kind.
Tensor input(Backend& b, Dtype dtype, std::int64_t rows, std::int64_t cols, int kind, std::uint32_t seed) {
  if (kind < 3)
    return tensor_of(b, dtype, rows, cols,
                     kind == 0   ? Values::normal
                     : kind == 1 ? Values::wide
                                 : Values::special,
                     seed, static_cast<std::int64_t>(seed % 3));
  std::vector<float> list = values(Values::normal, rows * cols, seed);
  for (float& x : list) x = static_cast<float>(static_cast<int>(x * 3.0f)) * 0.5f * (x < 0.25f ? 1.0f : -1.0f);
  const Tensor wide = b.tensor(Dtype::f32, rows, cols);
  b.upload(wide.view, list.data());
  Tensor result = b.tensor(dtype, rows, cols);
  b.cast(wide.view, result.view);
  return result;
}

TEST_F(OperationParity, OutliersSplit) {
  std::uint32_t seed = 0;
  for (const OutlierScope scope : {OutlierScope::row, OutlierScope::tensor})
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const OutlierResidual residual :
           {OutlierResidual::none, OutlierResidual::bf16, OutlierResidual::e4m3, OutlierResidual::e5m2})
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
          for (const bool grouped : {false, true})
            for (int kind = 0; kind < 4; ++kind) {
              ++seed;
              const char* name = seed % 5 == 0 ? "nvfp4" : seed % 5 == 1 ? "mxfp4" : "fp4_token";
              const double quantile = seed % 3 == 0 ? 0.99 : seed % 3 == 1 ? 0.9 : 0.75;
              QuantizerSpec spec = split(name, quantile, scope, residual);
              if (seed % 4 == 3)
                spec.hadamard = HadamardSpec{8, HadamardSigns::seeded, HadamardOrder::butterfly, HadamardResult::bf16};
              const std::int64_t rows = seed % 4 == 3 ? 48 : 37 + seed % 7;
              const std::int64_t cols = seed % 4 == 3 ? 64 : 53 + seed % 11;
              expect_parity("split", [&](Backend& b) {
                const Tensor x = input(b, dtype, rows, cols, kind, seed);
                const RowGroups groups = grouped ? ragged_groups(rows, 8) : RowGroups{};
                StepContext context;
                context.seed = 3;
                const QuantizedTensor q = b.quantize(context, x.view, groups, spec, orientation, kSite);
                Outputs out;
                add_quantized(out, b, "q", q);
                out.add(b, "x", x.view);  // stays as it is
                const Buffer amax = b.tensor_amax(context, x.view, groups, spec, orientation);
                out.add(b, "amax", amax, Dtype::f32, static_cast<std::int64_t>(amax.bytes / sizeof(float)));
                return out;
              });
            }
}

// Rows that are longer than a block's threads, and a thousand of them.
TEST_F(OperationParity, OutliersLarge) {
  std::uint32_t seed = 1000;
  for (const OutlierScope scope : {OutlierScope::row, OutlierScope::tensor})
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        ++seed;
        const QuantizerSpec spec = split("fp4_token", seed % 2 == 0 ? 0.99 : 0.999, scope, OutlierResidual::bf16);
        expect_parity("large", [&](Backend& b) {
          const Tensor x =
              tensor_of(b, dtype, seed % 2 == 0 ? 21 : 403, seed % 2 == 0 ? 4520 : 264, Values::normal, seed);
          Outputs out;
          add_quantized(out, b, "q", b.quantize(StepContext{}, x.view, {}, spec, orientation, kSite));
          return out;
        });
      }
}

// More rows than a GPU holds blocks: a block has seen a row before, which most are like; some are a thousand times as
// large, some have a NaN or infinities.
TEST_F(OperationParity, OutliersManyRows) {
  constexpr std::int64_t kMany = 2401;
  std::uint32_t seed = 1500;
  for (const Orientation orientation : {Orientation::row, Orientation::column})
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
      for (const std::int64_t length : {136, 139}) {
        ++seed;
        const QuantizerSpec spec = split("fp4_token", 0.9, OutlierScope::row, OutlierResidual::bf16);
        expect_parity("many rows", [&](Backend& b) {
          std::vector<float> list = values(Values::normal, kMany * length, seed);
          for (std::int64_t i = 0; i < kMany * length; ++i) {
            const std::int64_t line = orientation == Orientation::row ? i / length : i % kMany;
            const std::int64_t at = orientation == Orientation::row ? i % length : i / kMany;
            float& x = list[static_cast<std::size_t>(i)];
            if (line % 97 == 5) x *= 1024.0f;
            if (line % 211 == 7 && at == 3) x = -float_of(kInfinityBits);
            if (line % 311 == 9 && at == 100) x = float_of(kQuietNanBits);
            if (line % 401 == 11) x = x < 0.0f ? -x : x;
          }
          const bool row_form = orientation == Orientation::row;
          const Tensor wide = b.tensor(Dtype::f32, row_form ? kMany : length, row_form ? length : kMany);
          b.upload(wide.view, list.data());
          const Tensor x = b.tensor(dtype, wide.view.rows, wide.view.cols);
          b.cast(wide.view, x.view);
          Outputs out;
          add_quantized(out, b, "q", b.quantize(StepContext{}, x.view, {}, spec, orientation, kSite));
          return out;
        });
      }
}

TEST_F(OperationParity, OutliersInForms) {
  std::uint32_t seed = 2000;
  for (const OutlierResidual residual : {OutlierResidual::bf16, OutlierResidual::e4m3})
    for (const DecodedResidual decoded : {DecodedResidual::dropped, DecodedResidual::added})
      for (const OperandKind kind : {OperandKind::f32, OperandKind::bf16}) {
        ++seed;
        expect_parity("forms", [&](Backend& b) {
          const Tensor x = tensor_of(b, Dtype::bf16, 40, 72, Values::wide, seed);
          FormRequest fprop;
          fprop.spec.kind = OperandKind::quantized;
          fprop.spec.quantizer = split("fp4_token", 0.9, OutlierScope::row, residual);
          fprop.site = &kSite;
          FormRequest wgrad = fprop;
          wgrad.gemm = Gemm::wgrad;
          wgrad.spec.kind = kind;
          wgrad.spec.source = FormSource::fprop;
          wgrad.spec.residual = decoded;
          const TensorForms forms = b.produce(StepContext{}, x, ragged_groups(40, 8), std::vector{fprop, wgrad});
          Outputs out;
          add_quantized(out, b, "fprop", *forms.forms[0].quantized);
          out.add(b, "wgrad", forms.forms[1].plain.view);
          return out;
        });
      }
}

TEST_F(OperationParity, OutliersProduct) {
  std::uint32_t seed = 3000;
  for (const OutlierResidual residual : {OutlierResidual::bf16, OutlierResidual::e4m3, OutlierResidual::e5m2})
    for (const Dtype weight : {Dtype::f32, Dtype::bf16})
      for (const std::int64_t n : {1, 31, 264})
        for (const Values kind : {Values::normal, Values::special}) {
          ++seed;
          expect_parity("product", [&](Backend& b) {
            const std::int64_t k = seed % 2 == 0 ? 96 : 301;
            const Tensor x = tensor_of(b, Dtype::bf16, 45, k, Values::normal, seed);
            const Tensor w = tensor_of(b, weight, n, k, kind, seed + 1, 2);
            const Tensor y = tensor_of(b, Dtype::f32, 45, n, Values::normal, seed + 2, 1);
            const QuantizerSpec spec = split("fp4_token", 0.8, OutlierScope::row, residual);
            const QuantizedTensor q = b.quantize(StepContext{}, x.view, {}, spec, Orientation::row, kSite);
            b.add_residual_product(*q.residual, w.view, y.view);
            Outputs out;
            out.add(b, "y", y.view);
            return out;
          });
        }
}

}  // namespace
}  // namespace ng_test
