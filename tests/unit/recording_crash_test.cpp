// SPDX-License-Identifier: Apache-2.0
//
// Claim: another process reads a run file while it is written; kill -9 at any moment leaves a file that can be read,
// holds every flushed row and can be continued; a full disk is a MachineError and leaves what was there before. Each
// writer is this program, started again in a role. Alone: unit_recording_crash
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/recording/checkpoint.hpp"
#include "recording_support.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;
using namespace recording_test;

constexpr int kSkip = 77;

// ---- roles of a started process

void report(std::int64_t number) {
  const std::string line = std::to_string(number) + "\n";
  (void)!::write(STDOUT_FILENO, line.data(), line.size());
}

// Appends steps from `first` on, flushes every 7, and reports what is flushed.
[[noreturn]] void append_for_ever(RunFileWriter& writer, std::int64_t first) {
  for (std::int64_t step = first;; ++step) {
    append_step(writer, step);
    if (step % 7 == 6) {
      writer.flush();
      report(step + 1);
    }
  }
}

int write_role(const std::string& path) {
  RunFileWriter writer = RunFileWriter::create(path, small_setup(), {.flush_seconds = 0.005, .queue_rows = 64});
  report(0);
  append_for_ever(writer, 0);
}

int resume_role(const std::string& path, std::int64_t steps_done) {
  RunFileWriter writer = RunFileWriter::reopen(path, steps_done, {.flush_seconds = 0.005, .queue_rows = 64});
  report(steps_done);
  append_for_ever(writer, steps_done);
}

int read_role(const std::string& path) {
  const RunReader reader(path);
  expect_rows(reader, 0, 1 << 30);
  report(static_cast<std::int64_t>(reader.train().size()));
  return testing::Test::HasFailure() ? 1 : 0;
}

int create_role(const std::string& path) {
  try {
    (void)RunFileWriter::create(path, small_setup());
  } catch (const std::exception& error) {
    return exit_code_of(error);
  }
  return 0;
}

CheckpointContents large_state(std::int64_t step, const std::vector<float>& values) {
  return {step,
          "run-7",
          {{"master/w", Dtype::f32, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))}},
          {}};
}

int save_role(const std::string& folder) {
  CheckpointStore store(folder, 2);
  std::vector<float> values(200000);
  for (std::int64_t step = 1;; ++step) {
    std::fill(values.begin(), values.end(), static_cast<float>(step));
    (void)store.save(large_state(step, values));
    report(step);
  }
}

// A disk of 1 MB of its own, in a name space of its own.
int full_disk_role(const std::string& folder) {
  const bool root = ::geteuid() == 0;
  if (::unshare(root ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") != 0) {
    return kSkip;
  }
  const std::string path = folder + "/run.h5";
  const auto run = [&] {
    RunFileWriter writer = RunFileWriter::create(path, small_setup());
    std::int64_t flushed = 0;
    std::string message;
    for (std::int64_t step = 0; step < 100000 && message.empty(); ++step) {
      try {
        append_step(writer, step);
        if (step % 10 == 9) {
          writer.flush();
          flushed = step + 1;
        }
      } catch (const MachineError& error) {
        message = error.what();
      }
    }
    EXPECT_NE(message.find(path), std::string::npos) << message;
    EXPECT_NE(message.find("No space left"), std::string::npos) << message;
    EXPECT_GT(flushed, 100);
    EXPECT_THROW(writer.append(train_row(1 << 20)), MachineError);  // said again, not forgotten
    EXPECT_THROW(writer.set_status(RunStatus::done), MachineError);
    EXPECT_THROW(writer.close(), MachineError);
    const RunReader reader(path);
    expect_rows(reader, flushed, 1 << 30);
    EXPECT_EQ(reader.status(), RunStatus::running);
    return flushed;
  };
  const std::int64_t flushed = run();
  EXPECT_FALSE(is_being_written(path));
  EXPECT_FALSE(hdf5::marked_as_open(path));  // closed in time

  // A checkpoint that does not fit leaves the ones before it.
  CheckpointStore store(folder + "/c");
  EXPECT_THROW((void)store.save(large_state(7, std::vector<float>(400000))), MachineError);
  EXPECT_TRUE(fs::is_empty(folder + "/c"));
  // Nor can a run be created: nothing under its name. (What is left of the disk is filled first.)
  {
    std::ofstream filler(folder + "/filler", std::ios::binary);
    const std::string block(4096, 'x');
    while (filler.write(block.data(), 4096).flush()) {
    }
  }
  EXPECT_THROW((void)RunFileWriter::create(folder + "/second.h5", small_setup()), MachineError);
  EXPECT_FALSE(fs::exists(folder + "/second.h5") || fs::exists(folder + "/second.h5.part"));
  EXPECT_THROW((void)RunFileWriter::reopen(path, 50), MachineError);  // no room for its copy
  expect_rows(RunReader(path), flushed, 1 << 30);
  // With room again it goes on.
  fs::remove(folder + "/filler");
  EXPECT_EQ(::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT, "size=16m"), 0);
  {
    RunFileWriter writer = RunFileWriter::reopen(path, flushed);
    for (std::int64_t step = flushed; step < flushed + 100; ++step) append_step(writer, step);
    writer.set_status(RunStatus::done);
    writer.close();
  }
  expect_rows(RunReader(path), flushed + 100, flushed + 100);
  return testing::Test::HasFailure() ? 1 : 0;
}

// Writes that fail where nobody could look ahead: the file may not grow beyond 300 KB.
int limit_role(const std::string& path) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{300000, 300000};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return kSkip;
  RunFileWriter writer = RunFileWriter::create(path, small_setup());
  try {
    for (std::int64_t step = 0; step < 100000; ++step) {
      append_step(writer, step);
      if (step % 10 == 9) {
        writer.flush();
        report(step + 1);
      }
    }
  } catch (const MachineError& error) {
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    EXPECT_THROW(writer.close(), MachineError);
    return testing::Test::HasFailure() ? 1 : kExitMachine;
  }
  return 1;
}

// ---- the starting side

class Child {
 public:
  explicit Child(const std::vector<std::string>& arguments) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw MachineError("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      std::vector<char*> argv = {const_cast<char*>("unit_recording_crash"), const_cast<char*>("--role")};
      for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv("/proc/self/exe", argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  ~Child() {
    if (!waited_) (void)kill();
    ::close(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// kill -9; returns the last number reported, -1 if none.
  std::int64_t kill() {
    ::kill(pid_, SIGKILL);
    (void)wait();
    return last_;
  }
  /// Exit code.
  int wait() {
    drain();
    int status = 0;
    ::waitpid(pid_, &status, 0);
    waited_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::int64_t last() const { return last_; }
  const std::string& text() const { return text_; }
  /// Returns when the first number has come.
  void await_first() {
    char c = 0;
    while (text_.find('\n') == std::string::npos && ::read(output_, &c, 1) == 1) text_ += c;
  }

 private:
  void drain() {
    char buffer[4096];
    for (ssize_t n; (n = ::read(output_, buffer, sizeof buffer)) > 0;)
      text_.append(buffer, static_cast<std::size_t>(n));
    const std::size_t end = text_.rfind('\n');
    if (end == std::string::npos) return;
    const std::size_t begin = end == 0 ? std::string::npos : text_.rfind('\n', end - 1);
    const std::string line = text_.substr(begin == std::string::npos ? 0 : begin + 1, end);
    if (!line.empty() && (std::isdigit(static_cast<unsigned char>(line[0])) != 0)) last_ = std::stoll(line);
  }

  pid_t pid_ = -1;
  int output_ = -1;
  bool waited_ = false;
  std::string text_;
  std::int64_t last_ = -1;
};

TEST(RecordingCrash, AnotherProcessReadsARunningFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  Child writer({"write", path});
  writer.await_first();
  std::int64_t before = -1;
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    Child reader({"read", path});
    ASSERT_EQ(reader.wait(), 0) << reader.text();
    EXPECT_GE(reader.last(), before);
    before = reader.last();
  }
  EXPECT_GT(before, 0);
  EXPECT_TRUE(is_being_written(path));
  (void)writer.kill();
  EXPECT_FALSE(is_being_written(path));
}

TEST(RecordingCrash, ASecondProgramIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  Child writer({"write", path});
  writer.await_first();
  EXPECT_EQ(Child({"create", path}).wait(), kExitUser);
  EXPECT_EQ(Child({"resume", path, "7"}).wait(), kExitUser);
  EXPECT_GE(writer.kill(), 0);
  expect_rows(RunReader(path), 0, 1 << 30);
}

TEST(RecordingCrash, KilledWritersLeaveReadableFiles) {
  std::mt19937 random(20240229);
  int before_creation = 0, with_rows = 0;
  for (int round = 0; round < 24; ++round) {
    SCOPED_TRACE(round);
    const TemporaryFolder folder;
    const std::string path = folder / "run.h5";
    Child writer({"write", path});
    // A third of the kills fall anywhere from the start of the program on, the others while rows are written.
    if (round % 3 != 0) writer.await_first();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    const std::int64_t flushed = writer.kill();
    if (!fs::exists(path)) {
      EXPECT_EQ(flushed, -1);
      ++before_creation;
      RunFileWriter::create(path, small_setup()).close();  // over the leftover
      continue;
    }
    const RunReader reader(path);
    EXPECT_EQ(reader.status(), RunStatus::running);
    EXPECT_FALSE(is_being_written(path));
    expect_rows(reader, std::max<std::int64_t>(flushed, 0), 1 << 30);
    const auto rows = static_cast<std::int64_t>(reader.train().size());
    with_rows += rows > 0;
    // Goes on from the last step that every stream has, and then again after a kill of the continuation.
    const std::int64_t from = std::max<std::int64_t>(flushed, 0);
    Child second({"resume", path, std::to_string(from)});
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    const std::int64_t again = second.kill();
    expect_rows(RunReader(path), std::max(from, again), 1 << 30);
    RunFileWriter last = RunFileWriter::reopen(path, from);
    for (std::int64_t step = from; step < from + 20; ++step) append_step(last, step);
    last.set_status(RunStatus::done);
    last.close();
    EXPECT_FALSE(hdf5::marked_as_open(path));
    expect_rows(RunReader(path), from + 20, from + 20);
  }
  std::printf("24 kills: %d before the file had its name, %d with rows\n", before_creation, with_rows);
  EXPECT_GT(with_rows, 8);
}

TEST(RecordingCrash, KilledSavesLeaveWholeCheckpoints) {
  std::mt19937 random(7);
  for (int round = 0; round < 8; ++round) {
    SCOPED_TRACE(round);
    const TemporaryFolder folder;
    Child saver({"save", folder / "c"});
    saver.await_first();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 50000));
    const std::int64_t saved = saver.kill();
    const auto latest = CheckpointStore(folder / "c").load_latest();
    ASSERT_TRUE(latest);
    EXPECT_GE(latest->step, saved);
    const Array& values = latest->tensor("master/w");
    ASSERT_EQ(values.count(), 200000);
    EXPECT_EQ(values.as<float>().front(), static_cast<float>(latest->step));
    EXPECT_EQ(values.as<float>().back(), static_cast<float>(latest->step));
  }
}

TEST(RecordingCrash, FailedWritesLeaveWhatWasFlushed) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  Child child({"limit", path});
  ASSERT_EQ(child.wait(), kExitMachine) << child.text();
  EXPECT_GT(child.last(), 100);
  expect_rows(RunReader(path), child.last(), 1 << 30);
  RunFileWriter writer = RunFileWriter::reopen(path, child.last());
  for (std::int64_t step = child.last(); step < child.last() + 50; ++step) append_step(writer, step);
  writer.close();
  expect_rows(RunReader(path), child.last() + 50, child.last() + 50);
}

TEST(RecordingCrash, FullDisk) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "disk");
  Child child({"full_disk", folder / "disk"});
  const int code = child.wait();
  if (code == kSkip) GTEST_SKIP() << "NOT TESTED: this user may not mount a small disk";
  EXPECT_EQ(code, 0) << child.text();
}

}  // namespace

int run_role(const std::vector<std::string>& arguments) {
  const std::string& role = arguments.at(0);
  const std::string& path = arguments.at(1);
  try {
    if (role == "write") return write_role(path);
    if (role == "resume") return resume_role(path, std::stoll(arguments.at(2)));
    if (role == "read") return read_role(path);
    if (role == "create") return create_role(path);
    if (role == "save") return save_role(path);
    if (role == "limit") return limit_role(path);
    if (role == "full_disk") return full_disk_role(path);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return exit_code_of(error);
  }
  return 126;
}

}  // namespace ng

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 3 && std::string(argv[1]) == "--role") return ng::run_role({argv + 2, argv + argc});
  return RUN_ALL_TESTS();
}
