// SPDX-License-Identifier: Apache-2.0
//
// Reading data/golden, remembering what was read: a dataset that no test touches is an error, not a silence.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "narrowgauge/io/hdf5.hpp"

namespace ng_golden {

class GoldenFile {
 public:
  /// `name` without folder, for example "te_nvfp4.h5".
  explicit GoldenFile(const std::string& name);

  /// Integers of any width, widened.
  std::vector<std::uint32_t> integers(const std::string& path);
  std::vector<std::int64_t> long_integers(const std::string& path);
  std::vector<float> floats(const std::string& path);
  bool has(const std::string& path) const;
  std::vector<std::size_t> shape(const std::string& path) const;
  std::vector<std::string> groups() const;  ///< children of the root

  /// Datasets that were never read.
  std::vector<std::string> unread() const;

 private:
  ng::hdf5::File file_;
  std::set<std::string> read_;
  std::map<std::string, std::vector<std::uint32_t>> integers_;  ///< what was read: a file may be compared many times
  std::map<std::string, std::vector<float>> floats_;
};

/// The even element is in the low nibble.
std::vector<std::uint32_t> unpack_nibbles(const std::vector<std::uint32_t>& bytes);

}  // namespace ng_golden
