// SPDX-License-Identifier: Apache-2.0
//
// Claim: SHA-256 equals the vectors of NIST (FIPS 180-4 examples and the byte-oriented short and long message tests of
// CAVP), in whole and in any pieces.
// Alone: build/release/bin/unit_base --gtest_filter='Sha256.*'
#include <gtest/gtest.h>

#include <string>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/sha256.hpp"

namespace ng {
namespace {

TEST(Sha256, EqualsNistVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                       "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(sha256_hex("\xd3"), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
}

TEST(Sha256, PiecesDoNotMatter) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (std::size_t length : {0u, 1u, 55u, 56u, 57u, 63u, 64u, 65u, 119u, 120u, 127u, 128u, 129u, 300u}) {
    const std::string message = text.substr(0, length);
    const std::string whole = sha256_hex(message);
    for (std::size_t piece : {1u, 3u, 63u, 64u, 65u}) {
      Sha256 hash;
      for (std::size_t at = 0; at < length; at += piece) hash.update(std::string_view(message).substr(at, piece));
      EXPECT_EQ(hex_of(hash.finish()), whole) << "length " << length << ", pieces of " << piece;
    }
  }
}

TEST(Sha256, FirstWordIsBigEndian) {
  EXPECT_EQ(sha256_first32("abc"), 0xba7816bfu);
  EXPECT_EQ(sha256_first32(""), 0xe3b0c442u);
}

TEST(Sha256, RefusesUseAfterFinish) {
  Sha256 hash;
  (void)hash.finish();
  EXPECT_THROW(hash.update("x"), LogicError);
  EXPECT_THROW((void)hash.finish(), LogicError);
}

}  // namespace
}  // namespace ng
