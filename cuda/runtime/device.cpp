// SPDX-License-Identifier: Apache-2.0
//
// The CUDA runtime's device and memory calls, each checked. The runtime is linked statically and loads the driver
// itself, so this works, and explains itself, on machines without one.
#include "runtime/device.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>
#include <mutex>

#include "narrowgauge/base/error.hpp"
#include "runtime/check.hpp"
#include "runtime/probe.hpp"

namespace ng::cuda {

namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

void call_failed(int status, const char* call, const char* file, int line) {
  const cudaError_t error = static_cast<cudaError_t>(status);
  throw MachineError(std::string(call) + " failed at " + file + ":" + std::to_string(line) + ": " +
                     cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")");
}

std::optional<std::string> device_problem() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    return driver == 0 ? "no NVIDIA driver is installed"
                       : "the NVIDIA driver knows CUDA " + version_text(driver) + ", which is too old for this program";
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "the NVIDIA driver shows no GPU";
  if (status != cudaSuccess)
    return std::string("the CUDA runtime cannot start: ") + cudaGetErrorName(status) + " (" +
           cudaGetErrorString(status) + ")";
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "the first GPU does not answer";
  if (probe_kernel_image() != cudaSuccess) {
    cudaGetLastError();
    return std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor) + ", for which this program was not built (CMAKE_CUDA_ARCHITECTURES)";
  }
  return std::nullopt;
}

DeviceInfo device_info() {
  if (const auto problem = device_problem()) throw MachineError("no GPU to use: " + *problem);
  cudaDeviceProp properties{};
  NG_CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  int driver = 0;
  int runtime = 0;
  NG_CUDA_CHECK(cudaDriverGetVersion(&driver));
  NG_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  return DeviceInfo{properties.name,           properties.major,
                    properties.minor,          properties.multiProcessorCount,
                    properties.totalGlobalMem, static_cast<std::size_t>(properties.l2CacheSize),
                    version_text(driver),      version_text(runtime)};
}

namespace {

/// Freed memory stays with the process: the next allocation finds it without asking the driver.
void keep_freed_memory() {
  int device = 0;
  NG_CUDA_CHECK(cudaGetDevice(&device));
  cudaMemPool_t pool = nullptr;
  NG_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device));
  std::uint64_t threshold = std::numeric_limits<std::uint64_t>::max();
  NG_CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
}

}  // namespace

Buffer allocate(std::size_t bytes) {
  static std::once_flag once;
  std::call_once(once, keep_freed_memory);
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, bytes == 0 ? 1 : bytes, nullptr);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // an answered request for too much is no fault of later calls
    throw MachineError("out of GPU memory: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  NG_CUDA_CHECK(status);
  return Buffer{
      std::shared_ptr<std::byte>(static_cast<std::byte*>(data), [](std::byte* p) { cudaFreeAsync(p, nullptr); }),
      bytes};
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) NG_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

void copy_to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) NG_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes > 0) NG_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

void copy_rows_on_device(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                         std::size_t row_bytes, std::size_t rows, Stream stream) {
  if (row_bytes > 0 && rows > 0)
    NG_CUDA_CHECK(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes, rows, cudaMemcpyDeviceToDevice, stream));
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream stream) {
  if (bytes > 0) NG_CUDA_CHECK(cudaMemsetAsync(to, value, bytes, stream));
}

void fill_rows(void* to, std::size_t pitch, int value, std::size_t row_bytes, std::size_t rows, Stream stream) {
  if (row_bytes > 0 && rows > 0) NG_CUDA_CHECK(cudaMemset2DAsync(to, pitch, value, row_bytes, rows, stream));
}

void synchronize() {
  NG_CUDA_CHECK(cudaDeviceSynchronize());
}

}  // namespace ng::cuda
