// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 (FIPS 180-4): digests of data, configuration and sources, and the tensor ids of the counter RNG.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ng {

using Sha256Digest = std::array<std::uint8_t, 32>;

/// Incremental SHA-256. Feed any number of pieces, then call `finish` once.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  /// Digest of everything fed. The object must not be used afterwards (LogicError).
  [[nodiscard]] Sha256Digest finish();

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_;
  std::array<std::uint8_t, 64> buffer_{};
  std::uint64_t length_ = 0;  // bytes fed
  bool finished_ = false;
};

/// 64 lower-case hexadecimal digits.
[[nodiscard]] std::string hex_of(const Sha256Digest& digest);
[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);
[[nodiscard]] std::string sha256_hex(std::string_view text);

/// First four bytes of the digest, big-endian: the tensor id of the site called `name`.
[[nodiscard]] std::uint32_t sha256_first32(std::string_view name);

}  // namespace ng
