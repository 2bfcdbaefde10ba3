// SPDX-License-Identifier: Apache-2.0
//
// POSIX calls behind atomic_file.hpp, with every result looked at.
#include "narrowgauge/base/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {
namespace {

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

// A rename is on disk only when the folder is. File systems without folder sync answer EINVAL: nothing to do.
void sync_folder_of(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor.get() >= 0) (void)::fsync(descriptor.get());
}

void rename_over(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_file_error("write", to, errno);
  sync_folder_of(to);
}

}  // namespace

void throw_file_error(std::string_view action, const std::filesystem::path& path, int error_number) {
  const std::string message = fmt::format("cannot {} '{}': {}", action, path.string(),
                                          std::generic_category().message(error_number));
  switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case ENAMETOOLONG:
    case ELOOP:
    case EINVAL:
    case ENXIO:
      throw UserError(message);
    default:
      throw MachineError(message);
  }
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
  temporary_ += ".part";
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored)) throw_file_error("write", path_, EISDIR);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw_file_error("write", path_, errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) discard();
}

void AtomicFile::discard() noexcept {
  ::close(descriptor_);
  descriptor_ = -1;
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  NG_CHECK(descriptor_ >= 0, "write to a committed file ", path_.string());
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      const int number = errno;
      discard();
      throw_file_error("write", path_, number);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  NG_CHECK(descriptor_ >= 0, "second commit of ", path_.string());
  if (::fsync(descriptor_) != 0) {
    const int number = errno;
    discard();
    throw_file_error("write", path_, number);
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    const int number = errno;
    ::unlink(temporary_.c_str());
    throw_file_error("write", path_, number);
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int number = errno;
    ::unlink(temporary_.c_str());
    throw_file_error("write", path_, number);
  }
  sync_folder_of(path_);
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void publish_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  {
    const Descriptor descriptor(from, O_RDONLY);
    if (descriptor.get() < 0) throw_file_error("read", from, errno);
    if (::fsync(descriptor.get()) != 0) throw_file_error("write", from, errno);
  }
  rename_over(from, to);
}

std::string read_file(const std::filesystem::path& path) {
  const Descriptor descriptor(path, O_RDONLY);
  if (descriptor.get() < 0) throw_file_error("read", path, errno);
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) throw_file_error("read", path, errno);
  if (S_ISDIR(status.st_mode)) throw_file_error("read", path, EISDIR);
  std::string text;
  std::string chunk(std::size_t{1} << 16, '\0');
  for (;;) {
    const ssize_t count = ::read(descriptor.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_file_error("read", path, errno);
    if (count == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace ng
