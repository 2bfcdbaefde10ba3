// SPDX-License-Identifier: Apache-2.0
//
// Splits a tensor's spec into file and name and hands it to the reader of that kind of file.
#include "narrowgauge/io/read_tensor.hpp"

#include <sys/stat.h>

#include "io_common.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/safetensors.hpp"

namespace ng {

namespace {

constexpr const char* kForms =
    "valid are FILE.h5:/dataset, FILE.npy, FILE.safetensors:name and raw bytes with a shape and a dtype";

bool is_there(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

bool is_hdf5(const std::string& path) {
  return io::ends_with_any(path, {".h5", ".hdf5", ".h5.part"});
}
bool is_safetensors(const std::string& path) {
  return path.ends_with(".safetensors");
}

// FILE and NAME: the file is the shortest part before a ':' that exists, else that ends like a file we read.
std::pair<std::string, std::string> split(const std::string& spec) {
  if (is_there(spec)) return {spec, ""};
  for (const bool must_exist : {true, false}) {
    for (std::size_t at = spec.find(':'); at != std::string::npos; at = spec.find(':', at + 1)) {
      const std::string file = spec.substr(0, at);
      if (must_exist ? is_there(file) : is_hdf5(file) || is_safetensors(file)) return {file, spec.substr(at + 1)};
    }
  }
  return {spec, ""};
}

}  // namespace

Array read_tensor(const std::string& spec) {
  const auto [file, name] = split(spec);
  if (file.ends_with(".npy")) {
    if (!name.empty()) throw UserError(spec + ": an npy file holds one array and takes no name; " + kForms);
    return read_npy(file);
  }
  if (is_safetensors(file)) {
    if (name.empty()) {
      std::vector<std::string> names;
      for (const SafetensorsEntry& entry : list_safetensors(file).entries) names.push_back(entry.name);
      throw UserError(spec + ": name a tensor as " + file + ":NAME; it holds " + io::list_text(names));
    }
    return read_safetensors(file, name);
  }
  if (is_hdf5(file) || !name.empty()) {
    const hdf5::File opened(file, hdf5::Mode::read);
    if (name.empty()) {
      throw UserError(spec + ": name a dataset as " + file + ":/DATASET; it holds " +
                      io::list_text(opened.root().datasets()));
    }
    return opened.root().read(name);
  }
  io::file_size(file);  // missing or unreadable: that is the message
  throw UserError(spec + ": unknown kind of file; " + kForms);
}

bool describes_itself(const std::string& spec) {
  const auto [file, name] = split(spec);
  return file.ends_with(".npy") || is_safetensors(file) || is_hdf5(file) || !name.empty();
}

Array read_raw(const std::string& path, const std::vector<std::int64_t>& shape, const std::string& dtype,
               std::size_t code_bytes) {
  Dtype type = code_bytes == 1 ? Dtype::u8 : Dtype::u16;
  bool codes = true;
  for (const Dtype known : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64, Dtype::u8, Dtype::i8, Dtype::u16,
                            Dtype::i16, Dtype::u32, Dtype::i32, Dtype::u64, Dtype::i64}) {
    if (dtype != name_of(known)) continue;
    type = known;
    codes = false;
  }
  const io::MappedFile file(path);
  const std::int64_t needed = checked_bytes(shape, size_of(type));
  if (needed < 0 || static_cast<std::uint64_t>(needed) != file.bytes().size()) {
    throw UserError(path + ": holds " + std::to_string(file.bytes().size()) + " bytes; " + shape_text(shape) + " of " +
                    dtype + " needs " + (needed < 0 ? "more than can be addressed" : std::to_string(needed)));
  }
  Array array = Array::from_bytes(type, shape, file.bytes());
  if (codes) array.format = dtype;
  array.origin = path;
  return array;
}

std::int64_t raw_size(const std::string& path) {
  return static_cast<std::int64_t>(io::file_size(path));
}

}  // namespace ng
