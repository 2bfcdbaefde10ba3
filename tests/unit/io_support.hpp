// SPDX-License-Identifier: Apache-2.0
//
// What the io tests share: a folder that goes away, whole files as bytes, the message of an expected error, and the
// truncation sweep.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "narrowgauge/base/error.hpp"

namespace ng::test {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "narrowgauge-io-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void spill(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
}

// The message of the Error that `action` throws; a test failure and "" if it throws none.
template <class Error = UserError>
std::string message_from(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// `read` of every prefix of `path` whose length is a multiple of 97, and of the last 8 lengths, must throw a UserError
// that names the file. Returns how many prefixes were tried.
inline int sweep_truncations(const std::string& path, const std::function<void(const std::string&)>& read) {
  const std::string whole = slurp(path);
  const std::string cut = path.substr(0, path.rfind('/') + 1) + "cut" + path.substr(path.rfind('.'));
  int tried = 0;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    if (length % 97 != 0 && length + 8 < whole.size()) continue;
    spill(cut, whole.substr(0, length));
    const std::string message = message_from([&] { read(cut); });
    EXPECT_NE(message.find("cut"), std::string::npos) << length << " bytes: " << message;
    ++tried;
  }
  std::filesystem::remove(cut);
  return tried;
}

}  // namespace ng::test
