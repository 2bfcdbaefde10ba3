// SPDX-License-Identifier: Apache-2.0
//
// The power of a test: kernels that are wrong in ways that happen, run on the same inputs. One that changes nothing of
// what the case compares would have passed.
#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "parts.hpp"

namespace ng::validate {
namespace {

// Inputs as a matrix of numbers, changed in place, whatever the operation calls them. False: there is none of that
// kind.
template <class Change>
bool change_input(Case& c, const Change& change) {
  if (!c.x.empty()) {
    change(c.x, c.rows, c.cols, c.axis == Orientation::row);
    return true;
  }
  if (c.source) {
    change(c.source->codes, c.source->rows, c.source->cols, true);
    return true;
  }
  const auto a = c.operands.find("a");
  if (a == c.operands.end() || a->second.data.empty()) return false;
  const std::size_t size = size_of(a->second.dtype);
  std::byte* data = a->second.data.data();
  const std::int64_t rows = a->second.rows(), cols = a->second.cols();
  const auto as_elements = [&]<class T>(T) {
    std::vector<T> values(static_cast<std::size_t>(rows * cols));
    std::copy_n(reinterpret_cast<const T*>(data), values.size(), values.begin());
    change(values, rows, cols, true);
    std::copy_n(values.begin(), values.size(), reinterpret_cast<T*>(data));
  };
  if (size == 1) as_elements(std::uint8_t{});
  if (size == 2) as_elements(std::uint16_t{});
  if (size == 4) as_elements(std::uint32_t{});
  return size <= 4;
}

std::int64_t changed_elements(const Answer& expected, const Answer& wrong, const Answer& brought) {
  std::int64_t changed = 0;
  for (const Part& part : brought) {
    const auto same_name = [&](const Part& p) { return p.name == part.name; };
    const auto e = std::find_if(expected.begin(), expected.end(), same_name);
    const auto w = std::find_if(wrong.begin(), wrong.end(), same_name);
    if (w == wrong.end() || w->bits.size() != e->bits.size()) {
      changed += static_cast<std::int64_t>(e->bits.size());
      continue;
    }
    for (std::size_t i = 0; i < e->bits.size(); ++i) {
      const bool nothing = (!e->nothing.empty() && e->nothing[i] != 0);
      changed += !nothing && e->bits[i] != w->bits[i] ? 1 : 0;
    }
  }
  return changed;
}

}  // namespace

std::vector<PowerRow> power_of(const Case& c, const Answer& expected, const Answer& got, const VerifyOptions& options) {
  std::vector<PowerRow> rows;
  const auto against = [&](const char* wrong, const Answer& other) {
    rows.push_back({wrong, changed_elements(expected, other, got), ""});
  };
  const auto with_input = [&](const char* wrong, const auto& change) {
    Case changed = c;
    if (!change_input(changed, change)) {
      rows.push_back({wrong, 0, "no input of that kind"});
      return;
    }
    try {
      against(wrong, answer(changed, options));
    } catch (const UserError& error) {
      rows.push_back({wrong, 0, error.what()});
    }
  };

  Answer zeros = expected;
  for (Part& part : zeros) std::fill(part.bits.begin(), part.bits.end(), 0u);
  against("all zeros", zeros);

  // Twice the scale, codes untouched: what a case without scales and without numbers cannot see.
  Answer doubled = expected;
  for (Part& part : doubled) {
    const bool number = part.format == FormatId::fp32 || part.format == FormatId::bf16;
    for (std::uint32_t& bits : part.bits) {
      if (part.name == "codes" || part.name == "tensor_scale") continue;
      if (part.name == "scales" && !number) {
        bits += part.format == FormatId::e8m0 ? 1u : 8u;  // E4M3: one exponent step
        continue;
      }
      const std::uint32_t step = part.format == FormatId::bf16 ? 0x80u : 0x00800000u;
      const float value = value_of(part.format, bits);
      if (value != 0.0f && is_finite_bits(bits_of(value))) bits += step;
    }
  }
  against("a doubled scale", doubled);

  const std::int64_t in_rows = !c.x.empty()               ? c.rows
                               : c.source                 ? c.source->rows
                               : c.operands.contains("a") ? c.operands.at("a").rows()
                                                          : 0;
  const std::int64_t in_cols = !c.x.empty()               ? c.cols
                               : c.source                 ? c.source->cols
                               : c.operands.contains("a") ? c.operands.at("a").cols()
                                                          : 0;
  if (in_rows == in_cols)
    with_input("a transposed operand",
               [](auto& values, std::int64_t n, std::int64_t m, bool) { values = turned(values, n, m); });
  else
    rows.push_back({"a transposed operand", 0, "the shape would show it"});

  with_input("a dropped slice of K (its last eighth)",
             [](auto& values, std::int64_t n, std::int64_t m, bool along_rows) {
               const std::int64_t k = along_rows ? m : n, from = k - std::max<std::int64_t>(1, k / 8);
               for (std::int64_t r = 0; r < n; ++r)
                 for (std::int64_t col = 0; col < m; ++col)
                   if ((along_rows ? col : r) >= from) values[static_cast<std::size_t>(r * m + col)] = 0;
             });
  return rows;
}

}  // namespace ng::validate
