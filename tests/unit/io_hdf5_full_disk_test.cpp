// SPDX-License-Identifier: Apache-2.0
//
// Claim: a full disk ends in one message, whenever it fills up, and other files stay readable.
// Alone: ctest --test-dir build -R unit_io_hdf5
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "io_hdf5_support.hpp"

namespace ng::hdf5 {
namespace {

using test::TempFolder;

// Fills `folder` with a growing file until the disk is full; exit code 0 if that ended in one MachineError naming the
// file, nothing was thrown or printed after it, and another file can still be read.
void write_until_full(const std::string& full, const std::string& healthy) {
  std::string message;
  {
    File file(full, Mode::create);
    Dataset big = file.root().create_growing("big", Dtype::f32, {1000});
    Dataset small = file.root().create_growing("small", Dtype::f32, {});
    file.start_swmr_write();
    const std::vector<float> row(1000, 1.0f);
    try {
      for (int i = 0; i < 100000; ++i) {
        big.append_rows(std::span<const float>(row));
        small.append(1.0f);
        if (i % 10 == 0) file.flush();
      }
    } catch (const MachineError& error) {
      message = error.what();
    }
    if (message.find(full) == std::string::npos) ::_exit(10);
    if (message.find("No space left") == std::string::npos && message.find("too large") == std::string::npos)
      ::_exit(11);
    try {
      small.append(1.0f);
      ::_exit(12);
    } catch (const MachineError&) {
    }
    try {
      file.close();
      ::_exit(13);
    } catch (const MachineError&) {
    }
  }
  {
    try {  // and one that ends in its destructor
      File file(full + "2", Mode::create);
      Dataset big = file.root().create_growing("big", Dtype::f32, {1000});
      const std::vector<float> row(1000, 1.0f);
      for (int i = 0; i < 100000; ++i) big.append_rows(std::span<const float>(row));
      ::_exit(14);
    } catch (const MachineError&) {
    }
  }
  if (File(healthy, Mode::read).root().read("x").count() != 6) ::_exit(15);
}

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    File file(healthy_, Mode::create);
    file.root().create("x", pattern(Dtype::f32, {2, 3}));
    file.close();
  }
  // `prepare` makes the disk small for the child; std::exit, so that exit handlers run.
  void expect_clean(const std::function<void()>& prepare, const std::string& full) {
    const std::string errors = folder_ / "stderr";
    const int status = in_child([&] {
      prepare();
      const int fd = ::open(errors.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
      ::dup2(fd, 2);
      ::alarm(60);  // a hang is a failure
      write_until_full(full, healthy_);
      std::exit(0);
    });
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(test::slurp(errors), "");
  }
  TempFolder folder_;
  std::string healthy_ = folder_ / "healthy.h5";
};

TEST_F(FullDisk, FileSizeLimit) {
  expect_clean(
      [] {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1 << 20, 1 << 20};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      },
      folder_ / "full.h5");
}

// The disk fills up at another moment each time: while the file is created, prepared, started, grown or closed.
TEST_F(FullDisk, AtAnyMoment) {
  int failed = 0, whole = 0;
  for (rlim_t limit_bytes = 0; limit_bytes < 700000; limit_bytes += 7001) {
    const std::string path = folder_ / ("run" + std::to_string(limit_bytes) + ".h5");
    const int status = in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{limit_bytes, limit_bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      ::alarm(60);
      try {
        File file(path, Mode::create);
        file.root().set_attribute("version", 1);
        file.root().create("weights", pattern(Dtype::f32, {100, 100}));
        std::vector<Dataset> streams;
        for (int s = 0; s < 8; ++s) {
          streams.push_back(file.root().create_growing("s" + std::to_string(s), Dtype::f32, {1 + 100 * s}));
        }
        file.start_swmr_write();
        for (int row = 0; row < 40; ++row) {
          for (int s = 0; s < 8; ++s) {
            const std::vector<float> values(static_cast<std::size_t>(1 + 100 * s), 1.0f);
            streams[static_cast<std::size_t>(s)].append_rows(std::span<const float>(values));
          }
          if (row % 7 == 0) file.flush();
        }
        file.close();
      } catch (const MachineError&) {
        std::exit(1);
      }
      std::exit(0);
    });
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status) << " at " << limit_bytes << " bytes";
    ASSERT_LE(WEXITSTATUS(status), 1) << limit_bytes;
    (WEXITSTATUS(status) == 0 ? whole : failed) += 1;
    if (WEXITSTATUS(status) == 0) {
      EXPECT_EQ(File(path, Mode::read).root().dataset("s7").rows(), 40);
    }
    std::filesystem::remove(path);
  }
  EXPECT_GT(failed, 20);
  EXPECT_GT(whole, 5);
}

TEST_F(FullDisk, SmallFileSystem) {
  const std::string mount = folder_ / "small";
  std::filesystem::create_directory(mount);
  if (::mount("none", mount.c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "mounting needs root";
  expect_clean([] {}, mount + "/full.h5");
  EXPECT_EQ(::umount(mount.c_str()), 0);
}

}  // namespace
}  // namespace ng::hdf5
