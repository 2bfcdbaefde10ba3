// SPDX-License-Identifier: Apache-2.0
//
// Memory of the CUDA backend, and the operations that only move or add.
#include "backend/cuda_backend.hpp"

#include <cstring>

#include "backend/view_checks.hpp"
#include "fast/elements.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/simple.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

CudaBackend::CudaBackend(const BackendOptions& options, KernelChoice choice) : options_(options), choice_(choice) {
  (void)device_info();
  if (fast() && options.arithmetic == Arithmetic::hopper) library_ = std::make_unique<TensorCoreLibrary>();
}

std::string CudaBackend::device() const {
  const DeviceInfo info = device_info();
  return info.name + ", " + std::to_string(info.multiprocessors) + " multiprocessors, " +
         std::to_string(info.memory_bytes >> 20) + " MiB, CUDA " + info.runtime;
}

Buffer CudaBackend::allocate(std::size_t bytes) {
  return cuda::allocate(bytes);
}

void CudaBackend::fill_zero(const TensorView& view) {
  fill_rows(view.data, static_cast<std::size_t>(view.stride) * size_of(view.dtype), 0,
            static_cast<std::size_t>(view.cols) * size_of(view.dtype), static_cast<std::size_t>(view.rows));
}

void CudaBackend::upload(const TensorView& to, const void* from) {
  const std::size_t row_bytes = static_cast<std::size_t>(to.cols) * size_of(to.dtype);
  if (is_contiguous(to)) return copy_to_device(to.data, from, static_cast<std::size_t>(to.rows) * row_bytes);
  const Buffer packed = cuda::allocate(static_cast<std::size_t>(to.rows) * row_bytes);
  copy_to_device(packed.data.get(), from, packed.bytes);
  copy_rows_on_device(to.data, static_cast<std::size_t>(to.stride) * size_of(to.dtype), packed.data.get(), row_bytes,
                      row_bytes, static_cast<std::size_t>(to.rows));
}

void CudaBackend::download(void* to, const TensorView& from) const {
  faults_.check();
  const std::size_t row_bytes = static_cast<std::size_t>(from.cols) * size_of(from.dtype);
  const std::size_t bytes = static_cast<std::size_t>(from.rows) * row_bytes;
  if (is_contiguous(from)) return copy_to_host(to, from.data, bytes);
  const Buffer packed = cuda::allocate(bytes);
  copy_rows_on_device(packed.data.get(), row_bytes, from.data,
                      static_cast<std::size_t>(from.stride) * size_of(from.dtype), row_bytes,
                      static_cast<std::size_t>(from.rows));
  copy_to_host(to, packed.data.get(), bytes);
}

void CudaBackend::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  check_shape(a, out.rows, out.cols);
  check_shape(b, out.rows, out.cols);
  for (const TensorView* view : {&a, &b, &out}) check_real(*view);
  if (fast() && fast::elements_serve({&a, &b, &out}))
    fast::add(a, b, out, nullptr);
  else
    plain::add(a, b, out, nullptr);
}

void CudaBackend::cast(const TensorView& from, const TensorView& to) {
  check_shape(from, to.rows, to.cols);
  check_real(from);
  check_real(to);
  if (fast() && fast::elements_serve({&from, &to}))
    fast::cast(from, to, nullptr);
  else
    plain::cast(from, to, nullptr);
}

std::unique_ptr<Backend> make_backend_of(const BackendOptions& options, KernelChoice choice) {
  return std::make_unique<CudaBackend>(options, choice);
}

}  // namespace ng::cuda
