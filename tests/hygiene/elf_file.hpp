// SPDX-License-Identifier: Apache-2.0
//
// What the hygiene tests read from 64-bit little-endian ELF files: needed libraries and symbols.
#pragma once

#include <string>
#include <vector>

namespace ng::hygiene {

struct ElfSymbol {
  std::string name;
  bool defined = false;
  bool function = false;
  bool shareable = false;  // weak or unique: the linker keeps one of all files' copies
};

class ElfFile {
 public:
  /// std::runtime_error when the file is no such ELF file or is cut short.
  explicit ElfFile(const std::string& path);
  /// DT_NEEDED of the dynamic section, in order.
  [[nodiscard]] std::vector<std::string> needed() const;
  /// The symbol table of an object file.
  [[nodiscard]] std::vector<ElfSymbol> symbols() const;

 private:
  struct Section;
  template <class T>
  [[nodiscard]] T at(std::size_t offset) const;
  [[nodiscard]] std::string text_at(std::size_t offset) const;
  [[nodiscard]] std::vector<Section> sections() const;

  std::string bytes_;
};

}  // namespace ng::hygiene
