// SPDX-License-Identifier: Apache-2.0
//
// Names and locks of run files. The lock is the one of the io layer: an open-file-description lock on the whole file,
// which disappears with the process that holds it.
#include "run_publish.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/run_file.hpp"

namespace ng {
namespace {

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

void sync_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_file_error("write", path, errno);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0) throw_file_error("write", path, error);
}

}  // namespace

void refuse_existing(const std::string& path) {
  throw UserError(
      fmt::format("'{}' exists already; continue it with --resume {}, or choose another --out", path, path));
}

void publish_new(const std::string& from, const std::string& to) {
  sync_file(from);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST) refuse_existing(to);
  if (errno != EINVAL && errno != ENOSYS) throw_file_error("write", to, errno);
  if (std::filesystem::exists(to)) refuse_existing(to);  // a file system without that kind of rename
  publish_file(from, to);
}

WriterLock::WriterLock(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
  if (fd_ < 0) throw_file_error("open", path, errno);
  struct flock lock = whole_file();
  struct stat mine {
  }, named{};
  const bool held = ::fcntl(fd_, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES);
  const bool current = ::fstat(fd_, &mine) == 0 && ::stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino;
  if (held && current) return;
  ::close(fd_);
  throw UserError(fmt::format("'{}' is being written by another process", path));
}

WriterLock::~WriterLock() {
  ::close(fd_);
}

bool is_being_written(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct flock lock = whole_file();
  const bool held = ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  ::close(fd);
  return held;
}

}  // namespace ng
