// SPDX-License-Identifier: Apache-2.0
//
// What the hdf5_*.cpp files share: the guard around calls into the library, the state of an open file, the
// library's error stack as one sentence, the mapping of types. Only these files see hdf5.h.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/hdf5.hpp"

static_assert(sizeof(hid_t) == sizeof(std::int64_t), "HDF5 1.10 or later is needed");

namespace ng::hdf5 {

// Held around every use of the library: one caller at a time (its thread-safe build is an option that not every
// distribution takes), its own error printing off, its error stack empty.
class Call {
 public:
  Call();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// What the library says went wrong, in one line: the system's message if it has one.
std::string library_reason();

namespace detail {

struct FileState {
  std::string path;
  hid_t id = -1;
  Mode mode = Mode::read;
  bool failed = false;     // a write did not reach the disk: the content is void
  bool abandoned = false;  // and the library cannot even close it: its identifiers are left alone
  bool swmr = false;
  int lock = -1;  // descriptor that holds our lock on the file

  FileState() = default;
  FileState(const FileState&) = delete;
  FileState& operator=(const FileState&) = delete;
  ~FileState() { close(); }

  // True if the file's content is whole on disk. Never throws, never hangs.
  bool close() noexcept;
  // To be called as soon as a write has failed. The library would try it again when objects are closed, and does not
  // survive its failing there; so what it still has goes to /dev/null from now on.
  void give_up() noexcept;
};

}  // namespace detail

// Throws LogicError if the file of a Group or Dataset has been closed.
void require_open(const detail::FileState& file, const std::string& object);
void require_writable(const detail::FileState& file, const std::string& object);

// UserError: the file does not give what was asked of it.
[[noreturn]] void throw_unreadable(const detail::FileState& file, const std::string& object);
// MachineError, and the file is void from now on.
[[noreturn]] void throw_unwritable(detail::FileState& file, const std::string& object);

// Identifier of the library's own kinds, closed by reference count.
using detail::Id;

// Type in memory and, as we write it, in the file. bf16 is u16.
hid_t memory_type(Dtype dtype);
// The library's IEEE half precision, which 1.10 does not predefine.
hid_t half_type();

struct TypeInfo {
  enum class Class { number, text, other } kind = Class::other;
  Dtype dtype = Dtype::f32;
  bool variable_length = false;  // text
  std::size_t size = 0;          // bytes of an element in the file
  std::string description;       // for messages: "an enumeration"
};
TypeInfo describe_type(hid_t type);

// UTF-8, of `size` bytes padded with zeros, or H5T_VARIABLE.
Id text_type(std::size_t size);

// Cuts at the first zero byte.
std::string trimmed(const char* text, std::size_t size);

std::vector<std::int64_t> shape_of_space(hid_t space);

// Bytes of `shape` numbers of `size`; UserError unless the file is large enough to hold them, compression included.
std::size_t believable_bytes(const detail::FileState& file, const std::string& object,
                             std::span<const std::int64_t> shape, std::size_t size);

// The superblock, read without the library.
struct Superblock {
  enum class State { missing, truncated, whole } state = State::missing;  // missing: not an HDF5 file
  bool writer_mark = false;                                               // opened for writing and not closed
  bool swmr_mark = false;                                                 // the same, in SWMR mode
};
Superblock inspect_superblock(const std::string& path);
// Clears both marks and makes recorded and real length agree. MachineError if it cannot be written.
void repair_superblock(const std::string& path);

}  // namespace ng::hdf5
