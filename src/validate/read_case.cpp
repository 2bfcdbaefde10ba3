// SPDX-License-Identifier: Apache-2.0
//
// Cases from a dump: a group each, with attributes operation, spec, made_by and groups in and out.
#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/validate/case.hpp"

namespace ng::validate {
namespace {

std::string text_attribute(const hdf5::Location& at, const std::string& name, const std::string& missing = "") {
  return at.has_attribute(name) ? at.attribute_text(name) : missing;
}

std::int64_t integer_attribute(const hdf5::Location& at, const std::string& name, std::int64_t most) {
  if (!at.has_attribute(name)) return 0;
  const std::int64_t value = at.attribute_integer(name);
  if (value < 0 || value > most)
    throw UserError(fmt::format("{}: attribute {} is {}; valid: 0 to {}", at.label(), name, value, most));
  return value;
}

template <class E>
E enum_attribute(const hdf5::Location& at, const std::string& name, E missing) {
  if (!at.has_attribute(name)) return missing;
  try {
    return parse_enum<E>(name, at.attribute_text(name));
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", at.label(), error.what()));
  }
}

OutputLayout layout_of(const hdf5::Group& out) {
  OutputLayout layout;
  layout.scales = enum_attribute(out, "scale_layout", layout.scales);
  layout.nibbles = enum_attribute(out, "nibble_order", layout.nibbles);
  layout.order = enum_attribute(out, "order", layout.order);
  layout.skip_rows = integer_attribute(out, "skip_rows", std::int64_t{1} << 40);
  return layout;
}

std::vector<std::int64_t> integers(const hdf5::Location& at, const std::string& name) {
  const Array array = at.attribute_array(name);
  if (array.dtype == Dtype::i64) {
    const auto values = array.as<std::int64_t>();
    return {values.begin(), values.end()};
  }
  const auto values = array.as<std::int32_t>();
  return {values.begin(), values.end()};
}

// The one dataset called `name`, or the only one there is.
Array only_input(const hdf5::Group& in, const char* name) {
  if (in.kind(name) == hdf5::Kind::dataset) return in.read(name);
  const std::vector<std::string> there = in.datasets();
  if (there.size() == 1) return in.read(there.front());
  throw UserError(fmt::format("{}: dataset '{}' is missing; there is {}", in.label(), name,
                              there.empty() ? std::string("nothing") : fmt::format("{}", fmt::join(there, ", "))));
}

void read_values(Case& c, const hdf5::Group& in) {
  const Array x = only_input(in, "x");
  c.rows = x.rows();
  c.cols = x.cols();
  c.x = numbers_of(x);
  if (in.kind("random") == hdf5::Kind::dataset) {
    const Array random = in.read("random");
    if (random.count() != x.count())
      throw UserError(fmt::format("{}: {} random draws for {} elements", random.origin, random.count(), x.count()));
    const auto copy = [&](const auto& values) { c.draws.assign(values.begin(), values.end()); };
    if (random.dtype == Dtype::u8)
      copy(random.as<std::uint8_t>());
    else if (random.dtype == Dtype::u16)
      copy(random.as<std::uint16_t>());
    else
      copy(random.as<std::uint32_t>());
  }
  if (in.kind("tensor_amax") == hdf5::Kind::dataset) {
    const Array amax = in.read("tensor_amax");
    if (amax.count() != 1) throw UserError(amax.origin + ": one number is needed");
    c.tensor_amax = amax.as_f32().front();
  }
}

void read_outputs(Case& c, const hdf5::Group& out) {
  const auto read = [&](const char* name) -> std::optional<Array> {
    if (out.kind(name) != hdf5::Kind::dataset) return std::nullopt;
    return out.read(name);
  };
  c.codes = read("codes");
  if (!c.codes) c.codes = read("codes_packed");
  c.scales = read("scales");
  c.tensor_scale = read("tensor_scale");
  c.dequantized = read("dequantized");
  c.result = read("result");
  if (c.codes || c.dequantized || c.result) return;
  const std::vector<std::string> there = out.datasets();
  throw UserError(fmt::format("{}: nothing to judge; needed is codes (with scales), dequantized or result, there is {}",
                              out.label(), there.empty() ? "nothing" : fmt::format("{}", fmt::join(there, ", "))));
}

Case read_case(const hdf5::Group& group, const std::string& name) {
  Case c;
  c.name = name;
  for (const char* needed : {"operation", "spec"})
    if (!group.has_attribute(needed))
      throw UserError(fmt::format("{}: attribute '{}' is missing", group.label(), needed));
  for (const char* needed : {"in", "out"})
    if (group.kind(needed) != hdf5::Kind::group)
      throw UserError(fmt::format("{}: group '{}' is missing", group.label(), needed));
  c.operation = enum_attribute(group, "operation", Operation::quantize);
  c.spec = group.attribute_text("spec");
  c.made_by = text_attribute(group, "made_by");
  c.axis = enum_attribute(group, "axis", Orientation::row);
  c.seed = static_cast<std::uint32_t>(integer_attribute(group, "seed", 0xffffffff));
  c.tensor_id = static_cast<std::uint32_t>(integer_attribute(group, "tensor_id", 0xffffffff));
  c.step = static_cast<std::uint32_t>(integer_attribute(group, "step", 0xffffffff));
  if (group.has_attribute("splits")) c.splits = integers(group, "splits");

  const hdf5::Group in = group.group("in"), out = group.group("out");
  switch (c.operation) {
    case Operation::quantize:
    case Operation::hadamard:
      read_values(c, in);
      break;
    case Operation::transpose:
    case Operation::recode:
      c.source = read_quantized(in);
      break;
    case Operation::matmul:
      for (const std::string& path : in.datasets()) c.operands.emplace(path, in.read(path));
      break;
  }
  c.layout = layout_of(out);
  read_outputs(c, out);
  return c;
}

}  // namespace

std::vector<Case> read_dump(const std::string& path) {
  const hdf5::File file(path, hdf5::Mode::read);
  const hdf5::Group root = file.root();
  std::vector<Case> cases;
  if (root.has_attribute("operation")) {
    cases.push_back(read_case(root, "/"));
    return cases;
  }
  for (const std::string& child : root.children()) {
    if (root.kind(child) != hdf5::Kind::group) continue;
    const hdf5::Group group = root.group(child);
    // `vectors` and people write other groups beside cases; one that looks like a case must be a whole one.
    if (group.has_attribute("operation") || group.exists("in") || group.exists("out"))
      cases.push_back(read_case(group, child));
  }
  if (cases.empty())
    throw UserError(path + ": holds no case: a group with attributes operation and spec and groups in and out");
  return cases;
}

}  // namespace ng::validate
