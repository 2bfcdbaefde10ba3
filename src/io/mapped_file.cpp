// SPDX-License-Identifier: Apache-2.0
//
// Opening and mapping of plain files.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io_common.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::io {

namespace {

// Open for reading, checked to be a regular file.
int open_regular(const std::string& path, struct stat& status) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw_file_error("read", path, errno);
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw UserError(path + " is not a regular file");
  }
  return fd;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  struct stat status {};
  const int fd = open_regular(path, status);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ != 0) {
    void* const memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const int error = errno;
    ::close(fd);
    if (memory == MAP_FAILED) throw MachineError(path + ": cannot be mapped: " + std::strerror(error));
    data_ = static_cast<const std::byte*>(memory);
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::uint64_t file_size(const std::string& path) {
  struct stat status {};
  ::close(open_regular(path, status));
  return static_cast<std::uint64_t>(status.st_size);
}

bool ends_with_any(std::string_view text, std::initializer_list<std::string_view> endings) {
  for (const std::string_view ending : endings) {
    if (text.ends_with(ending)) return true;
  }
  return false;
}

std::string list_text(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 20;
  if (names.empty()) return "(none)";
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMost; ++i) {
    if (i != 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kMost) text += " and " + std::to_string(names.size() - kMost) + " more";
  return text;
}

}  // namespace ng::io
