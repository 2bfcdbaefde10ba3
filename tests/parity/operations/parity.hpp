// SPDX-License-Identifier: Apache-2.0
//
// One operation on the CPU backend and on the CUDA backend, plain kernels and fastest: the same inputs, the same bytes.
// The tests that use it are built twice: against the host's memory (operations_on_host, everywhere) and against a GPU
// (operations_gpu).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "narrowgauge/backend/backend.hpp"

namespace ng_test {

/// What an operation left behind, by name, in host memory.
class Outputs {
 public:
  void add(const ng::Backend& backend, const std::string& name, const ng::TensorView& view);
  /// `count` elements of a backend's buffer.
  void add(ng::Backend& backend, const std::string& name, const ng::Buffer& buffer, ng::Dtype dtype,
           std::int64_t count);
  void add(const std::string& name, double value);
  void add(const std::string& name, const std::vector<std::int64_t>& values);
  /// All of another's.
  void append(const Outputs& other);

  /// Empty when equal, else which output differs where. NaNs of floats are equal to each other.
  [[nodiscard]] std::string difference(const Outputs& got) const;

 private:
  struct Entry {
    std::string name;
    ng::Dtype dtype;
    std::int64_t cols;
    std::vector<std::byte> bytes;
  };
  std::vector<Entry> entries_;
};

/// Makes the inputs in the backend's memory, runs the operation, keeps what it wrote.
using OperationCase = std::function<Outputs(ng::Backend&)>;

/// Skips the test, saying why, where there is no GPU.
class OperationParity : public testing::Test {
 public:
  /// The case on all backends. `arithmetic`: of the products.
  static void expect_parity(const std::string& name, const OperationCase& run,
                            ng::Arithmetic arithmetic = ng::Arithmetic::ieee);

 protected:
  void SetUp() override;
};

/// How input values lie.
enum class Values : std::uint8_t {
  normal,   ///< mean 0, deviation 1
  wide,     ///< exponents over 40 binades, both signs, zeros
  special,  ///< normal with zeros, subnormals, huge values, infinities and NaN among them
};

/// FP32 values, a function of the number `seed` alone.
[[nodiscard]] std::vector<float> values(Values kind, std::int64_t count, std::uint32_t seed);

/// A tensor of f32 or bf16 in the backend's memory with those values; `padding`: unused elements behind each row,
/// so that the stride is not the width (filled with NaN, which must not be read).
[[nodiscard]] ng::Tensor tensor_of(ng::Backend& backend, ng::Dtype dtype, std::int64_t rows, std::int64_t cols,
                                   Values kind, std::uint32_t seed, std::int64_t padding = 0);
/// Integers in [0, below).
[[nodiscard]] ng::Tensor integers_of(ng::Backend& backend, ng::Dtype dtype, std::int64_t rows, std::int64_t cols,
                                     std::int64_t below, std::uint32_t seed);

}  // namespace ng_test
