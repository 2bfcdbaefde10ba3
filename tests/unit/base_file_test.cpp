// SPDX-License-Identifier: Apache-2.0
//
// Claim: a file appears whole under its name or not at all, and every failure says whose it is: the user's (exit 2)
// or the machine's (exit 3).
// Alone: build/release/bin/unit_base --gtest_filter='AtomicFileTest.*'
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {
namespace {

class AtomicFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / ("atomic_file_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] int entries() const {
    return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

  std::filesystem::path folder_;
};

TEST_F(AtomicFileTest, AppearsOnlyWhenCommitted) {
  const auto path = folder_ / "a.txt";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("text");
    EXPECT_EQ(read_file(path), "old");
    EXPECT_TRUE(std::filesystem::exists(file.temporary_path()));
    file.commit();
    EXPECT_THROW(file.write("more"), LogicError);
  }
  EXPECT_EQ(read_file(path), "new text");
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicFileTest, IsRemovedWhenAbandoned) {
  {
    AtomicFile file(folder_ / "a.txt");
    file.write("half");
  }
  EXPECT_EQ(entries(), 0);
}

TEST_F(AtomicFileTest, ReadsWhatWasWritten) {
  std::string text(200000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31);
  write_file(folder_ / "b", text);
  EXPECT_EQ(read_file(folder_ / "b"), text);
  write_file(folder_ / "empty", "");
  EXPECT_EQ(read_file(folder_ / "empty"), "");
  std::filesystem::rename(folder_ / "b", folder_ / "c.part");
  publish_file(folder_ / "c.part", folder_ / "c");
  EXPECT_EQ(read_file(folder_ / "c"), text);
}

TEST_F(AtomicFileTest, UserMistakesAreUserErrors) {
  EXPECT_THROW((void)read_file(folder_ / "absent"), UserError);
  EXPECT_THROW((void)read_file(folder_), UserError);
  EXPECT_THROW(write_file(folder_ / "no" / "such" / "folder", "x"), UserError);
  EXPECT_THROW(write_file(folder_, "x"), UserError);
  EXPECT_THROW(publish_file(folder_ / "absent", folder_ / "x"), UserError);
  EXPECT_THROW(throw_file_error("write", "x", EACCES), UserError);
  EXPECT_THROW(throw_file_error("write", "x", EROFS), UserError);
  EXPECT_THROW(throw_file_error("write", "x", ENOSPC), MachineError);
  EXPECT_THROW(throw_file_error("write", "x", EIO), MachineError);
}

// A limit on the size of files makes write() fail halfway, as a full disk does.
TEST_F(AtomicFileTest, AFailedWriteLeavesNothingBehind) {
  const auto path = folder_ / "big";
  write_file(path, "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 16, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message = "accepted";
  try {
    write_file(path, std::string(1 << 20, 'x'));
  } catch (const MachineError& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write '" + path.string() + "': File too large");
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(), 1);
}

}  // namespace
}  // namespace ng
