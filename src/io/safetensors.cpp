// SPDX-License-Identifier: Apache-2.0
//
// safetensors: 8 bytes of header length, a JSON object, the data. The limits are those of the format's own
// library: 100 MB of header, no holes, no overlaps, no repeated names.
#include "narrowgauge/io/safetensors.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "io_common.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kMaxRank = 32;
constexpr int kMaxDepth = 4;

struct TypeName {
  std::string_view type;
  Dtype dtype;
  std::string_view format;
};
constexpr TypeName kTypes[] = {
    {"F32", Dtype::f32, ""},        {"F16", Dtype::f16, ""},        {"BF16", Dtype::bf16, ""}, {"F64", Dtype::f64, ""},
    {"U8", Dtype::u8, ""},          {"I8", Dtype::i8, ""},          {"U16", Dtype::u16, ""},   {"I16", Dtype::i16, ""},
    {"U32", Dtype::u32, ""},        {"I32", Dtype::i32, ""},        {"U64", Dtype::u64, ""},   {"I64", Dtype::i64, ""},
    {"F8_E4M3", Dtype::u8, "e4m3"}, {"F8_E5M2", Dtype::u8, "e5m2"},
};

// Bytes of an element of the types that may stand in a file, readable here or not; 0: unknown.
std::size_t element_bytes(std::string_view type) {
  for (const TypeName& t : kTypes) {
    if (t.type == type) return size_of(t.dtype);
  }
  if (type == "BOOL" || type == "F8_E8M0") return 1;
  if (type == "C64") return 8;
  return 0;
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw UserError(path + ": malformed safetensors: " + what);
}

// JSON with bounded depth and no repeated keys; every problem is a UserError.
Json parse_header(std::string_view text, const std::string& path) {
  std::set<std::string> names;
  std::string problem;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) problem = "nested too deeply";
    if (event == Json::parse_event_t::key && depth == 1 && !names.insert(value.get<std::string>()).second) {
      problem = "the name " + value.get<std::string>() + " occurs twice";
    }
    return problem.empty();  // false drops the value, so that depth costs no memory
  };
  const Json header = Json::parse(text.begin(), text.end(), check, /*allow_exceptions=*/false);
  if (!problem.empty()) fail(path, problem);
  if (header.is_discarded() || !header.is_object()) fail(path, "the header is not a JSON object");
  return header;
}

std::vector<std::uint64_t> unsigned_list(const Json& list, const std::string& path, const std::string& what) {
  std::vector<std::uint64_t> values;
  if (!list.is_array() || list.size() > kMaxRank) fail(path, what + " is not a short list");
  for (const Json& value : list) {
    if (!value.is_number_unsigned()) fail(path, what + " holds something else than whole numbers");
    values.push_back(value.get<std::uint64_t>());
  }
  return values;
}

SafetensorsIndex parse_index(std::span<const std::byte> bytes, const std::string& path) {
  if (bytes.size() < 8) throw UserError(path + ": truncated: " + std::to_string(bytes.size()) + " bytes");
  const auto length = io::load<std::uint64_t>(bytes.data());
  if (length > kMaxHeader)
    throw UserError(path + " is not a safetensors file (header of " + std::to_string(length) + " bytes)");
  if (length > bytes.size() - 8) throw UserError(path + ": truncated in the header, or not a safetensors file");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  if (!text.starts_with('{')) throw UserError(path + " is not a safetensors file");
  const Json header = parse_header(text, path);
  const std::uint64_t data_begin = 8 + length, data_bytes = bytes.size() - data_begin;

  SafetensorsIndex index;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) fail(path, "__metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) fail(path, "__metadata__ holds something else than text");
        index.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
        !entry.contains("data_offsets")) {
      fail(path, "entry " + name + " lacks dtype, shape or data_offsets");
    }
    SafetensorsEntry tensor;
    tensor.name = name;
    tensor.type = entry["dtype"].get<std::string>();
    for (const std::uint64_t extent : unsigned_list(entry["shape"], path, "shape of " + name)) {
      if (extent > std::uint64_t{1} << 60) fail(path, "shape of " + name + " is too large");
      tensor.shape.push_back(static_cast<std::int64_t>(extent));
    }
    const auto offsets = unsigned_list(entry["data_offsets"], path, "data_offsets of " + name);
    if (offsets.size() != 2 || offsets[0] > offsets[1]) fail(path, "data_offsets of " + name);
    if (offsets[1] > data_bytes) {
      throw UserError(path + ": truncated: tensor " + name + " ends at byte " + std::to_string(offsets[1]) +
                      " of data, the file holds " + std::to_string(data_bytes));
    }
    const std::size_t size = element_bytes(tensor.type);
    if (size == 0) fail(path, "tensor " + name + " has the unknown dtype " + tensor.type);
    const std::int64_t needed = checked_bytes(tensor.shape, size);
    if (needed < 0 || static_cast<std::uint64_t>(needed) != offsets[1] - offsets[0]) {
      fail(path, "tensor " + name + ": shape " + shape_text(tensor.shape) + " of " + tensor.type + " is not " +
                     std::to_string(offsets[1] - offsets[0]) + " bytes");
    }
    tensor.begin = data_begin + offsets[0];
    tensor.end = data_begin + offsets[1];
    index.entries.push_back(std::move(tensor));
  }
  std::sort(index.entries.begin(), index.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t at = data_begin;
  for (const SafetensorsEntry& tensor : index.entries) {
    if (tensor.begin != at) fail(path, "a hole or an overlap before tensor " + tensor.name);
    at = tensor.end;
  }
  if (at != bytes.size()) fail(path, std::to_string(bytes.size() - at) + " bytes after the last tensor");
  return index;
}

}  // namespace

SafetensorsIndex list_safetensors(const std::string& path) {
  const io::MappedFile file(path);
  return parse_index(file.bytes(), path);
}

Array read_safetensors(const std::string& path, const std::string& name) {
  const io::MappedFile file(path);
  const SafetensorsIndex index = parse_index(file.bytes(), path);
  for (const SafetensorsEntry& entry : index.entries) {
    if (entry.name != name) continue;
    for (const TypeName& type : kTypes) {
      if (type.type != entry.type) continue;
      Array array =
          Array::from_bytes(type.dtype, entry.shape, file.bytes().subspan(entry.begin, entry.end - entry.begin));
      array.format = type.format;
      array.origin = path + ":" + name;
      return array;
    }
    throw UserError(path + ":" + name + " has dtype " + entry.type +
                    "; valid are F32 F16 BF16 F64 F8_E4M3 F8_E5M2 and the integers");
  }
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : index.entries) names.push_back(entry.name);
  throw UserError(path + ": no tensor named '" + name + "'; it holds " + io::list_text(names));
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Array>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const auto& [name, array] : tensors) {
    if (name == "__metadata__" || header.contains(name)) throw LogicError("safetensors name used twice: " + name);
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&, &a = array](const TypeName& t) {
      return t.dtype == a.dtype && t.format == a.format;
    });
    if (type == std::end(kTypes)) {  // codes of another format: plain integers
      type = std::find_if(std::begin(kTypes), std::end(kTypes),
                          [&, &a = array](const TypeName& t) { return t.dtype == a.dtype && t.format.empty(); });
    }
    header[name] = {{"dtype", type->type}, {"shape", array.shape}, {"data_offsets", {at, at + array.data.size()}}};
    at += array.data.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const auto& [name, array] : tensors) file.write(array.data);
  file.commit();
}

}  // namespace ng
