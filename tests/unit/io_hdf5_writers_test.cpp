// SPDX-License-Identifier: Apache-2.0
//
// Claim: a living writer is followed, a file whose writer was killed is read and continued.
// Alone: ctest --test-dir build -R unit_io_hdf5
#include <hdf5.h>
#include <signal.h>

#include <chrono>
#include <random>
#include <thread>

#include "io_hdf5_support.hpp"

namespace ng::hdf5 {
namespace {

using test::message_from;
using test::TempFolder;

// The writer is a child that does one thing for each byte it is sent.
TEST(Hdf5, AReaderFollowsALivingWriter) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  int orders[2], answers[2];
  ASSERT_EQ(::pipe(orders), 0);
  ASSERT_EQ(::pipe(answers), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(orders[1]);
    try {
      File writer(path, Mode::create);
      Dataset loss = writer.root().create_growing("loss", Dtype::f32, {});
      Dataset status = writer.root().create_text("status", "running", 16);
      writer.start_swmr_write();
      char order = 0;
      while (::read(orders[0], &order, 1) == 1) {
        if (order == 'a') {
          for (int i = 0; i < 25; ++i) loss.append(2.0f);
          writer.flush();
        } else if (order == 'd') {
          status.write_text("done");
          writer.close();
        }
        if (::write(answers[1], &order, 1) != 1) ::_exit(1);
      }
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(0);
  }
  ::close(answers[1]);
  const auto order = [&](char what) {
    char answer = 0;
    EXPECT_EQ(::write(orders[1], &what, 1), 1);
    EXPECT_EQ(::read(answers[0], &answer, 1), 1);
  };
  order('a');
  EXPECT_TRUE(marked_as_open(path));
  {
    const File file(path, Mode::read);
    Dataset loss = file.root().dataset("loss");
    EXPECT_EQ(loss.rows(), 25);
    EXPECT_EQ(file.root().read_text("status"), "running");
    order('a');
    order('a');
    loss.refresh();
    EXPECT_EQ(loss.rows(), 75);
    EXPECT_EQ(loss.read().as<float>()[74], 2.0f);
  }
  for (const Mode mode : {Mode::read_write, Mode::create}) {
    EXPECT_NE(message_from([&] { File(path, mode); }).find("another process"), std::string::npos);
  }
  EXPECT_NE(message_from([&] { clear_open_mark(path); }).find("another process"), std::string::npos);
  order('d');
  ::close(orders[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(marked_as_open(path));
  EXPECT_EQ(File(path, Mode::read).root().read_text("status"), "done");
}

TEST(Hdf5, NothingIsCreatedUnderSwmr) {
  const TempFolder folder;
  File file(folder / "a.h5", Mode::create);
  Dataset loss = file.root().create_growing("loss", Dtype::f32, {});
  file.start_swmr_write();
  loss.append(1.0f);
  EXPECT_THROW(file.root().create_growing("late", Dtype::f32, {}), LogicError);
  EXPECT_THROW(loss.set_attribute("late", 1), LogicError);
  EXPECT_THROW(loss.truncate_rows(0), LogicError);
  file.close();
}

// The child appends rows (i, i, ...) and flushes after every tenth until it is killed; it reports flushed rows through
// a pipe. Whatever the moment, all flushed rows are there, and the file goes on.
TEST(Hdf5, SurvivesKill9AtAnyMoment) {
  const TempFolder folder;
  std::mt19937 random(7);
  int with_rows = 0;
  for (int trial = 0; trial < 30; ++trial) {
    const std::string path = folder / ("run" + std::to_string(trial) + ".h5");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      File file(path, Mode::create);
      std::vector<Dataset> streams;
      for (int s = 0; s < 4; ++s)
        streams.push_back(file.root().create_growing("s" + std::to_string(s), Dtype::i64, {1 + 40 * s}));
      file.start_swmr_write();
      for (std::int64_t row = 0;; ++row) {
        for (int s = 0; s < 4; ++s) {
          const std::vector<std::int64_t> values(static_cast<std::size_t>(1 + 40 * s), row);
          streams[static_cast<std::size_t>(s)].append_rows(std::span<const std::int64_t>(values));
        }
        if (row % 10 == 9) {
          file.flush();
          const std::int64_t flushed = row + 1;
          if (::write(ends[1], &flushed, sizeof flushed) != sizeof flushed) ::_exit(1);
        }
      }
    }
    ::close(ends[1]);
    std::int64_t flushed = 0, value = 0;
    ASSERT_EQ(::read(ends[0], &value, sizeof value), static_cast<ssize_t>(sizeof value));
    flushed = value;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    ::kill(child, SIGKILL);
    while (::read(ends[0], &value, sizeof value) == static_cast<ssize_t>(sizeof value)) flushed = value;
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);

    ASSERT_TRUE(marked_as_open(path));
    {
      const File file(path, Mode::read);  // as it stands
      EXPECT_GE(file.root().dataset("s0").rows(), flushed);
    }
    const std::int64_t keep = flushed - 5;
    {
      File file(path, Mode::read_write);
      for (int s = 0; s < 4; ++s) {
        Dataset stream = file.root().dataset("s" + std::to_string(s));
        ASSERT_GE(stream.rows(), flushed) << "trial " << trial;
        stream.truncate_rows(keep);
        const std::vector<std::int64_t> values(static_cast<std::size_t>(1 + 40 * s), -1);
        for (int i = 0; i < 100; ++i) stream.append_rows(std::span<const std::int64_t>(values));
      }
      file.start_swmr_write();
      file.close();
    }
    const File file(path, Mode::read);
    for (int s = 0; s < 4; ++s) {
      const Array all = file.root().read("s" + std::to_string(s));
      ASSERT_EQ(all.shape[0], keep + 100);
      const auto values = all.as<std::int64_t>();
      for (std::int64_t row = 0; row < keep + 100; ++row) {
        for (std::int64_t c = 0; c < all.shape[1]; ++c) {
          ASSERT_EQ(values[static_cast<std::size_t>(row * all.shape[1] + c)], row < keep ? row : -1)
              << "trial " << trial << " stream " << s << " row " << row;
        }
      }
    }
    with_rows += keep > 100;
  }
  EXPECT_GT(with_rows, 0);
}

TEST(Hdf5, AWriterKilledWithoutSwmrLeavesAMessage) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  in_child([&] {
    File file(path, Mode::create);
    file.root().create_growing("loss", Dtype::f32, {}).append(1.0f);
    file.flush();
    ::kill(::getpid(), SIGKILL);
  });
  EXPECT_NE(message_from([&] { File(path, Mode::read); }).find("not closed"), std::string::npos);
  clear_open_mark(path);
  EXPECT_EQ(File(path, Mode::read).root().read("loss").count(), 1);
}

TEST(Hdf5, MarkIsTheOneThatH5clearClears) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  if (std::system("h5clear --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "hdf5-tools is not installed";
  const auto make = [&] {
    in_child([&] {
      File file(path, Mode::create);
      Dataset loss = file.root().create_growing("loss", Dtype::f32, {});
      file.start_swmr_write();
      loss.append(1.0f);
      file.flush();
      ::kill(::getpid(), SIGKILL);
    });
  };
  make();
  std::string theirs = test::slurp(path);
  clear_open_mark(path);
  const std::string ours = test::slurp(path);
  test::spill(path, theirs);
  ASSERT_EQ(std::system(("h5clear -s " + path).c_str()), 0);
  theirs = test::slurp(path);
  EXPECT_EQ(ours[11], 0);
  EXPECT_EQ(ours[11], theirs[11]);
  EXPECT_EQ(File(path, Mode::read).root().read("loss").count(), 1);
}

}  // namespace
}  // namespace ng::hdf5
