// SPDX-License-Identifier: Apache-2.0
//
// Memory with an owner: a Buffer that a backend allocated, and a Tensor, which is a Buffer with a view of it. Copies
// share the memory.
#pragma once

#include <cstddef>
#include <memory>

#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng {

struct Buffer {
  std::shared_ptr<std::byte> data;
  std::size_t bytes = 0;

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data.get());
  }
};

struct Tensor {
  Buffer buffer;
  TensorView view;

  explicit operator bool() const { return view.data != nullptr; }
};

/// A contiguous [rows, cols] view of a buffer, placed as its own logical tensor.
inline Tensor make_tensor(Buffer buffer, Dtype dtype, std::int64_t rows, std::int64_t cols) {
  Tensor tensor{std::move(buffer), {}};
  tensor.view = TensorView{tensor.buffer.data.get(), dtype, rows, cols, cols, Placement{rows, cols, 0, 0, nullptr}};
  return tensor;
}

}  // namespace ng
