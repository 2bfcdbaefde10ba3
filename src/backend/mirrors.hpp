// SPDX-License-Identifier: Apache-2.0
//
// Copies of one backend's tensors in another backend's memory, for one operation, and the comparison afterwards of
// every byte that the operation could see. Two views of the same elements share one copy.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "narrowgauge/backend/backend.hpp"

namespace ng {

/// A difference between two results of one operation, in words; throws LogicError with it.
class Comparison {
 public:
  Comparison(const Backend& first, const Backend& second, std::string operation)
      : first_(first), second_(second), operation_(std::move(operation)) {}

  /// Elements of two views of one shape, byte for byte; NaNs of floats are equal to each other.
  void equal(const std::string& what, const TensorView& a, const TensorView& b) const;
  /// `count` elements of two buffers.
  void equal(const std::string& what, const Buffer& a, const Buffer& b) const;
  void equal(const std::string& what, const QuantizedTensor& a, const QuantizedTensor& b) const;
  void equal(const std::string& what, const TensorForms& a, const TensorForms& b) const;
  void equal(const std::string& what, const Routing& a, const Routing& b) const;
  /// Plain values that both computed on the host.
  void equal_values(const std::string& what, const void* a, const void* b, std::size_t bytes) const;
  void equal_counts(const std::string& what, const std::vector<std::int64_t>& a,
                    const std::vector<std::int64_t>& b) const;

 private:
  [[noreturn]] void differ(const std::string& text) const;

  const Backend& first_;
  const Backend& second_;
  std::string operation_;
};

/// What the first backend sees: the things themselves.
struct Originals {
  template <class T>
  const T& operator()(const T& thing) const {
    return thing;
  }
};

/// What the second backend sees: copies, made when first asked for.
class Mirrors {
 public:
  Mirrors(const Backend& first, Backend& second) : first_(first), second_(second) {}

  const TensorView& operator()(const TensorView& view);
  const Tensor& operator()(const Tensor& tensor);
  const Buffer& operator()(const Buffer& buffer);
  const QuantizedTensor& operator()(const QuantizedTensor& q);
  const SparseResidual& operator()(const SparseResidual& residual);
  const Form& operator()(const Form& form);
  const Product& operator()(const Product& product);
  const Routing& operator()(const Routing& routing);
  const ParameterUpdate& operator()(const ParameterUpdate& update);

  /// Everything that was copied, against what the first backend has now.
  void compare(const Comparison& comparison) const;

 private:
  struct View {
    TensorView original;
    TensorView copy;
    Buffer memory, row_ids;
  };
  [[nodiscard]] Buffer copied(const void* data, std::size_t bytes);

  const Backend& first_;
  Backend& second_;
  std::deque<View> views_;  // deques: references stay valid
  std::deque<Tensor> tensors_;
  std::deque<Buffer> buffers_;
  std::deque<QuantizedTensor> quantized_;
  std::deque<SparseResidual> residuals_;
  std::deque<Form> forms_;
  std::deque<Product> products_;
  std::deque<Routing> routings_;
  std::deque<ParameterUpdate> updates_;
};

}  // namespace ng
