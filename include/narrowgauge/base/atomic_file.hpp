// SPDX-License-Identifier: Apache-2.0
//
// Files that appear under their name only when whole: written beside it as `<path>.part`, synced, renamed.
// Every failure names the path: what the user can mend (no such folder, no permission) is a UserError, what the
// machine lacks (full disk, I/O) a MachineError. Nothing half-written is left under the final name.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ng {

/// Throws the error that fits `error_number` (errno): UserError or MachineError, "cannot <action> '<path>': ...".
[[noreturn]] void throw_file_error(std::string_view action, const std::filesystem::path& path, int error_number);

/// A file in the making. Without `commit` the destructor removes what was written.
class AtomicFile {
 public:
  /// Creates `<path>.part`, replacing a leftover one.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Syncs, renames to the final name and syncs the folder.
  void commit();
  [[nodiscard]] const std::filesystem::path& temporary_path() const { return temporary_; }

 private:
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// `text` as the whole content of `path`, atomically.
void write_file(const std::filesystem::path& path, std::string_view text);

/// Gives a finished file its final name: syncs `from`, renames it to `to` (same folder) and syncs the folder.
void publish_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// Whole content of a file. UserError when it does not exist, is a folder, or may not be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

}  // namespace ng
