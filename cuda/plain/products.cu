// SPDX-License-Identifier: Apache-2.0
//
// One thread one output: the fma chain of `ieee`, or the tensor-core model of `hopper`.
#include "plain/products.hpp"

#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

NG_HD float real_at(const StridedReals& x, std::int64_t row, std::int64_t col) {
  const std::int64_t at = row * x.row_stride + col * x.col_stride;
  return x.dtype == Dtype::f32 ? static_cast<const float*>(x.data)[at]
                               : widen_bf16(static_cast<const std::uint16_t*>(x.data)[at]);
}

struct Chain {
  ChainProduct p;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / p.out.cols;
    const std::int64_t c = i % p.out.cols;
    const bool scaled = p.scale_a != nullptr || p.scale_b != nullptr;
    float sum = p.accumulate && !scaled ? load_real(p.out, r, c) : 0.0f;
    for (std::int64_t k = 0; k < p.k; ++k) sum = fma_rn(real_at(p.a, r, k), real_at(p.b, c, k), sum);
    if (scaled) {
      sum = mul_rn(sum, mul_rn(p.scale_a != nullptr ? *p.scale_a : 1.0f, p.scale_b != nullptr ? *p.scale_b : 1.0f));
      if (p.accumulate) sum = add_rn(load_real(p.out, r, c), sum);
    }
    store_real(p.out, r, c, sum);
  }
};

/// A tensor core's result, FP32, into the output.
NG_HD void store_result(const TensorView& out, bool accumulate, std::int64_t r, std::int64_t c, float result) {
  const std::int64_t at = r * out.stride + c;
  if (out.dtype == Dtype::bf16) {
    static_cast<std::uint16_t*>(out.data)[at] = static_cast<std::uint16_t>(output_bits(ProductOutput::bf16, result));
    return;
  }
  float* const to = static_cast<float*>(out.data) + at;
  *to = accumulate ? add_rn(*to, result) : result;
}

struct Model {
  ModelProduct p;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / p.out.cols;
    const std::int64_t c = i % p.out.cols;
    const StepOperands in{p.a.numbers + r * p.a.stride, p.b.numbers + c * p.b.stride, nullptr, nullptr,
                          p.a.smallest_exponent,        p.b.smallest_exponent,        0};
    const ElementScales scales{p.a.scales + r * p.a.scale_stride, p.b.scales + c * p.b.scale_stride};
    store_result(p.out, p.accumulate, r, c, tensor_core_element(p.spec, in, scales, p.k));
  }
};

struct Finish {
  FinishProduct p;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t r = i / p.out.cols;
    const std::int64_t c = i % p.out.cols;
    const bool outer = p.scales == ScaleMode::outer;
    const ElementScales scales{p.scales_a + (outer ? r : 0), p.scales_b + (outer ? c : 0)};
    store_result(p.out, p.accumulate, r, c, scaled_result(p.scales, p.sums[r * p.stride + c], scales));
  }
};

}  // namespace

void chain_product(const ChainProduct& product, Stream stream) {
  for_each("chain_product", product.out.rows * product.out.cols, stream, Chain{product});
}

void model_product(const ModelProduct& product, Stream stream) {
  for_each("model_product", product.out.rows * product.out.cols, stream, Model{product});
}

void finish_product(const FinishProduct& product, Stream stream) {
  for_each("finish_product", product.out.rows * product.out.cols, stream, Finish{product});
}

}  // namespace ng::cuda::plain
