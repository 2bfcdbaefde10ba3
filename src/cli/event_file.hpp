// SPDX-License-Identifier: Apache-2.0
//
// TensorBoard's event files: protobuf messages `Event` with one scalar `Summary.Value` each, framed as TFRecords
// (length, masked CRC-32C of it, message, masked CRC-32C of that; little endian). Only what scalars need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ng::cli {

class EventFile {
 public:
  /// Begins with the version event that every such file has. `wall_time`: seconds since 1970.
  explicit EventFile(double wall_time);

  void scalar(double wall_time, std::int64_t step, std::string_view tag, float value);

  /// The whole file so far.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void append(const std::string& message);

  std::string bytes_;
};

}  // namespace ng::cli
