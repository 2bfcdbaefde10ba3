// SPDX-License-Identifier: Apache-2.0
//
// The four golden comparisons for a subject: everything compared is equal, exactly the documented numbers are masked,
// every dataset of the file was read. The table of counts is printed.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

#include "golden_cases.hpp"

namespace ng_golden {

struct FileCase {
  const char* file;
  void (*compare)(const Subject&, GoldenFile&, Tally&);
  std::size_t compared;  ///< numbers in the file that are compared
  std::size_t masked;    ///< numbers that data/golden/README.md excuses
};

/// 11 formats x (65,536 + 200,000) codes, 200,000 BF16 codes, 2,192 values.
inline constexpr FileCase kMlDtypes{"ml_dtypes_casts.h5", compare_casts, 3123088, 0};
/// 20 element-rule pairs and 2 NVFP4 forms of 38,912 elements, with their scales.
inline constexpr FileCase kTorchao{"torchao_mx.h5", compare_torchao, 885091, 96 + 68};
/// Rotated sides count twice (two orders of summation); of each, one input is flushed.
inline constexpr FileCase kTransformerEngine{"te_nvfp4.h5", compare_te, 657260, 2 * 2 * (1024 + 64 + 1)};
inline constexpr FileCase kMicroxcaling{"microxcaling_mx.h5", compare_microxcaling, 1400832, 0};

inline void expect_golden(const Subject& subject, const FileCase& c) {
  GoldenFile file(c.file);
  Tally tally;
  c.compare(subject, file, tally);
  std::printf("%s against %s\n%s", subject.name.c_str(), c.file, tally.table().c_str());
  EXPECT_TRUE(tally.all_equal()) << tally.differences();
  EXPECT_EQ(tally.compared(), c.compared);
  EXPECT_EQ(tally.masked(), c.masked);
  EXPECT_EQ(file.unread(), std::vector<std::string>{});
}

}  // namespace ng_golden
