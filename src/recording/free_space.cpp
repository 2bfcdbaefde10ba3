// SPDX-License-Identifier: Apache-2.0
//
// statvfs in one sentence.
#include "free_space.hpp"

#include <fmt/core.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "narrowgauge/base/error.hpp"

namespace ng {

void require_free_space(const std::filesystem::path& path, std::int64_t bytes) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return;  // unknown, or without a limit
  const auto blocks = ::geteuid() == 0 ? status.f_bfree : status.f_bavail;
  const double free = static_cast<double>(blocks) * static_cast<double>(status.f_frsize);
  if (free >= static_cast<double>(bytes)) return;
  throw MachineError(fmt::format("'{}' cannot be written: No space left on device ({:.1f} MB free, {:.1f} MB needed)",
                                 path.string(), free / 1e6, static_cast<double>(bytes) / 1e6));
}

}  // namespace ng
