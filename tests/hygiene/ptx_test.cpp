// SPDX-License-Identifier: Apache-2.0
//
// Claim: no kernel approximates or flushes subnormals: the PTX of every .cu file under cuda/, made with the flags of the
// build, has no `.approx`, `.ftz` or `.full`; cuda/subjects, the things under test, are left out. A control file shows that
// the test would see them. Needs nvcc, no GPU.
// Alone: build/release/bin/hygiene_ptx
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "hygiene/source_tree.hpp"

namespace ng::hygiene {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

/// Instructions of a PTX text whose result is not the one correctly rounded IEEE value.
std::vector<std::string> inexact_instructions(const std::string& ptx) {
  static const std::regex inexact(R"(^\s*(@!?%p\d+\s+)?[a-z0-9]+(\.[a-z0-9:_]+)*\.(approx|ftz|full)\b)");
  std::vector<std::string> found;
  for (const std::string& line : lines_of(ptx))
    if (std::regex_search(line, inexact)) found.push_back(line);
  return found;
}

/// Names of the kernels of a PTX text.
std::set<std::string> kernels(const std::string& ptx) {
  static const std::regex entry(R"(\.entry\s+([A-Za-z0-9_$]+))");
  std::set<std::string> names;
  for (std::sregex_iterator i(ptx.begin(), ptx.end(), entry), end; i != end; ++i) names.insert((*i)[1]);
  return names;
}

TEST(Ptx, NoKernelApproximatesOrFlushes) {
  std::size_t kernel_count = 0;
  const std::vector<std::string> files = lines_of(read_text(NG_PTX_LIST));
  for (const std::string& file : files) {
    const std::string ptx = read_text(file);
    ASSERT_NE(ptx.find(".version"), std::string::npos) << file << " is no PTX";
    kernel_count += kernels(ptx).size();
    for (const std::string& line : inexact_instructions(ptx)) ADD_FAILURE() << file << ": " << line;
  }
  EXPECT_GE(kernel_count, 20u);
}

TEST(Ptx, EveryDeviceFileIsRead) {
  std::size_t sources = 0;
  for (const SourceFile& file : source_files({"cuda"})) sources += file.extension() == ".cu" && !file.path.starts_with("cuda/subjects/") ? 1 : 0;
  EXPECT_EQ(lines_of(read_text(NG_PTX_LIST)).size(), sources);
}

TEST(Ptx, TheControlIsFound) {
  const std::vector<std::string> found = inexact_instructions(read_text(lines_of(read_text(NG_PTX_CONTROL_LIST)).at(0)));
  std::string all;
  for (const std::string& line : found) all += line + "\n";
  EXPECT_NE(all.find("ex2.approx"), std::string::npos) << all;
  EXPECT_NE(all.find("add.ftz"), std::string::npos) << all;
}

}  // namespace
}  // namespace ng::hygiene
