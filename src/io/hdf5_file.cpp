// SPDX-License-Identifier: Apache-2.0
//
// Opening, following, recovering and closing of files.
//
// A writer holds a lock of its own on the file (an open-file-description lock, released by the kernel however the
// writer ends), because the library drops its lock once SWMR writing starts: only so can a killed writer's file be
// told from a living one's.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hdf5_internal.hpp"
#include "io_common.hpp"
#include "narrowgauge/base/atomic_file.hpp"

namespace ng::hdf5 {

namespace {

// Descriptor that holds the lock. UserError when another writer holds it or the file may not be written.
int lock_for_writing(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | flags, 0666);
  if (fd < 0) throw_file_error("write", path, errno);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  // A file system without locks is not a reason to refuse.
  if (::fcntl(fd, F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
    ::close(fd);
    throw UserError(path + " is being written by another process");
  }
  return fd;
}

Superblock require_hdf5(const std::string& path) {
  const Superblock superblock = inspect_superblock(path);
  if (superblock.state == Superblock::State::missing) throw UserError(path + " is not an HDF5 file");
  if (superblock.state == Superblock::State::truncated)
    throw UserError(path + " is truncated: shorter than its own header says");
  return superblock;
}

Id access_properties() {
  Id properties(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(properties.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERS_MINOR == 12 && H5_VERS_RELEASE < 1)
  H5Pset_file_locking(properties.get(), /*use=*/0, /*ignore_when_disabled=*/1);  // ours is enough, see above
#endif
  return properties;
}

hid_t open_with(const std::string& path, unsigned flags) {
  const Id properties = access_properties();
  if ((flags & H5F_ACC_SWMR_READ) != 0) {
    // Tries again while a living writer is amid a piece of metadata, with pauses that double from 1 ns: 24 tries take
    // 16 ms. The library's default of 100 would, on a damaged file, outlast the user.
    H5Pset_metadata_read_attempts(properties.get(), 24);
  }
  return H5Fopen(path.c_str(), flags, properties.get());
}

void open_existing(detail::FileState& state) {
  Superblock superblock = require_hdf5(state.path);
  unsigned flags = H5F_ACC_RDONLY;
  if (state.mode == Mode::read_write) {
    state.lock = lock_for_writing(state.path, 0);
    if (superblock.writer_mark) repair_superblock(state.path);
    flags = H5F_ACC_RDWR;
  } else if (superblock.swmr_mark) {
    flags = H5F_ACC_RDONLY | H5F_ACC_SWMR_READ;
  } else if (superblock.writer_mark) {
    throw UserError(state.path + " was not closed by its writer, or is just being created");
  }
  state.id = open_with(state.path, flags);
  if (state.id >= 0) return;
  const std::string reason = library_reason();
  // Its writer may have opened or closed it since we looked.
  superblock = inspect_superblock(state.path);
  if (state.mode == Mode::read && superblock.swmr_mark == ((flags & H5F_ACC_SWMR_READ) == 0)) {
    flags = superblock.swmr_mark ? H5F_ACC_RDONLY | H5F_ACC_SWMR_READ : H5F_ACC_RDONLY;
    state.id = open_with(state.path, flags);
    if (state.id >= 0) return;
  }
  throw UserError(state.path + " is damaged and cannot be opened: " + reason);
}

}  // namespace

namespace detail {

void FileState::give_up() noexcept {
  if (failed || id < 0) return;
  failed = true;
  const Call call;
  void* handle = nullptr;
  const int sink = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (sink >= 0 && H5Fget_vfd_handle(id, H5P_DEFAULT, &handle) >= 0 && handle != nullptr) {
    ::dup2(sink, *static_cast<int*>(handle));
  }
  if (sink >= 0) ::close(sink);
  abandoned = H5Fflush(id, H5F_SCOPE_GLOBAL) < 0;
}

bool FileState::close() noexcept {
  if (id >= 0) {
    const Call call;
    if (!failed && mode != Mode::read && H5Fflush(id, H5F_SCOPE_GLOBAL) < 0) give_up();
    if (!abandoned && H5Fclose(id) < 0) failed = true;
    id = -1;
  }
  if (lock >= 0) ::close(lock);
  lock = -1;
  return !failed;
}

}  // namespace detail

File::File(const std::string& path, Mode mode) : state_(std::make_shared<detail::FileState>()) {
  const Call call;
  state_->path = path;
  state_->mode = mode;
  if (mode != Mode::create) {
    open_existing(*state_);
    return;
  }
  state_->lock = lock_for_writing(path, O_CREAT);
  const Id access = access_properties();
  const Id properties(H5Pcreate(H5P_FILE_CREATE));
  H5Pset_obj_track_times(properties.get(), false);  // of the root group
  state_->id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, properties.get(), access.get());
  if (state_->id < 0) throw MachineError(path + " cannot be created: " + library_reason());
}

File::File(File&&) noexcept = default;

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (state_) state_->close();
    state_ = std::move(other.state_);
  }
  return *this;
}

File::~File() {
  if (state_) state_->close();
}

const std::string& File::path() const {
  return state_->path;
}

Group File::root() const {
  const Call call;
  require_open(*state_, "/");
  Group group;
  group.file_ = state_;
  group.path_ = "/";
  group.id_ = Id(H5Gopen2(state_->id, "/", H5P_DEFAULT));
  if (group.id_.get() < 0) throw_unreadable(*state_, "/");
  return group;
}

void File::start_swmr_write() {
  const Call call;
  require_writable(*state_, "/");
  if (H5Fflush(state_->id, H5F_SCOPE_GLOBAL) < 0 || H5Fstart_swmr_write(state_->id) < 0) throw_unwritable(*state_, "/");
  state_->swmr = true;
}

void File::flush() {
  const Call call;
  require_writable(*state_, "/");
  if (H5Fflush(state_->id, H5F_SCOPE_GLOBAL) < 0) throw_unwritable(*state_, "/");
}

void File::close() {
  const Call call;
  if (state_->id < 0) return;
  if (state_->mode != Mode::read && !state_->failed && H5Fflush(state_->id, H5F_SCOPE_GLOBAL) < 0) {
    const std::string reason = library_reason();
    state_->give_up();
    state_->close();
    throw MachineError(state_->path + " cannot be written: " + reason);
  }
  if (!state_->close()) throw MachineError(state_->path + " could not be written completely");
}

void File::renamed(const std::string& path) {
  state_->path = path;
}

bool marked_as_open(const std::string& path) {
  return require_hdf5(path).writer_mark;
}

void clear_open_mark(const std::string& path) {
  if (!require_hdf5(path).writer_mark) return;
  const int lock = lock_for_writing(path, 0);
  try {
    repair_superblock(path);
  } catch (...) {
    ::close(lock);
    throw;
  }
  ::close(lock);
}

}  // namespace ng::hdf5
