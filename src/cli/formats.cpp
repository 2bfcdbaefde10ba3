// SPDX-License-Identifier: Apache-2.0
//
// `formats`: the catalogue of number formats, the quantizer presets, and decode tables.
#include <fmt/format.h>

#include <cmath>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "output.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

// Exact and short: powers of two below 1e-4 and from 1e6 as such.
std::string number_text(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  if (fraction == 0.5f && (value < 1e-4f || value >= 1e6f)) return fmt::format("2^{}", exponent - 1);
  return fmt::format("{}", value);
}

float smallest_normal(const ElementFormat& f) {
  if (f.sign == SignLayout::unsigned_) return decode(f, 0);
  return decode(f, f.sign == SignLayout::twos_complement ? 1u : 1u << f.mantissa_bits);
}

std::string infinity_text(const ElementFormat& f) {
  return f.infinity == Infinity::none ? "-" : fmt::format("0x{:02X}", infinity_code(f));
}

std::string nan_text(const ElementFormat& f) {
  if (f.nan == NanCodes::none) return "-";
  return fmt::format("0x{:02X}", nan_code(f));
}

void print_catalogue() {
  TextTable formats(
      {"name", "bits", "exp", "man", "bias", "largest", "least normal", "least", "inf", "NaN", "also known as"},
      {Align::left, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right,
       Align::left, Align::left, Align::left});
  for (const NamedFormat& row : format_catalog()) {
    const ElementFormat& f = row.format;
    const bool integer = f.sign == SignLayout::twos_complement;
    const float least = decode(f, f.sign == SignLayout::unsigned_ ? 0u : 1u);
    formats.add({row.name, fmt::format("{}", bit_count(f)), fmt::format("{}", f.exponent_bits),
                 fmt::format("{}", f.mantissa_bits), integer ? "-" : fmt::format("{}", f.bias),
                 number_text(decode(f, largest_code(f))), number_text(smallest_normal(f)), number_text(least),
                 infinity_text(f), nan_text(f), row.also_known_as});
  }
  write_stdout(fmt::format("{}\n", formats.text()));

  TextTable presets({"quantizer", "element", "tile", "scale", "rule", "what"},
                    {Align::left, Align::left, Align::left, Align::left, Align::left, Align::left});
  for (const NamedQuantizer& row : quantizer_presets())
    presets.add({row.name, name_of(row.spec.element_id), tile_text(row.spec),
                 std::string(name_of(row.spec.scale_format)), std::string(name_of(row.spec.rule)), row.description});
  write_stdout(fmt::format("{}\n", presets.text()));

  write_stdout(
      fmt::format("A QUANTIZER is one of these, an element format, or recipe.toml#name, followed by changes:\n"));
  for (const QuantizerKey& key : quantizer_keys()) {
    const std::string values = key.name == "element" ? "an element format" : key.values;
    write_stdout(fmt::format("  {:<15} {}\n  {:<15}   {}\n", "," + key.name + "=", key.meaning, "", values));
  }
}

void print_decode_table(const std::string& name) {
  const std::optional<FormatId> id = find_format(name);
  std::vector<std::string> valid;
  for (const NamedFormat& row : format_catalog())
    if (bit_count(row.format) <= 16) valid.emplace_back(row.name);
  if (!id) throw UserError(fmt::format("formats: format '{}' is unknown; {}", name, suggestion(name, valid)));
  const ElementFormat f = format_of(*id);
  const int bits = bit_count(f);
  if (bits > 16)
    throw UserError(fmt::format("formats: a table of {} has 2^{} rows; valid: formats of at most 16 bits", name, bits));
  const int digits = (bits + 3) / 4;
  write_stdout(fmt::format("code\t{}\n", name));
  for (std::uint32_t code = 0; code < (1u << bits); ++code)
    write_stdout(fmt::format("0x{:0{}X}\t{}\n", code, digits, fmt::format("{}", decode(f, code))));
}

int run(const Arguments& arguments) {
  if (const std::optional<std::string> name = arguments.optional("decode")) {
    print_decode_table(*name);
  } else {
    print_catalogue();
  }
  return kExitDone;
}

}  // namespace

Command formats_command() {
  return {"formats",
          "number formats and quantizer presets",
          {},
          {{"decode", "FORMAT", Occurs::optional, "", "print the value of every code of this format"}},
          run};
}

}  // namespace ng::cli
