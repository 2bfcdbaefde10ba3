// SPDX-License-Identifier: Apache-2.0
//
// The layouts of token files: text, one-dimensional npy, llm.c shards (train_gpt2's data_common.py, version 1) and
// Megatron-LM's indexed datasets (indexed_dataset.py, version 1).
#include "token_formats.hpp"

#include <algorithm>
#include <filesystem>

#include "io_common.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/npy.hpp"

namespace ng::io {

namespace {

constexpr std::int32_t kLlmcMagic = 20240520, kLlmcVersion = 1;
constexpr std::size_t kLlmcHeader = 256 * sizeof(std::int32_t);
constexpr std::string_view kMegatronMagic("MMIDIDX\0\0", 9);

bool is_llmc(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && load<std::int32_t>(bytes.data()) == kLlmcMagic;
}

TokenLayout llmc_layout(const std::string& path, std::span<const std::byte> bytes) {
  if (bytes.size() < kLlmcHeader) throw UserError(path + ": truncated in the header of an llm.c shard");
  if (!is_llmc(bytes)) throw UserError(path + " is not an llm.c shard (its first number is not 20240520)");
  const auto version = load<std::int32_t>(bytes.data() + 4), count = load<std::int32_t>(bytes.data() + 8);
  if (version != kLlmcVersion) {
    throw UserError(path + ": llm.c shard of version " + std::to_string(version) + "; valid is 1 (uint16 tokens)");
  }
  const std::size_t present = bytes.size() - kLlmcHeader;
  if (count < 0 || static_cast<std::size_t>(count) * 2 != present) {
    throw UserError(path + ": truncated or damaged: the header of the llm.c shard says " + std::to_string(count) +
                    " tokens, the file holds " + std::to_string(present / 2));
  }
  return {kLlmcHeader, 2, count};
}

TokenLayout npy_layout(const std::string& path, std::span<const std::byte> bytes) {
  const NpyHeader header = parse_npy_header(bytes, bytes.size(), path);
  if (header.shape.size() != 1 || (header.dtype != Dtype::u16 && header.dtype != Dtype::u32)) {
    throw UserError(path + ": holds " + std::string(name_of(header.dtype)) + " " + shape_text(header.shape) +
                    "; token shards are uint16 or uint32 of one dimension");
  }
  return {header.data_offset, size_of(header.dtype), header.shape[0]};
}

TokenLayout megatron_layout(const std::string& path, std::span<const std::byte> bytes) {
  const std::string name = index_path(path);
  const MappedFile file(name);
  const auto index = file.bytes();
  constexpr std::size_t kHead = 9 + 8 + 1 + 8 + 8;
  const auto truncated = [&] { return UserError(name + ": truncated Megatron index"); };
  if (index.size() < kHead) throw truncated();
  if (std::memcmp(index.data(), kMegatronMagic.data(), kMegatronMagic.size()) != 0) {
    throw UserError(name + " is not a Megatron index");
  }
  const auto version = load<std::uint64_t>(&index[9]);
  if (version != 1) throw UserError(name + ": Megatron index of version " + std::to_string(version) + "; valid is 1");
  const int code = static_cast<int>(index[17]);
  const std::size_t width = code == 1 ? 1 : code == 8 ? 2 : code == 4 ? 4 : 0;
  if (width == 0) {
    throw UserError(name + ": token type " + std::to_string(code) + "; valid are 1 (uint8), 8 (uint16) and 4 (int32)");
  }
  const auto sequences = load<std::uint64_t>(&index[18]), documents = load<std::uint64_t>(&index[26]);
  const std::uint64_t room = index.size() - kHead;
  if (sequences > room / 12 || documents > (room - sequences * 12) / 8) throw truncated();
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < sequences; ++i) {
    const auto length = load<std::int32_t>(&index[kHead + 4 * i]);
    const auto pointer = load<std::int64_t>(&index[kHead + 4 * sequences + 8 * i]);
    if (length < 0 || pointer < 0 || static_cast<std::uint64_t>(pointer) != count * width) {
      throw UserError(name + ": sequence " + std::to_string(i) + " does not lie after the one before it");
    }
    count += static_cast<std::uint64_t>(length);
  }
  if (count * width != bytes.size()) {
    throw UserError(path + ": holds " + std::to_string(bytes.size()) + " bytes, its index " + name + " describes " +
                    std::to_string(count * width));
  }
  return {0, width, static_cast<std::int64_t>(count)};
}

}  // namespace

std::string index_path(const std::string& bin_path) {
  return std::filesystem::path(bin_path).replace_extension(".idx").string();
}

TokenFormat guess_token_format(const std::string& path) {
  if (path.ends_with(".npy")) return TokenFormat::npy;
  if (!path.ends_with(".bin")) return TokenFormat::bytes;
  std::error_code ignored;
  if (std::filesystem::exists(index_path(path), ignored)) return TokenFormat::megatron;
  if (is_llmc(MappedFile(path).bytes())) return TokenFormat::llmc;
  throw UserError(path + ": neither an llm.c shard nor Megatron data (there is no " + index_path(path) + ")");
}

TokenLayout layout_of(TokenFormat format, const std::string& path, std::span<const std::byte> bytes) {
  switch (format) {
    case TokenFormat::bytes:
      return {0, 1, static_cast<std::int64_t>(bytes.size())};
    case TokenFormat::npy:
      return npy_layout(path, bytes);
    case TokenFormat::llmc:
      return llmc_layout(path, bytes);
    case TokenFormat::megatron:
      return megatron_layout(path, bytes);
  }
  throw LogicError("a token format that does not exist");
}

}  // namespace ng::io
