// SPDX-License-Identifier: Apache-2.0
//
// h100_cases.hpp: case names read word by word, stored scale layouts turned to one row per matrix row.
#include "h100_cases.hpp"

#include <sstream>
#include <stdexcept>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng_golden {
namespace {

ng::FormatId format_named(const std::string& name) {
  for (const ng::NamedFormat& f : ng::format_catalog())
    if (name == f.name) return f.id;
  throw std::runtime_error("golden case with unknown type " + name);
}

std::vector<float> values(ng::FormatId id, const std::vector<std::uint32_t>& codes) {
  std::vector<float> out;
  out.reserve(codes.size());
  const ng::ElementFormat format = ng::format_of(id);
  for (const std::uint32_t code : codes)
    out.push_back(ng::decode(
        format, id == ng::FormatId::tf32 ? ng::encode(format, ng::CastChoices{}, ng::float_of(code)) : code));
  return out;
}

/// Stored [blocks][width] as [rows][blocks].
std::vector<float> turned(const std::vector<float>& stored, std::int64_t blocks, std::int64_t width,
                          std::int64_t rows) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < blocks; ++k) out.push_back(stored.at(static_cast<std::size_t>(k * width + r)));
  return out;
}

}  // namespace

ng::TensorCoreSpec H100Case::spec() const {
  const ng::AccumulatorRow* row = ng::find_accumulator("hopper", a_format, b_format, ng::StepResult::fp32_toward_zero);
  if (row == nullptr) throw std::runtime_error("no accumulator for a golden case");
  ng::TensorCoreSpec spec{row->spec};
  spec.promotion = row->types == ng::OperandTypes::fp8 && !fast ? 128 : 0;
  spec.scales = scale_mode;
  spec.splits = splits;
  spec.split_tile = a_format == ng::FormatId::tf32 ? 32 : 64;
  spec.output = output;
  return spec;
}

ng::ElementScales H100Case::element_scales(std::int64_t row, std::int64_t col) const {
  const std::int64_t blocks = k / ng::kScaleBlock;
  switch (scale_mode) {
    case ng::ScaleMode::none:
      return {};
    case ng::ScaleMode::tensor:
      return {scale_a.data(), scale_b.data()};
    case ng::ScaleMode::outer:
      return {scale_a.data() + row, scale_b.data() + col};
    case ng::ScaleMode::block_1x128:
      return {scale_a.data() + row * blocks, scale_b.data() + col * blocks};
    case ng::ScaleMode::block_128x128:
      return {scale_a.data() + row * blocks, scale_b.data() + col / 128 * blocks};
  }
  return {};
}

std::string H100Case::rule() const {
  static const char* const kModes[] = {"", " tensor", " outer", " 1x128", " 128x128"};
  std::string text = spec().promotion != 0 ? "promoted" : "one chain";
  text += kModes[static_cast<int>(scale_mode)];
  if (splits > 1) text += " splits " + std::to_string(splits);
  return text;
}

H100Case read_h100_case(GoldenFile& file, const std::string& name) {
  H100Case h{};
  std::istringstream in(name);
  std::string word;
  const auto next = [&](std::size_t skip) {
    std::getline(in, word, '_');
    return word.substr(skip);
  };
  h.a_format = format_named(next(0));
  h.b_format = format_named(next(0));
  h.output = next(0) == "bf16" ? ng::ProductOutput::bf16 : ng::ProductOutput::f32;
  h.fast = next(4) == "1";
  h.m = std::stoll(next(1));
  h.n = std::stoll(next(1));
  h.k = std::stoll(next(1));
  (void)next(6);  // spread
  h.scale_mode = static_cast<ng::ScaleMode>(std::stoi(next(5)));
  h.a_codes = file.integers(name + "/A");
  h.b_codes = file.integers(name + "/B");
  h.d = file.integers(name + "/D");
  h.a = values(h.a_format, h.a_codes);
  h.b = values(h.b_format, h.b_codes);
  h.splits = static_cast<std::int32_t>(file.integers(name + "/algo_splitk_tile_reduction").at(0));
  if (h.scale_mode != ng::ScaleMode::none) {
    h.scale_a = file.floats(name + "/scaleA");
    h.scale_b = file.floats(name + "/scaleB");
    const std::int64_t blocks = h.k / ng::kScaleBlock;
    if (ng::is_blockwise(h.scale_mode)) h.scale_a = turned(h.scale_a, blocks, h.m, h.m);
    if (h.scale_mode == ng::ScaleMode::block_1x128) h.scale_b = turned(h.scale_b, blocks, h.n, h.n);
    if (h.scale_mode == ng::ScaleMode::block_128x128) {  // [ceil(n/128)][blocks rounded up to 4]
      const std::int64_t padded = (blocks + 3) / 4 * 4;
      std::vector<float> kept;
      for (std::int64_t r = 0; r < (h.n + 127) / 128; ++r)
        for (std::int64_t k = 0; k < blocks; ++k)
          kept.push_back(h.scale_b.at(static_cast<std::size_t>(r * padded + k)));
      h.scale_b = kept;
    }
  }
  return h;
}

}  // namespace ng_golden
