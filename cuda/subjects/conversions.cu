// SPDX-License-Identifier: Apache-2.0
//
// conversions.hpp: one thread, one instruction; two values travel in each register and both are used.
#include "subjects/conversions.hpp"

#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda {

namespace {

enum class Direction : std::uint8_t { decode, encode };

__global__ void conversion_kernel(bool e4m3, Direction direction, std::int64_t pairs, std::uint32_t* out) {
  const std::int64_t pair = thread_number();
  if (pair >= pairs) return;
  const std::uint32_t low = static_cast<std::uint32_t>(2 * pair), high = low + 1;
  if (direction == Direction::decode) {
    const std::uint16_t codes = static_cast<std::uint16_t>(low | high << 8);
    std::uint32_t both = 0;
    if (e4m3)
      asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"(codes));
    else
      asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(both) : "h"(codes));
    out[low] = both & 0xffffu;
    out[high] = both >> 16;
  } else {
    const std::uint32_t halves = low | high << 16;
    std::uint16_t both = 0;
    if (e4m3)
      asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(both) : "r"(halves));
    else
      asm("cvt.rn.satfinite.e5m2x2.f16x2 %0, %1;" : "=h"(both) : "r"(halves));
    out[low] = both & 0xffu;
    out[high] = both >> 8;
  }
}

std::vector<std::uint32_t> converted(FormatId format, Direction direction, std::size_t count) {
  if (format != FormatId::e4m3 && format != FormatId::e5m2) throw LogicError("conversions are of E4M3 and E5M2");
  std::vector<std::uint32_t> result(count);
  const Buffer out = allocate(count * sizeof(std::uint32_t));
  const auto pairs = static_cast<std::int64_t>(count / 2);
  launch("conversion", conversion_kernel, pairs, nullptr, format == FormatId::e4m3, direction, pairs,
         out.as<std::uint32_t>());
  synchronize();
  copy_to_host(result.data(), out.data.get(), out.bytes);
  return result;
}

}  // namespace

std::vector<std::uint32_t> hardware_decodes(FormatId format) { return converted(format, Direction::decode, 256); }

std::vector<std::uint32_t> hardware_encodes_fp16(FormatId format) {
  return converted(format, Direction::encode, 65536);
}

}  // namespace ng::cuda
