// SPDX-License-Identifier: Apache-2.0
//
// Values that show every byte, and work in a child process, for the tests of the HDF5 layer.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "io_support.hpp"
#include "narrowgauge/io/hdf5.hpp"

namespace ng::hdf5 {

// Every byte value occurs, so NaNs with payloads do as well.
inline Array pattern(Dtype dtype, std::vector<std::int64_t> shape) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(checked_bytes(shape, size_of(dtype))));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 167 + i / 256) & 0xFF);
  return Array::from_bytes(dtype, std::move(shape), bytes);
}

// Runs `body` in a child process and returns its wait status.
inline int in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
    } catch (...) {
      ::_exit(99);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace ng::hdf5
