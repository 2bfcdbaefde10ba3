// SPDX-License-Identifier: Apache-2.0
//
// golden_file.hpp on the io layer.
#include "golden_file.hpp"

#include <stdexcept>

namespace ng_golden {

GoldenFile::GoldenFile(const std::string& name)
    : file_(std::string(NG_SOURCE_DIR) + "/data/golden/" + name, ng::hdf5::Mode::read) {}

std::vector<std::uint32_t> GoldenFile::integers(const std::string& path) {
  if (const auto known = integers_.find(path); known != integers_.end()) return known->second;
  read_.insert(path);
  const ng::Array array = file_.root().read(path);
  const auto widened = [&](const auto& values) {
    return integers_[path] = std::vector<std::uint32_t>(values.begin(), values.end());
  };
  if (array.dtype == ng::Dtype::u8) return widened(array.as<std::uint8_t>());
  if (array.dtype == ng::Dtype::u16) return widened(array.as<std::uint16_t>());
  if (array.dtype == ng::Dtype::i32) return widened(array.as<std::int32_t>());
  return widened(array.as<std::uint32_t>());
}

std::vector<std::int64_t> GoldenFile::long_integers(const std::string& path) {
  read_.insert(path);
  const ng::Array array = file_.root().read(path);
  const auto values = array.as<std::int64_t>();
  return {values.begin(), values.end()};
}

std::vector<float> GoldenFile::floats(const std::string& path) {
  if (const auto known = floats_.find(path); known != floats_.end()) return known->second;
  read_.insert(path);
  const ng::Array array = file_.root().read(path);
  const auto values = array.as<float>();
  return floats_[path] = std::vector<float>(values.begin(), values.end());
}

bool GoldenFile::has(const std::string& path) const {
  return file_.root().exists(path);
}

std::vector<std::size_t> GoldenFile::shape(const std::string& path) const {
  const auto extents = file_.root().dataset(path).shape();
  return {extents.begin(), extents.end()};
}

std::vector<std::string> GoldenFile::groups() const {
  return file_.root().children();
}

std::vector<std::string> GoldenFile::unread() const {
  std::vector<std::string> left;
  for (const std::string& path : file_.root().datasets()) {
    if (!read_.contains(path)) left.push_back(path);
  }
  return left;
}

std::vector<std::uint32_t> unpack_nibbles(const std::vector<std::uint32_t>& bytes) {
  std::vector<std::uint32_t> codes;
  codes.reserve(2 * bytes.size());
  for (const std::uint32_t byte : bytes) {
    codes.push_back(byte & 0xFU);
    codes.push_back(byte >> 4);
  }
  return codes;
}

}  // namespace ng_golden
