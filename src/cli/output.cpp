// SPDX-License-Identifier: Apache-2.0
//
// The two streams.
#include "output.hpp"

#include <cerrno>
#include <cstdio>

namespace ng::cli {
namespace {

int first_error = 0;

void remember() {
  if (first_error == 0) first_error = errno != 0 ? errno : EIO;
}

}  // namespace

void write_stdout(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) remember();
}

void write_stderr(std::string_view text) {
  (void)flush_stdout();  // what was printed before stands before
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

int flush_stdout() {
  errno = 0;
  if (std::fflush(stdout) != 0) remember();
  return first_error;
}

UnfinishedFile::UnfinishedFile(std::filesystem::path path) : path_(std::move(path)) {}

UnfinishedFile::~UnfinishedFile() {
  std::error_code error;
  if (!done_) std::filesystem::remove(path_, error);
}

}  // namespace ng::cli
