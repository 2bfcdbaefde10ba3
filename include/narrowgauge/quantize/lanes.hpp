// SPDX-License-Identifier: Apache-2.0
//
// Eight 32-bit lanes as compiler vectors, and the few helpers that let one text serve a single element and a pack.
// Host only; any instruction set (the compiler splits the vectors where the machine is narrower).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

constexpr int kLanes = 8;

struct OneLane {
  using U = std::uint32_t;
  using I = std::int32_t;
  using F = float;
};

#if defined(__GNUC__) && !defined(__CUDACC__)

// Vectors wider than the machine's would be passed differently by other compilers; these functions are always inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

struct EightLanes {
  typedef std::uint32_t U __attribute__((vector_size(32)));
  typedef std::int32_t I __attribute__((vector_size(32)));
  typedef float F __attribute__((vector_size(32)));
};

NG_HD void load_lanes(const float* from, EightLanes::F& to) {
  __builtin_memcpy(&to, from, sizeof to);
}
NG_HD void load_lanes(const std::uint32_t* from, EightLanes::U& to) {
  __builtin_memcpy(&to, from, sizeof to);
}
NG_HD void store_lanes(const EightLanes::U& from, std::uint32_t* to) {
  __builtin_memcpy(to, &from, sizeof from);
}
NG_HD void store_lanes(const EightLanes::F& from, float* to) {
  __builtin_memcpy(to, &from, sizeof from);
}

NG_HD EightLanes::U lane_bits(const EightLanes::F& value) {
  return reinterpret_cast<EightLanes::U>(value);
}
NG_HD EightLanes::F lane_float(const EightLanes::U& bits) {
  return reinterpret_cast<EightLanes::F>(bits);
}
NG_HD EightLanes::F lane_add(const EightLanes::F& a, const EightLanes::F& b) {
  return a + b;
}
NG_HD EightLanes::I lane_signed(const EightLanes::U& value) {
  return reinterpret_cast<EightLanes::I>(value);
}
NG_HD EightLanes::U lane_unsigned(const EightLanes::I& value) {
  return reinterpret_cast<EightLanes::U>(value);
}
/// mask lanes are all ones or zero, as vector comparisons give them.
NG_HD EightLanes::U select(const EightLanes::I& mask, const EightLanes::U& yes, const EightLanes::U& no) {
  return mask ? yes : no;
}
NG_HD EightLanes::I select(const EightLanes::I& mask, const EightLanes::I& yes, const EightLanes::I& no) {
  return mask ? yes : no;
}
/// Larger and smaller of two, as signed integers: FP32 magnitudes and small counts.
NG_HD EightLanes::U lane_max(const EightLanes::U& a, const EightLanes::U& b) {
#if defined(__AVX2__) && !defined(__clang__)
  return reinterpret_cast<EightLanes::U>(
      __builtin_ia32_pmaxsd256(reinterpret_cast<EightLanes::I>(a), reinterpret_cast<EightLanes::I>(b)));
#else
  return select(lane_signed(a) > lane_signed(b), a, b);
#endif
}
NG_HD EightLanes::U lane_max(const EightLanes::U& a, std::uint32_t b) {
  return lane_max(a, EightLanes::U{} + b);
}
NG_HD EightLanes::U lane_min(const EightLanes::U& a, std::uint32_t b) {
#if defined(__AVX2__) && !defined(__clang__)
  return reinterpret_cast<EightLanes::U>(__builtin_ia32_pminsd256(
      reinterpret_cast<EightLanes::I>(a), reinterpret_cast<EightLanes::I>(EightLanes::U{} + b)));
#else
  return select(lane_signed(a) > static_cast<std::int32_t>(b), EightLanes::U{} + b, a);
#endif
}
/// Whether a lane of a mask is set.
NG_HD bool any_lane(const EightLanes::I& mask) {
#if defined(__AVX2__) && !defined(__clang__)
  return __builtin_ia32_movmskps256(reinterpret_cast<EightLanes::F>(mask)) != 0;
#else
  std::int32_t any = 0;
  for (int i = 0; i < kLanes; ++i) any |= mask[i];
  return any != 0;
#endif
}
/// result[i] = lanes[index[i]].
NG_HD EightLanes::U shuffle_lanes(const EightLanes::U& lanes, const EightLanes::I& index) {
#if defined(__clang__)
  EightLanes::U result{};
  for (int i = 0; i < kLanes; ++i) result[i] = lanes[index[i]];
  return result;
#else
  return __builtin_shuffle(lanes, index);
#endif
}
#endif

NG_HD std::uint32_t lane_bits(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
NG_HD float lane_float(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
NG_HD float lane_add(float a, float b) {
  return add_rn(a, b);
}
NG_HD std::int32_t lane_signed(std::uint32_t value) {
  return static_cast<std::int32_t>(value);
}
NG_HD std::uint32_t lane_unsigned(std::int32_t value) {
  return static_cast<std::uint32_t>(value);
}
NG_HD std::uint32_t select(bool mask, std::uint32_t yes, std::uint32_t no) {
  return mask ? yes : no;
}
NG_HD std::uint32_t lane_max(std::uint32_t a, std::uint32_t b) {
  return a > b ? a : b;
}
NG_HD std::uint32_t lane_min(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(a) < static_cast<std::int32_t>(b) ? a : b;
}
NG_HD std::int32_t select(bool mask, std::int32_t yes, std::int32_t no) {
  return mask ? yes : no;
}

}  // namespace ng
