// SPDX-License-Identifier: Apache-2.0
//
// Expecting a UserError whose message holds given pieces.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>

#include "narrowgauge/base/error.hpp"

namespace ng {

inline void expect_user_error(const std::function<void()>& call, std::initializer_list<std::string> pieces) {
  try {
    call();
  } catch (const UserError& error) {
    const std::string message = error.what();
    for (const std::string& piece : pieces)
      EXPECT_NE(message.find(piece), std::string::npos) << "lacks '" << piece << "': " << message;
    return;
  }
  FAIL() << "no UserError; expected one with '" << *pieces.begin() << "'";
}

}  // namespace ng
