// SPDX-License-Identifier: Apache-2.0
//
// Tensors for the tests of the backend's layers: values that are exact in their dtype, read back as double, and the
// gradient of a double function by central differences.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/numerics/hadamard.hpp"

namespace layers_test {

using ng::Backend;
using ng::Dtype;
using ng::Tensor;
using ng::TensorView;
using Doubles = std::vector<double>;

inline std::unique_ptr<Backend> cpu(int threads = 1, bool baseline = false) {
  ng::BackendOptions options;
  options.threads = threads;
  options.baseline_isa = baseline;
  return ng::make_cpu_backend(options);
}

/// Half a unit in the last place, relative.
constexpr double kHalfUlpF32 = 0x1p-24;
constexpr double kHalfUlpBf16 = 0x1p-8;
inline double half_ulp(Dtype dtype) {
  return dtype == Dtype::bf16 ? kHalfUlpBf16 : kHalfUlpF32;
}

/// [rows, cols] of the given values, rounded to the dtype.
inline Tensor from_values(Backend& b, Dtype dtype, std::int64_t rows, std::int64_t cols, const Doubles& values) {
  Tensor t = b.tensor(dtype, rows, cols);
  if (dtype == Dtype::f32) {
    const std::vector<float> data(values.begin(), values.end());
    b.upload(t.view, data.data());
  } else {
    std::vector<std::uint16_t> data;
    for (const double v : values)
      data.push_back(static_cast<std::uint16_t>(ng::bits_of(ng::round_to_bf16(static_cast<float>(v))) >> 16));
    b.upload(t.view, data.data());
  }
  return t;
}

/// Normal numbers times `deviation`, a function of the key.
inline Tensor random_tensor(Backend& b, Dtype dtype, std::int64_t rows, std::int64_t cols, unsigned key,
                            double deviation = 1.0) {
  std::mt19937 bits(key * 7919u + 13u);
  std::normal_distribution<double> normal(0.0, deviation);
  Doubles values(static_cast<std::size_t>(rows * cols));
  for (double& v : values) v = normal(bits);
  return from_values(b, dtype, rows, cols, values);
}

inline Tensor integers(Backend& b, const std::vector<std::int32_t>& values) {
  Tensor t = b.tensor(Dtype::i32, 1, static_cast<std::int64_t>(values.size()));
  b.upload(t.view, values.data());
  return t;
}

/// All elements of a real tensor.
inline Doubles values_of(const Backend& b, const TensorView& view) {
  const std::size_t n = static_cast<std::size_t>(view.count());
  Doubles values(n);
  if (view.dtype == Dtype::f32) {
    std::vector<float> data(n);
    b.download(data.data(), view);
    values.assign(data.begin(), data.end());
  } else if (view.dtype == Dtype::i32) {
    std::vector<std::int32_t> data(n);
    b.download(data.data(), view);
    values.assign(data.begin(), data.end());
  } else if (view.dtype == Dtype::i64) {
    std::vector<std::int64_t> data(n);
    b.download(data.data(), view);
    for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<double>(data[i]);
  } else {
    std::vector<std::uint16_t> data(n);
    b.download(data.data(), view);
    for (std::size_t i = 0; i < n; ++i)
      values[i] = static_cast<double>(ng::float_of(static_cast<std::uint32_t>(data[i]) << 16));
  }
  return values;
}
inline Doubles values_of(const Backend& b, const Tensor& t) {
  return values_of(b, t.view);
}

inline std::vector<std::byte> bytes_of(const Backend& b, const TensorView& view) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(view.count()) * ng::size_of(view.dtype));
  b.download(bytes.data(), view);
  return bytes;
}

inline void append(std::vector<std::byte>& to, const Backend& b, const Tensor& t) {
  const std::vector<std::byte> bytes = bytes_of(b, t.view);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// |actual - expected| <= tolerance(i) for every element.
inline void expect_near(const Doubles& actual, const Doubles& expected,
                        const std::function<double(std::size_t)>& tolerance, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  int shown = 0;
  for (std::size_t i = 0; i < actual.size() && shown < 5; ++i) {
    if (std::abs(actual[i] - expected[i]) <= tolerance(i)) continue;
    ++shown;
    ADD_FAILURE() << what << " at " << i << ": " << actual[i] << ", expected " << expected[i] << ", off by "
                  << actual[i] - expected[i] << ", allowed " << tolerance(i);
  }
}

/// The bits of two lists of floats that are exact in double.
inline void expect_same(const Doubles& actual, const Doubles& expected, const char* what) {
  expect_near(
      actual, expected, [](std::size_t) { return 0.0; }, what);
}

/// Elements as FP32.
inline std::vector<float> floats_of(const Backend& b, const TensorView& view) {
  const Doubles values = values_of(b, view);
  return {values.begin(), values.end()};
}
inline std::vector<float> floats_of(const Backend& b, const Tensor& t) {
  return floats_of(b, t.view);
}

/// FP32 numbers as a tensor of the dtype holds them.
inline Doubles rounded_to(Backend& b, Dtype dtype, const std::vector<float>& values) {
  return values_of(
      b, from_values(b, dtype, 1, static_cast<std::int64_t>(values.size()), Doubles(values.begin(), values.end())));
}

/// A "row sum" of backend.hpp, and that of products by fma.
inline float row_sum(const std::vector<float>& terms) {
  float chain[8] = {};
  for (std::size_t i = 0; i < terms.size(); ++i) chain[i % 8] += terms[i];
  return ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
}
inline float row_dot(const float* a, const float* b, std::size_t n) {
  float chain[8] = {};
  for (std::size_t i = 0; i < n; ++i) chain[i % 8] = std::fma(a[i], b[i], chain[i % 8]);
  return ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
}

inline double largest_magnitude(const Doubles& values) {
  double largest = 0.0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  return largest;
}

/// d f / d x by central differences with step h; f in double, so the error is about h^2 f''' / 6 + 1e-16 f / h.
inline Doubles differences(const std::function<double(const Doubles&)>& f, Doubles x, double h = 1e-4) {
  Doubles gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + h;
    const double above = f(x);
    x[i] = at - h;
    const double below = f(x);
    x[i] = at;
    gradient[i] = (above - below) / (2.0 * h);
  }
  return gradient;
}

inline double weighted_sum(const Doubles& values, const Doubles& weights) {
  double sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += values[i] * weights[i];
  return sum;
}

}  // namespace layers_test
