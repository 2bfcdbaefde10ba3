// SPDX-License-Identifier: Apache-2.0
//
// The flag behind interrupt.hpp.
#include "narrowgauge/base/interrupt.hpp"

#include <atomic>
#include <csignal>
#include <string>

#include "narrowgauge/base/error.hpp"

namespace ng {
namespace {

std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void ng_on_signal(int signal) {
  received.store(signal);
  std::signal(SIGINT, SIG_DFL);  // the next one ends the process
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action {};
  action.sa_handler = ng_on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool interrupt_requested() noexcept {
  return received.load(std::memory_order_relaxed) != 0;
}

void throw_if_interrupted(const char* what) {
  const int signal = received.load();
  if (signal == 0) return;
  throw InterruptedError(std::string("interrupted by ") + (signal == SIGINT ? "SIGINT" : "SIGTERM") + " while " + what);
}

}  // namespace ng
