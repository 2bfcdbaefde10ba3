// SPDX-License-Identifier: Apache-2.0
//
// The runtime of the CUDA backend with the host's memory as the device's: what it allocates is filled with a pattern
// first, so that reading before writing shows.
#include <cstdlib>
#include <cstring>

#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

std::optional<std::string> device_problem() {
  return std::nullopt;
}

DeviceInfo device_info() {
  DeviceInfo info;
  info.name = "the host in place of a GPU";
  return info;
}

Buffer allocate(std::size_t bytes) {
  void* const data = std::malloc(bytes == 0 ? 1 : bytes);
  if (data == nullptr) throw MachineError("out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  std::memset(data, 0xa5, bytes);
  return Buffer{std::shared_ptr<std::byte>(static_cast<std::byte*>(data), [](std::byte* p) { std::free(p); }), bytes};
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void copy_to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void copy_on_device(void* to, const void* from, std::size_t bytes, Stream /*stream*/) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void copy_rows_on_device(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                         std::size_t row_bytes, std::size_t rows, Stream /*stream*/) {
  for (std::size_t r = 0; r < rows && row_bytes > 0; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * to_pitch, static_cast<const std::byte*>(from) + r * from_pitch,
                row_bytes);
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream /*stream*/) {
  if (bytes > 0) std::memset(to, value, bytes);
}

void fill_rows(void* to, std::size_t pitch, int value, std::size_t row_bytes, std::size_t rows, Stream /*stream*/) {
  for (std::size_t r = 0; r < rows && row_bytes > 0; ++r)
    std::memset(static_cast<std::byte*>(to) + r * pitch, value, row_bytes);
}

void synchronize() {}

}  // namespace ng::cuda
