// SPDX-License-Identifier: Apache-2.0
//
// A reader of ELF section headers, with <elf.h> for the layouts.
#include "hygiene/elf_file.hpp"

#include <elf.h>

#include <cstring>
#include <stdexcept>

#include "hygiene/source_tree.hpp"

namespace ng::hygiene {

struct ElfFile::Section {
  Elf64_Shdr header;
};

ElfFile::ElfFile(const std::string& path) : bytes_(read_text(path)) {
  const auto header = at<Elf64_Ehdr>(0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB) {
    throw std::runtime_error(path + " is no 64-bit little-endian ELF file");
  }
}

template <class T>
T ElfFile::at(std::size_t offset) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) throw std::runtime_error("ELF file is cut short");
  T value;
  std::memcpy(&value, bytes_.data() + offset, sizeof(T));
  return value;
}

std::string ElfFile::text_at(std::size_t offset) const {
  if (offset >= bytes_.size()) throw std::runtime_error("ELF file is cut short");
  return bytes_.c_str() + offset;
}

std::vector<ElfFile::Section> ElfFile::sections() const {
  const auto header = at<Elf64_Ehdr>(0);
  std::vector<Section> list;
  std::size_t count = header.e_shnum;
  if (count == 0 && header.e_shoff != 0) count = at<Elf64_Shdr>(header.e_shoff).sh_size;  // more than 65279 sections
  for (std::size_t i = 0; i < count; ++i) {
    list.push_back({at<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr))});
  }
  return list;
}

std::vector<std::string> ElfFile::needed() const {
  std::vector<std::string> names;
  const auto list = sections();
  for (const Section& section : list) {
    if (section.header.sh_type != SHT_DYNAMIC) continue;
    const Elf64_Shdr& strings = list.at(section.header.sh_link).header;
    for (std::size_t at_byte = 0; at_byte < section.header.sh_size; at_byte += sizeof(Elf64_Dyn)) {
      const auto entry = at<Elf64_Dyn>(section.header.sh_offset + at_byte);
      if (entry.d_tag == DT_NEEDED) names.push_back(text_at(strings.sh_offset + entry.d_un.d_val));
    }
  }
  return names;
}

std::vector<ElfSymbol> ElfFile::symbols() const {
  std::vector<ElfSymbol> symbols;
  const auto list = sections();
  for (const Section& section : list) {
    if (section.header.sh_type != SHT_SYMTAB) continue;
    const Elf64_Shdr& strings = list.at(section.header.sh_link).header;
    for (std::size_t at_byte = 0; at_byte < section.header.sh_size; at_byte += sizeof(Elf64_Sym)) {
      const auto entry = at<Elf64_Sym>(section.header.sh_offset + at_byte);
      const int binding = ELF64_ST_BIND(entry.st_info);
      symbols.push_back({text_at(strings.sh_offset + entry.st_name), entry.st_shndx != SHN_UNDEF,
                         ELF64_ST_TYPE(entry.st_info) == STT_FUNC,
                         binding == STB_WEAK || binding == STB_GNU_UNIQUE});
    }
  }
  return symbols;
}

}  // namespace ng::hygiene
