// SPDX-License-Identifier: Apache-2.0
//
// The first bytes of an HDF5 file, read and repaired without the library ("HDF5 File Format Specification 3.0",
// section II.A). A killed writer leaves a mark in the superblock that keeps the library from opening the file, and
// a recorded length that need not be the real one; `h5clear -s` clears the first, `h5clear --increment` the second.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "hdf5_internal.hpp"
#include "io_common.hpp"
#include "narrowgauge/base/atomic_file.hpp"

namespace ng::hdf5 {

namespace {

constexpr std::array<unsigned char, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
constexpr std::uint8_t kWriterMark = 1, kSwmrMark = 4;

// Versions 2 and 3 with 8-byte offsets, as every writer of the last ten years makes them.
struct Layout {
  std::uint8_t signature[8];
  std::uint8_t version;
  std::uint8_t offset_bytes;
  std::uint8_t length_bytes;
  std::uint8_t flags;
  std::uint8_t base[8];
  std::uint8_t extension[8];
  std::uint8_t end_of_file[8];
  std::uint8_t root[8];
  std::uint8_t checksum[4];
};
static_assert(sizeof(Layout) == 48);

// Bob Jenkins' lookup3, hashlittle with initial value 0: the checksum of the format's metadata.
std::uint32_t lookup3(const std::uint8_t* key, std::size_t length) {
  std::uint32_t a = 0xdeadbeefu + static_cast<std::uint32_t>(length), b = a, c = a;
  const auto add_block = [&](std::size_t bytes) {
    std::uint8_t block[12] = {};
    std::copy_n(key, bytes, block);
    std::uint32_t word[3];
    std::memcpy(word, block, sizeof block);
    a += word[0];
    b += word[1];
    c += word[2];
  };
  while (length > 12) {
    add_block(12);
    a -= c, a ^= std::rotl(c, 4), c += b;
    b -= a, b ^= std::rotl(a, 6), a += c;
    c -= b, c ^= std::rotl(b, 8), b += a;
    a -= c, a ^= std::rotl(c, 16), c += b;
    b -= a, b ^= std::rotl(a, 19), a += c;
    c -= b, c ^= std::rotl(b, 4), b += a;
    key += 12;
    length -= 12;
  }
  if (length == 0) return c;
  add_block(length);
  c ^= b, c -= std::rotl(b, 14);
  a ^= c, a -= std::rotl(c, 11);
  b ^= a, b -= std::rotl(a, 25);
  c ^= b, c -= std::rotl(b, 16);
  a ^= c, a -= std::rotl(c, 4);
  b ^= a, b -= std::rotl(a, 14);
  c ^= b, c -= std::rotl(b, 24);
  return c;
}

std::uint32_t checksum_of(const Layout& block) {
  return lookup3(block.signature, sizeof(Layout) - sizeof(block.checksum));
}

struct Descriptor {
  int fd;
  ~Descriptor() { ::close(fd); }
};

bool readable_layout(const Layout& block) {
  return (block.version == 2 || block.version == 3) && block.offset_bytes == 8 && block.length_bytes == 8 &&
         io::load<std::uint32_t>(reinterpret_cast<const std::byte*>(block.checksum)) == checksum_of(block);
}

}  // namespace

Superblock inspect_superblock(const std::string& path) {
  const std::uint64_t size = io::file_size(path);
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  Superblock result;
  for (std::uint64_t at = 0; at < size; at = at == 0 ? 512 : 2 * at) {  // a user block may stand before it
    Layout block{};
    const ssize_t n = ::pread(file.fd, &block, sizeof block, static_cast<off_t>(at));
    const std::size_t got = n > 0 ? static_cast<std::size_t>(n) : 0;
    if (!std::equal(kSignature.begin(),
                    kSignature.begin() + std::min<std::ptrdiff_t>(8, static_cast<std::ptrdiff_t>(got)),
                    block.signature)) {
      continue;
    }
    if (got < sizeof block) {
      if (at == 0) result.state = Superblock::State::truncated;
      return result;
    }
    result.state = Superblock::State::whole;
    if (!readable_layout(block)) return result;  // an older superblock (no marks), or damage: the library judges
    if (block.version == 3) {
      result.writer_mark = (block.flags & kWriterMark) != 0;
      result.swmr_mark = (block.flags & kSwmrMark) != 0;
    }
    const auto recorded = io::load<std::uint64_t>(reinterpret_cast<const std::byte*>(block.end_of_file));
    if (recorded > size && !result.writer_mark) result.state = Superblock::State::truncated;
    return result;
  }
  return result;
}

void repair_superblock(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (file.fd < 0) throw_file_error("write", path, errno);
  const auto fail = [&] { throw MachineError(path + ": cannot be repaired: " + std::strerror(errno)); };
  Layout block{};
  struct stat status {};
  if (::pread(file.fd, &block, sizeof block, 0) != sizeof block || ::fstat(file.fd, &status) != 0) fail();
  if (!std::equal(kSignature.begin(), kSignature.end(), block.signature) || !readable_layout(block)) {
    throw UserError(path + ": its superblock is damaged; it cannot be repaired");
  }
  const auto recorded = io::load<std::uint64_t>(reinterpret_cast<const std::byte*>(block.end_of_file));
  const std::uint64_t real = static_cast<std::uint64_t>(status.st_size), length = std::max(recorded, real);
  if (real < length && ::ftruncate(file.fd, static_cast<off_t>(length)) != 0) fail();
  block.flags = 0;
  std::memcpy(block.end_of_file, &length, sizeof length);
  const std::uint32_t checksum = checksum_of(block);
  std::memcpy(block.checksum, &checksum, sizeof checksum);
  if (::pwrite(file.fd, &block, sizeof block, 0) != sizeof block || ::fsync(file.fd) != 0) fail();
}

}  // namespace ng::hdf5
