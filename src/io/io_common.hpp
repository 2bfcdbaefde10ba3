// SPDX-License-Identifier: Apache-2.0
//
// What the readers of this layer share: unaligned little-endian loads, a read-only mapping of a whole file, and
// the messages for files that cannot be opened.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ng::io {

static_assert(std::endian::native == std::endian::little, "the readers copy little-endian data as it lies");

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// A regular file, mapped read-only. UserError when it is missing, not a regular file or not readable, MachineError
// when it cannot be mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Size of a regular file that may be read; UserError as above.
std::uint64_t file_size(const std::string& path);

bool ends_with_any(std::string_view text, std::initializer_list<std::string_view> endings);

// "a, b, c", at most 20 of them, then "and N more"; "(none)" for an empty list.
std::string list_text(const std::vector<std::string>& names);

}  // namespace ng::io
