// SPDX-License-Identifier: Apache-2.0
//
// Decode tables: every code of every format of at most 16 bits through decode() of numerics/decode.hpp.
#include "cpu_decode.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/decode.hpp"

namespace ng::cpu {

const ElementTable& element_table(FormatId id) {
  static std::array<std::once_flag, kFormatCount> made;
  static std::array<std::unique_ptr<ElementTable>, kFormatCount> tables;
  const std::size_t index = static_cast<std::size_t>(id);
  std::call_once(made[index], [&] {
    const ElementFormat format = format_of(id);
    NG_CHECK(bit_count(format) <= 16);
    auto table = std::make_unique<ElementTable>();
    const std::uint32_t codes = 1u << bit_count(format);
    table->value.resize(codes);
    for (std::uint32_t code = 0; code < codes; ++code) table->value[code] = decode(format, code);
    tables[index] = std::move(table);
  });
  return *tables[index];
}

}  // namespace ng::cpu
