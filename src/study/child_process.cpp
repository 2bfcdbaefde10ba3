// SPDX-License-Identifier: Apache-2.0
//
// fork, exec, wait. Between fork and exec only async-signal-safe calls are made.
#include "child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

namespace {

int code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// In the child. Never returns.
[[noreturn]] void become(const char* program, char* const* words, int log, pid_t parent) {
  ::setpgid(0, 0);  // a Ctrl-C on the terminal reaches us through the parent alone
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(128 + SIGTERM);  // it died before the line above
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) std::signal(signal, SIG_DFL);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execvp(program, words);
  const char* reason = std::strerror(errno);
  for (const char* text : {"cannot execute ", program, ": ", reason, "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                           const std::filesystem::path& log, LogMode mode) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (mode == LogMode::fresh ? O_TRUNC : O_APPEND);
  const int out = ::open(log.c_str(), flags, 0644);
  if (out < 0) throw_file_error("write", log, errno);
  std::string name = program.string();
  std::vector<std::string> copies = arguments;
  std::vector<char*> words = {name.data()};
  for (std::string& word : copies) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(name.c_str(), words.data(), out, parent);
  const int error = errno;
  ::close(out);
  if (pid_ < 0) throw MachineError(fmt::format("cannot start a process: {}", std::strerror(error)));
}

std::optional<int> ChildProcess::poll() {
  if (result_) return result_;
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) result_ = code_of(status);
  if (ended < 0 && errno != EINTR) throw MachineError(fmt::format("lost process {}: {}", pid_, std::strerror(errno)));
  return result_;
}

int ChildProcess::wait() {
  int status = 0;
  while (!result_) {
    if (::waitpid(pid_, &status, 0) == pid_) {
      result_ = code_of(status);
    } else if (errno != EINTR) {
      throw MachineError(fmt::format("lost process {}: {}", pid_, std::strerror(errno)));
    }
  }
  return *result_;
}

void ChildProcess::send(int signal) const {
  if (!result_) ::kill(pid_, signal);
}

}  // namespace ng
