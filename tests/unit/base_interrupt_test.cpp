// SPDX-License-Identifier: Apache-2.0
//
// Claim: after install_interrupt_handlers the first SIGINT or SIGTERM only sets a flag, and the second one ends the process;
// a closed pipe does not. Alone: build/bin/unit_base --gtest_filter='Interrupt*'
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"

namespace ng {
namespace {

[[noreturn]] void raise_once(int signal, const char* expected) {
  install_interrupt_handlers();
  if (interrupt_requested()) std::_Exit(1);
  throw_if_interrupted("idle");
  std::raise(signal);
  if (!interrupt_requested()) std::_Exit(2);
  try {
    throw_if_interrupted("training");
  } catch (const InterruptedError& error) {
    std::_Exit(error.what() == std::string(expected) ? 0 : 3);
  }
  std::_Exit(4);
}

TEST(InterruptDeathTest, TheFirstSignalSetsAFlag) {
  EXPECT_EXIT(raise_once(SIGINT, "interrupted by SIGINT while training"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(raise_once(SIGTERM, "interrupted by SIGTERM while training"), testing::ExitedWithCode(0), "");
}

TEST(InterruptDeathTest, TheSecondEndsTheProcess) {
  const auto twice = [](int first, int second) {
    install_interrupt_handlers();
    std::raise(first);
    std::raise(second);
    std::_Exit(1);
  };
  EXPECT_EXIT(twice(SIGINT, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(twice(SIGTERM, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(twice(SIGINT, SIGTERM), testing::KilledBySignal(SIGTERM), "");
}

TEST(InterruptDeathTest, AClosedPipeIsAFailedWrite) {
  const auto raise_pipe = [] {
    install_interrupt_handlers();
    std::raise(SIGPIPE);
    std::_Exit(interrupt_requested() ? 1 : 0);
  };
  EXPECT_EXIT(raise_pipe(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ng
