// SPDX-License-Identifier: Apache-2.0
//
// Claim: what the HDF5 layer writes it reads back bit for bit, a file whose writer was killed is read and continued, a
// full disk ends in one message, and no damaged file does worse than a UserError.
// Alone: ctest --test-dir build -R unit_io_hdf5
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include "io_support.hpp"
#include "narrowgauge/io/hdf5.hpp"

// With the leak sanitizer: the library does not free all it allocated when a file is damaged or cannot be created.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:H5FL_\nleak:H5MM_\n";
}
extern "C" const char* __lsan_default_options();
extern "C" const char* __lsan_default_options() {
  return "print_suppressions=0";
}

namespace ng::hdf5 {
namespace {

using test::message_from;
using test::slurp;
using test::TempFolder;

constexpr Dtype kAll[] = {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64, Dtype::u8,  Dtype::u16,
                          Dtype::u32, Dtype::i8,   Dtype::i16, Dtype::i32, Dtype::i64, Dtype::u64};

// Every byte value occurs, so NaNs with payloads do as well.
Array pattern(Dtype dtype, std::vector<std::int64_t> shape) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(checked_bytes(shape, size_of(dtype))));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 167 + i / 256) & 0xFF);
  return Array::from_bytes(dtype, std::move(shape), bytes);
}

// Runs `body` in a child process and returns its wait status.
int in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
    } catch (...) {
      ::_exit(99);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(Hdf5, TheSameContentGivesTheSameBytes) {
  const TempFolder folder;
  const auto write = [&](const std::string& name) {
    File file(folder / name, Mode::create);
    Group root = file.root();
    root.set_attribute("a", "text");
    (void)root.create("group/values", Array::from<float>({2}, std::vector<float>{1, 2}));
    root.create_growing("rows", Dtype::f64, {}).append(1.5);
    file.close();
    return slurp(folder / name);
  };
  const std::string first = write("first.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times are whole seconds
  EXPECT_EQ(first == write("second.h5"), true);
}

TEST(Hdf5, EveryDtypeComesBackBitForBit) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {7}, {0}, {3, 5}, {2, 3, 257}};
  {
    File file(path, Mode::create);
    Group root = file.root();
    for (const Dtype dtype : kAll) {
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        root.create(std::string(name_of(dtype)) + "/" + std::to_string(i), pattern(dtype, shapes[i]));
      }
    }
    file.close();
  }
  const File file(path, Mode::read);
  for (const Dtype dtype : kAll) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const std::string name = std::string(name_of(dtype)) + "/" + std::to_string(i);
      const Array read = file.root().read(name), written = pattern(dtype, shapes[i]);
      EXPECT_EQ(read.dtype, dtype) << name;
      EXPECT_EQ(read.shape, shapes[i]) << name;
      EXPECT_TRUE(read.data == written.data) << name;
      EXPECT_EQ(read.format, "") << name;
    }
  }
  EXPECT_EQ(file.root().datasets().size(), std::size(kAll) * shapes.size());
  EXPECT_EQ(file.root().group("f32").children().size(), shapes.size());
}

TEST(Hdf5, TextAttributesAndFormats) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    Group root = file.root();
    root.set_attribute("version", 3);
    root.set_attribute("version", 4);
    root.set_attribute("rate", 0.1);
    root.set_attribute("name", "zwölf");
    root.set_attribute("empty", "");
    const float values[] = {1.0f, -0.0f};
    root.set_attribute("table", Array::from<float>({2}, values));
    root.create_text("status", "running", 16);
    root.create_texts("record/site", {"layer.0/fc1", "b", ""});
    Array codes = pattern(Dtype::u8, {4, 4});
    codes.format = "e4m3";
    root.create("codes", codes);
    root.dataset("status").write_text("done");
    file.close();
  }
  const File file(path, Mode::read);
  const Group root = file.root();
  EXPECT_EQ(root.attribute_integer("version"), 4);
  EXPECT_EQ(root.attribute_number("rate"), 0.1);
  EXPECT_EQ(root.attribute_number("version"), 4.0);
  EXPECT_EQ(root.attribute_text("name"), "zwölf");
  EXPECT_EQ(root.attribute_text("empty"), "");
  EXPECT_TRUE(std::signbit(root.attribute_array("table").as<float>()[1]));
  EXPECT_EQ(root.attribute_names(), (std::vector<std::string>{"empty", "name", "rate", "table", "version"}));
  EXPECT_EQ(root.read_text("status"), "done");
  EXPECT_EQ(root.dataset("record/site").read_texts(), (std::vector<std::string>{"layer.0/fc1", "b", ""}));
  EXPECT_EQ(root.read("codes").format, "e4m3");
  EXPECT_NE(message_from([&] { root.read("codes").as_f32(); }).find("e4m3"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("status"); }).find("text"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("nothing"); }).find("record/site"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("record"); }).find("is a group"), std::string::npos);
  EXPECT_NE(message_from([&] { root.attribute_integer("name"); }).find("a.h5:/@name"), std::string::npos);
  EXPECT_THROW(root.attribute_text("missing"), UserError);
}

TEST(Hdf5, GrowsCutsAndGrowsAgain) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    Dataset loss = file.root().create_growing("train/loss", Dtype::f64, {});
    Dataset load = file.root().create_growing("moe/load", Dtype::u32, {2, 3});
    for (int step = 0; step < 100; ++step) {
      loss.append(step * 0.5);
      const std::vector<std::uint32_t> row(12, static_cast<std::uint32_t>(step));  // two rows at once
      load.append_rows(std::span<const std::uint32_t>(row));
    }
    EXPECT_EQ(loss.rows(), 100);
    EXPECT_THROW(loss.append(1.0f), LogicError);
    EXPECT_THROW(load.append(std::uint32_t{1}), LogicError);
    file.close();
    EXPECT_THROW(loss.append(1.0), LogicError);
  }
  {
    File file(path, Mode::read_write);
    Dataset loss = file.root().dataset("train/loss");
    loss.truncate_rows(41);
    EXPECT_THROW(loss.truncate_rows(42), LogicError);
    loss.append(-1.0);
    file.close();
  }
  const File file(path, Mode::read);
  const Array loss = file.root().read("/train/loss");
  ASSERT_EQ(loss.count(), 42);
  for (std::size_t i = 0; i < 41; ++i) EXPECT_EQ(loss.as<double>()[i], static_cast<double>(i) * 0.5);
  EXPECT_EQ(loss.as<double>()[41], -1.0);
  const Array rows = file.root().dataset("moe/load").read_rows(39, 2);
  EXPECT_EQ(rows.shape, (std::vector<std::int64_t>{2, 2, 3}));
  EXPECT_EQ(rows.as<std::uint32_t>()[0], 19u);
  EXPECT_EQ(rows.as<std::uint32_t>()[6], 20u);
  EXPECT_EQ(file.root().dataset("moe/load").read_rows(200, 0).count(), 0);
  EXPECT_THROW(file.root().dataset("moe/load").read_rows(199, 2), std::out_of_range);
  EXPECT_THROW(file.root().dataset("moe/load").truncate_rows(1), LogicError);
}

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

TEST(Hdf5, TruncatedFiles) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    file.root().create("x", pattern(Dtype::f32, {16, 16}));
    Dataset loss = file.root().create_growing("train/loss", Dtype::f32, {});
    for (int i = 0; i < 200; ++i) loss.append(1.0f);
    file.root().create_text("status", "done");
    file.close();
  }
  const auto read = [](const std::string& name) {
    const File file(name, Mode::read);
    for (const std::string& dataset : file.root().datasets()) {
      if (file.root().dataset(dataset).is_text())
        file.root().read_text(dataset);
      else
        file.root().read(dataset);
    }
  };
  read(path);
  EXPECT_GT(test::sweep_truncations(path, read), 30);
  // The same with the mark of a killed writer, where the length says nothing: a message or what is left, no crash.
  std::string whole = test::slurp(path);
  ASSERT_EQ(whole[8], 3);
  const std::string cut = folder / "cut.h5", marked = folder / "marked.h5";
  in_child([&] {
    File file(marked, Mode::create);
    Dataset loss = file.root().create_growing("loss", Dtype::f32, {});
    file.start_swmr_write();
    for (int i = 0; i < 200; ++i) loss.append(1.0f);
    file.flush();
    ::kill(::getpid(), SIGKILL);
  });
  whole = test::slurp(marked);
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    test::spill(cut, whole.substr(0, length));
    const int status = in_child([&] {
      try {
        File(cut, Mode::read).root().read("loss");
      } catch (const UserError&) {
      }
      try {
        File file(cut, Mode::read_write);
        file.root().dataset("loss").append(1.0f);
        file.close();
      } catch (const UserError&) {
      } catch (const MachineError&) {
      }
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << length;
  }
}

TEST(Hdf5, DamagedBytesGiveAMessageOrValues) {
  const TempFolder folder;
  const std::string path = folder / "a.h5", bad = folder / "bad.h5";
  {
    File file(path, Mode::create);
    file.root().create("x", pattern(Dtype::f32, {8, 8}));
    file.root().create_growing("loss", Dtype::f32, {}).append(1.0f);
    file.root().set_attribute("version", 1);
    file.close();
  }
  const std::string whole = test::slurp(path);
  for (std::size_t at = 0; at < std::min<std::size_t>(whole.size(), 1500); at += 3) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    test::spill(bad, damaged);
    try {
      const File file(bad, Mode::read);
      for (const std::string& dataset : file.root().datasets()) file.root().read(dataset);
    } catch (const UserError&) {
    }
  }
}

// Made with the library itself: what other programs put into files and ours does not.
TEST(Hdf5, FilesOfOthers) {
  const TempFolder folder;
  const std::string path = folder / "theirs.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);  // an old superblock
  const hsize_t three = 3, huge = hsize_t{1} << 34;
  const hid_t scalar = H5Screate(H5S_SCALAR), vector = H5Screate_simple(1, &three, nullptr);
  const hid_t vast = H5Screate_simple(1, &huge, nullptr), null = H5Screate(H5S_NULL);
  const auto create = [&](const char* name, hid_t type, hid_t space, const void* data) {
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_GE(dataset, 0) << name;
    if (data != nullptr) {
      ASSERT_GE(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), 0) << name;
    }
    H5Dclose(dataset);
  };
  const hid_t variable = H5Tcopy(H5T_C_S1);
  H5Tset_size(variable, H5T_VARIABLE);
  const char* words[] = {"one", "", "drei"};
  create("words", variable, vector, words);
  create("word", variable, scalar, words);
  const unsigned char big_endian[] = {0x3F, 0x80, 0x00, 0x00, 0x7F, 0xC0, 0x00, 0x01, 0x80, 0x00, 0x00, 0x00};
  create("big_endian", H5T_IEEE_F32BE, vector, big_endian);
  const hid_t choice = H5Tenum_create(H5T_NATIVE_INT8);
  const signed char yes = 1;
  H5Tenum_insert(choice, "TRUE", &yes);
  create("choice", choice, scalar, &yes);
  create("huge", H5T_IEEE_F32LE, vast, nullptr);
  create("null", H5T_IEEE_F32LE, null, nullptr);
  H5Lcreate_external("/etc/passwd", "/", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/nowhere", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/big_endian", file, "alias", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
  for (const hid_t space : {scalar, vector, vast, null}) H5Sclose(space);
  for (const hid_t type : {variable, choice}) H5Tclose(type);
  H5Fclose(file);

  const File ours(path, Mode::read);
  const Group root = ours.root();
  EXPECT_EQ(root.dataset("words").read_texts(), (std::vector<std::string>{"one", "", "drei"}));
  EXPECT_EQ(root.read_text("word"), "one");
  const Array floats = root.read("alias");
  EXPECT_EQ(floats.as<float>()[0], 1.0f);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(floats.as<float>()[1]), 0x7FC00001u);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(floats.as<float>()[2]), 0x80000000u);
  EXPECT_NE(message_from([&] { root.read("choice"); }).find("enumeration"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("huge"); }).find("more than a file"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("null"); }).find("without a shape"), std::string::npos);
  EXPECT_EQ(root.kind("outside"), Kind::none);
  EXPECT_EQ(root.kind("dangling"), Kind::none);
  EXPECT_EQ(root.kind("loop"), Kind::group);
  EXPECT_FALSE(root.datasets().empty());
}

TEST(Hdf5, MissingForeignAndForbiddenFiles) {
  const TempFolder folder;
  EXPECT_NE(message_from([&] { File(folder / "none.h5", Mode::read); }).find("none.h5"), std::string::npos);
  test::spill(folder / "text.h5", std::string(5000, 'x'));
  EXPECT_NE(message_from([&] { File(folder / "text.h5", Mode::read); }).find("not an HDF5 file"), std::string::npos);
  EXPECT_NE(message_from([&] { File(folder / "text.h5", Mode::read_write); }).find("not an HDF5 file"),
            std::string::npos);
  std::filesystem::create_directory(folder / "dir.h5");
  EXPECT_THROW(File(folder / "dir.h5", Mode::read), UserError);
  EXPECT_THROW(File(folder / "no/such/folder.h5", Mode::create), UserError);
  EXPECT_THROW(File(folder / "dir.h5", Mode::create), UserError);
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
