// SPDX-License-Identifier: Apache-2.0
//
// comparison.hpp: bits are equal or not; the counts beside only say where to look.
#include "comparison.hpp"

namespace ng_silicon {

namespace {

struct Layout {
  std::uint32_t magnitude, infinity;
};
Layout layout(ResultType type) {
  switch (type) {
    case ResultType::bf16:
      return {0x7fffu, 0x7f80u};
    case ResultType::fp16:
      return {0x7fffu, 0x7c00u};
    default:
      return {0x7fffffffu, 0x7f800000u};
  }
}

}  // namespace

bool Comparison::add(ResultType type, std::uint32_t subject, std::uint32_t model) {
  const Layout of = layout(type);
  const std::uint32_t s = subject & of.magnitude, m = model & of.magnitude;
  ++compared;
  nans += s > of.infinity ? 1 : 0;
  infinities += s == of.infinity ? 1 : 0;
  zeros += s == 0 ? 1 : 0;
  if (subject == model) return true;
  ++different;
  nan_bits += s > of.infinity && m > of.infinity ? 1 : 0;
  zero_sign += s == 0 && m == 0 ? 1 : 0;
  return false;
}

ng::Json Comparison::json() const {
  return ng::Json::object(
      {{"compared", compared}, {"different", different}, {"nan", nans}, {"infinite", infinities}, {"zero", zeros}});
}

std::string Comparison::text() const {
  std::string line = std::to_string(compared) + " compared (" + std::to_string(nans) + " NaN, " +
                     std::to_string(infinities) + " inf, " + std::to_string(zeros) + " zero), " +
                     std::to_string(different) + " different";
  if (different != 0)
    line += " (" + std::to_string(nan_bits) + " in NaN bits, " + std::to_string(zero_sign) + " in the sign of zero)";
  return line;
}

}  // namespace ng_silicon
