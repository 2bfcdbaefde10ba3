// SPDX-License-Identifier: Apache-2.0
//
// fork, exec, two pipes and poll.
#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace ng::test {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void child(const std::vector<std::string>& words, const ProcessOptions& options, int out, int err) {
  const std::string folder = options.folder.empty() ? std::string(NG_SOURCE_DIR) : options.folder.string();
  if (chdir(folder.c_str()) != 0) _exit(127);
  if (!options.stdout_file.empty()) {
    const int file = open(options.stdout_file.c_str(), O_WRONLY | O_CREAT, 0644);
    if (file < 0) _exit(127);
    out = file;
  }
  const int nothing = open("/dev/null", O_RDONLY);
  if (dup2(nothing, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(127);
  if (options.file_size_limit) {
    std::signal(SIGXFSZ, SIG_IGN);
    const auto bytes = static_cast<rlim_t>(*options.file_size_limit);
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(127);
  }
  if (options.as_nobody && geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(127);
  std::vector<char*> argv;
  std::string program = NG_PROGRAM;
  argv.push_back(program.data());
  std::vector<std::string> copies = words;
  for (std::string& word : copies) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  _exit(127);
}

}  // namespace

Process::Process(const std::vector<std::string>& words, const ProcessOptions& options) : options_(options) {
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) child(words, options, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  out_ = out[0];
  err_ = err[0];
}

Process::~Process() {
  if (out_ >= 0) close(out_);
  if (err_ >= 0) close(err_);
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

void Process::send(int signal) const {
  kill(pid_, signal);
}

bool Process::read_some(int timeout_milliseconds) {
  std::array<pollfd, 2> polls{{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};
  if (out_ < 0 && err_ < 0) return false;
  if (poll(polls.data(), polls.size(), timeout_milliseconds) <= 0) return true;
  const auto drain = [](int& descriptor, const pollfd& state, std::string& text) {
    if (descriptor < 0 || state.revents == 0) return;
    std::array<char, 65536> buffer{};
    const ssize_t count = read(descriptor, buffer.data(), buffer.size());
    if (count > 0) {
      text.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      close(descriptor);
      descriptor = -1;
    }
  };
  drain(out_, polls[0], outcome_.out);
  drain(err_, polls[1], outcome_.err);
  return out_ >= 0 || err_ >= 0;
}

bool Process::wait_for_stderr(const std::string& text, int timeout_seconds) {
  const auto end = Clock::now() + std::chrono::seconds(timeout_seconds);
  while (outcome_.err.find(text) == std::string::npos)
    if (Clock::now() > end || !read_some(100)) return outcome_.err.find(text) != std::string::npos;
  return true;
}

Outcome Process::finish() {
  const auto end = Clock::now() + std::chrono::seconds(options_.timeout_seconds);
  while (read_some(100)) {
    if (Clock::now() > end) {
      kill(pid_, SIGKILL);
      outcome_.err += "\n(killed by the test: time ran out)";
      break;
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  outcome_.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome_;
}

Outcome narrowgauge(const std::vector<std::string>& words, const ProcessOptions& options) {
  return Process(words, options).finish();
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "narrowgauge-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  std::filesystem::permissions(path_, std::filesystem::perms::owner_all, error);
  std::filesystem::remove_all(path_, error);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
  return file(name);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace ng::test
