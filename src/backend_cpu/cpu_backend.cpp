// SPDX-License-Identifier: Apache-2.0
//
// Memory of the CPU backend, and the operations that only move or add.
#include "cpu_backend.hpp"

#include <cstring>
#include <new>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {
constexpr std::align_val_t kAlignment{64};
}

CpuBackend::CpuBackend(const BackendOptions& options)
    : options_(options), kernels_(cpu_kernels(options.baseline_isa)), pool_(options.threads) {}

std::string CpuBackend::device() const {
  return "CPU, " + std::string(kernels_.isa) + " kernels, " + std::to_string(pool_.threads()) +
         (pool_.threads() == 1 ? " thread" : " threads");
}

Buffer CpuBackend::allocate(std::size_t bytes) {
  // At least one byte: a view of nothing still has an address.
  void* data = ::operator new(bytes == 0 ? 1 : bytes, kAlignment, std::nothrow);
  if (data == nullptr) throw MachineError("out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  const auto release = [](std::byte* p) { ::operator delete(p, kAlignment); };
  return Buffer{std::shared_ptr<std::byte>(static_cast<std::byte*>(data), release), bytes};
}

void CpuBackend::fill_zero(const TensorView& view) {
  const std::size_t row_bytes = static_cast<std::size_t>(view.cols) * size_of(view.dtype);
  if (row_bytes == 0) return;
  for (std::int64_t r = 0; r < view.rows; ++r) std::memset(view.row(r), 0, row_bytes);
}

void CpuBackend::upload(const TensorView& to, const void* from) {
  const std::size_t row_bytes = static_cast<std::size_t>(to.cols) * size_of(to.dtype);
  if (row_bytes == 0) return;
  const std::byte* source = static_cast<const std::byte*>(from);
  for (std::int64_t r = 0; r < to.rows; ++r, source += row_bytes) std::memcpy(to.row(r), source, row_bytes);
}

void CpuBackend::download(void* to, const TensorView& from) const {
  const std::size_t row_bytes = static_cast<std::size_t>(from.cols) * size_of(from.dtype);
  if (row_bytes == 0) return;
  std::byte* target = static_cast<std::byte*>(to);
  for (std::int64_t r = 0; r < from.rows; ++r, target += row_bytes) std::memcpy(target, from.row(r), row_bytes);
}

void CpuBackend::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  check_shape(a, out.rows, out.cols);
  check_shape(b, out.rows, out.cols);
  pool_.parallel_ranges(out.rows, piece_rows(out.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess a_rows(kernels_, a), b_rows(kernels_, b), out_rows(kernels_, out);
    for (std::int64_t r = begin; r < end; ++r) {
      kernels_.add(a_rows.load(r), b_rows.load(r), out_rows.target(r), out.cols);
      out_rows.store(r);
    }
  });
}

void CpuBackend::cast(const TensorView& from, const TensorView& to) {
  check_shape(from, to.rows, to.cols);
  check_real(from);
  check_real(to);
  pool_.parallel_ranges(to.rows, piece_rows(to.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (from.dtype == to.dtype)
        std::memmove(to.row(r), from.row(r), static_cast<std::size_t>(to.cols) * size_of(to.dtype));
      else if (to.dtype == Dtype::bf16)
        kernels_.round_bf16(reinterpret_cast<const float*>(from.row(r)), reinterpret_cast<std::uint16_t*>(to.row(r)),
                            to.cols);
      else
        kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(from.row(r)), reinterpret_cast<float*>(to.row(r)),
                            to.cols);
    }
  });
}

}  // namespace ng::cpu

namespace ng {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  if (options.threads < 1) throw UserError("threads must be at least 1, not " + std::to_string(options.threads));
  return std::make_unique<cpu::CpuBackend>(options);
}

}  // namespace ng
