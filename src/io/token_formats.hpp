// SPDX-License-Identifier: Apache-2.0
//
// Where the ids lie in the kinds of token files that we read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace ng::io {

enum class TokenFormat { bytes, npy, llmc, megatron };

// Names in a manifest, in the order of TokenFormat.
inline const std::string kTokenFormatNames[] = {"bytes", "npy", "llmc", "megatron"};

// The format of a file given without a manifest: by its name, for .bin by its content.
TokenFormat guess_token_format(const std::string& path);

struct TokenLayout {
  std::size_t offset = 0;  // bytes before token 0
  std::size_t width = 1;   // bytes of a token: 1, 2 or 4, unsigned (checked to fit in 31 bits by the caller)
  std::int64_t count = 0;
};

// Checks the file's structure. UserError.
TokenLayout layout_of(TokenFormat format, const std::string& path, std::span<const std::byte> bytes);

// Megatron's index beside x.bin: x.idx.
std::string index_path(const std::string& bin_path);

}  // namespace ng::io
