// SPDX-License-Identifier: Apache-2.0
//
// Claim: the program needs the C library and nothing else, so it runs on machines without our packages; and files
// built for AVX2 share no function with others, so it runs on machines without AVX2.
// Alone: build/release/bin/hygiene_build --gtest_filter='Binary.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "hygiene/elf_file.hpp"
#include "hygiene/source_tree.hpp"

namespace ng::hygiene {
namespace {

bool contains(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

TEST(Binary, TheReaderSeesNeededLibraries) {
  // This test itself needs the C library; a reader that saw nothing would let everything pass.
  EXPECT_TRUE(contains(ElfFile("/proc/self/exe").needed(), "libc.so.6"));
}

#ifdef NG_HAVE_PROGRAM
TEST(Binary, TheProgramNeedsTheCLibraryOnly) {
  if (!NG_IS_PORTABLE) GTEST_SKIP() << "built without NG_PORTABLE, or no static HDF5 on this machine";
  const std::vector<std::string> allowed = {"libc.so.6",       "libm.so.6",  "ld-linux-x86-64.so.2", "libdl.so.2",
                                            "libpthread.so.0", "librt.so.1", "ld-linux-aarch64.so.1"};
  for (const std::string& name : ElfFile(NG_PROGRAM).needed()) {
    EXPECT_TRUE(contains(allowed, name)) << NG_PROGRAM << " needs " << name;
  }
}
#endif

// The linker keeps one copy of each inline function and template that several files define. If that were a copy
// compiled for AVX2, a machine without it would stop at an illegal instruction somewhere else entirely.
TEST(Binary, FilesForAvx2ShareNoFunction) {
  std::istringstream list(read_text(NG_ISA_OBJECT_LIST));
  std::size_t files = 0;
  for (std::string path; std::getline(list, path);) {
    if (path.empty()) continue;
    ++files;
    for (const ElfSymbol& symbol : ElfFile(path).symbols()) {
      EXPECT_FALSE(symbol.defined && symbol.function && symbol.shareable)
          << path << " shares " << symbol.name << " with other files: make it always_inline or move it out";
    }
  }
  EXPECT_GE(files, 1u);
}

}  // namespace
}  // namespace ng::hygiene
