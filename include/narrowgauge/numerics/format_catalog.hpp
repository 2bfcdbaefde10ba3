// SPDX-License-Identifier: Apache-2.0
//
// Every number format by name. A new format is one literal here; tests, golden comparisons, exhaustive sweeps and the
// command `formats` iterate this table. Sources: OCP MX v1.0 section 5.3 (FP8, FP6, FP4, INT8, E8M0); ml_dtypes for the
// IEEE-like and FNUZ variants; DeepSeek-V3 report section 3.3 (E5M6); arXiv 2501.17116 appendix A (E1M2, E3M0).
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/element_format.hpp"

namespace ng {

enum class FormatId : std::uint8_t {
  e2m1,
  e2m3,
  e3m2,
  e4m3,
  e5m2,
  int8,
  e8m0,
  bf16,
  fp16,
  tf32,
  fp32,
  e1m2,
  e3m0,
  e5m6,
  e3m4,
  e4m3_ieee,
  e4m3fnuz,
  e4m3b11fnuz,
  e5m2fnuz,
};
constexpr std::size_t kFormatCount = 19;

struct NamedFormat {
  FormatId id;
  const char* name;
  const char* also_known_as;
  ElementFormat format;
};

namespace format_literals {
constexpr auto kSigned = SignLayout::sign_magnitude;
constexpr NamedFormat kAll[kFormatCount] = {
    // id, name, other names, {exponent bits, mantissa bits, bias, sign, subnormals, -0, infinity, NaN}
    {FormatId::e2m1, "e2m1", "FP4, float4_e2m1fn", {2, 1, 1, kSigned, true, true, Infinity::none, NanCodes::none}},
    {FormatId::e2m3, "e2m3", "FP6, float6_e2m3fn", {2, 3, 1, kSigned, true, true, Infinity::none, NanCodes::none}},
    {FormatId::e3m2, "e3m2", "FP6, float6_e3m2fn", {3, 2, 3, kSigned, true, true, Infinity::none, NanCodes::none}},
    {FormatId::e4m3, "e4m3", "FP8, float8_e4m3fn", {4, 3, 7, kSigned, true, true, Infinity::none, NanCodes::all_ones}},
    {FormatId::e5m2, "e5m2", "FP8, float8_e5m2", {5, 2, 15, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::int8,
     "int8",
     "MX int8, MXINT8",
     {0, 7, 0, SignLayout::twos_complement, true, false, Infinity::none, NanCodes::none}},
    {FormatId::e8m0,
     "e8m0",
     "scale only, float8_e8m0fnu",
     {8, 0, 127, SignLayout::unsigned_, false, false, Infinity::none, NanCodes::all_ones}},
    {FormatId::bf16, "bf16", "bfloat16", {8, 7, 127, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::fp16, "fp16", "half, binary16", {5, 10, 15, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::tf32, "tf32", "TensorFloat-32", {8, 10, 127, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::fp32, "fp32", "binary32", {8, 23, 127, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::e1m2, "e1m2", "FP4, linear", {1, 2, 0, kSigned, true, true, Infinity::none, NanCodes::none}},
    {FormatId::e3m0, "e3m0", "FP4, powers of two", {3, 0, 3, kSigned, true, true, Infinity::none, NanCodes::none}},
    {FormatId::e5m6,
     "e5m6",
     "DeepSeek-V3 attention output",
     {5, 6, 15, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::e3m4, "e3m4", "float8_e3m4", {3, 4, 3, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::e4m3_ieee, "e4m3_ieee", "float8_e4m3", {4, 3, 7, kSigned, true, true, Infinity::ieee, NanCodes::ieee}},
    {FormatId::e4m3fnuz,
     "e4m3fnuz",
     "float8_e4m3fnuz",
     {4, 3, 8, kSigned, true, false, Infinity::none, NanCodes::negative_zero}},
    {FormatId::e4m3b11fnuz,
     "e4m3b11fnuz",
     "float8_e4m3b11fnuz",
     {4, 3, 11, kSigned, true, false, Infinity::none, NanCodes::negative_zero}},
    {FormatId::e5m2fnuz,
     "e5m2fnuz",
     "float8_e5m2fnuz",
     {5, 2, 16, kSigned, true, false, Infinity::none, NanCodes::negative_zero}},
};
}  // namespace format_literals

/// The catalogue, in the order of FormatId. Host code iterates it; device code gets formats inside a spec.
constexpr const NamedFormat (&format_catalog())[kFormatCount] {
  return format_literals::kAll;
}

constexpr ElementFormat format_of(FormatId id) {
  return format_literals::kAll[static_cast<std::size_t>(id)].format;
}
/// The same as a constant, which device code can copy into a constexpr local.
template <FormatId kId>
constexpr ElementFormat kFormatOf = format_of(kId);
constexpr const char* name_of(FormatId id) {
  return format_literals::kAll[static_cast<std::size_t>(id)].name;
}

namespace format_literals {
constexpr bool in_order() {
  for (std::size_t i = 0; i < kFormatCount; ++i)
    if (static_cast<std::size_t>(kAll[i].id) != i) return false;
  return true;
}
static_assert(in_order());
static_assert(largest_exponent(format_of(FormatId::e2m1)) == 2 && largest_exponent(format_of(FormatId::e4m3)) == 8);
static_assert(largest_exponent(format_of(FormatId::e5m2)) == 15 && largest_exponent(format_of(FormatId::int8)) == 0);
}  // namespace format_literals

}  // namespace ng
