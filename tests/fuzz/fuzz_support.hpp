// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets share: files of this process that readers can be pointed at, and promises that end the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz_targets.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::fuzz {

/// Writes `content` under `name` in a folder of this process (removed at exit) and returns the path.
std::string file_with(const std::string& name, Bytes content);
void remove_file(const std::string& name);

/// Prints `what` and aborts unless `kept`.
void promise(bool kept, std::string_view what);

inline std::string text_of(Bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// Takes choices off the front of the input; zeros when it is used up.
class Choices {
 public:
  explicit Choices(Bytes input) : left_(input) {}
  std::uint8_t next() {
    if (left_.empty()) return 0;
    const std::uint8_t value = left_.front();
    left_ = left_.subspan(1);
    return value;
  }
  std::size_t below(std::size_t n) { return next() % n; }
  bool empty() const { return left_.empty(); }
  Bytes rest() const { return left_; }

 private:
  Bytes left_;
};

/// Runs `action`; a UserError is an answer, every other exception goes on. True when nothing was thrown.
template <class Action>
bool accepted(const Action& action) {
  try {
    action();
    return true;
  } catch (const UserError& error) {
    promise(std::string_view(error.what()).size() > 3, "a refusal says why");
    return false;
  }
}

}  // namespace ng::fuzz
