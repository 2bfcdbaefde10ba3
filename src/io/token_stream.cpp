// SPDX-License-Identifier: Apache-2.0
//
// TokenSource: from a data spec to checked ids, their digest and the split into training and held-out ranges.
#include "narrowgauge/io/token_stream.hpp"

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "io_common.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "token_formats.hpp"

namespace ng {

struct TokenSource::Mapping {
  explicit Mapping(const std::string& path) : file(path) {}
  io::MappedFile file;
};

namespace {

constexpr std::int64_t kByteVocabulary = 256;
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 31;

std::uint32_t token_at(const std::byte* first, std::size_t width, std::int64_t position) {
  const std::byte* at = first + static_cast<std::size_t>(position) * width;
  switch (width) {
    case 1:
      return io::load<std::uint8_t>(at);
    case 2:
      return io::load<std::uint16_t>(at);
    default:
      return io::load<std::uint32_t>(at);
  }
}

}  // namespace

// Builds a source in the order that gives the most helpful message: structure, digest, ids, split.
struct TokenSourceBuilder {
  TokenSource source;
  io::TokenFormat format = io::TokenFormat::bytes;

  void map(const std::string& path) {
    source.path_ = path;
    source.mapping_ = std::make_shared<TokenSource::Mapping>(path);
    const auto bytes = source.mapping_->file.bytes();
    const io::TokenLayout layout = io::layout_of(format, path, bytes);
    source.first_ = bytes.data() + layout.offset;
    source.width_ = layout.width;
    source.tokens_ = layout.count;
    Sha256 sha;
    sha.update(bytes);
    if (format == io::TokenFormat::megatron) sha.update(io::MappedFile(io::index_path(path)).bytes());
    source.digest_ = hex_of(sha.finish());
    if (source.tokens_ < 2) throw UserError(path + ": holds " + std::to_string(source.tokens_) + " tokens");
  }

  // Position and value of the largest id.
  std::pair<std::int64_t, std::uint32_t> largest() const {
    std::pair<std::int64_t, std::uint32_t> found{0, 0};
    for (std::int64_t i = 0; i < source.tokens_; ++i) {
      const std::uint32_t id = token_at(source.first_, source.width_, i);
      if (id > found.second) found = {i, id};
    }
    return found;
  }

  void add_part(std::int64_t begin, std::int64_t heldout, std::int64_t end) {
    if (heldout > begin) source.train_.push_back({begin, heldout});
    if (end > heldout) source.heldout_.push_back({heldout, end});
  }

  void open_plain(const std::string& path) {
    format = io::guess_token_format(path);
    source.name_ = std::filesystem::path(path).filename().string();
    map(path);
    if (format == io::TokenFormat::bytes) {
      source.vocabulary_ = kByteVocabulary;
    } else {
      const auto [position, id] = largest();
      if (id >= kMaxVocabulary) {
        throw UserError(path + ": token " + std::to_string(position) + " is " + std::to_string(id) + ", not an id");
      }
      source.vocabulary_ = std::int64_t{id} + 1;
    }
    add_part(0, source.tokens_ - source.tokens_ / 10, source.tokens_);
  }

  void open_manifest(const std::string& manifest) {
    const TomlDocument document = TomlDocument::from_file(manifest);
    const TomlTable root = document.root();
    source.name_ = root.get_string("name");
    const std::string file = root.get_string("file");
    format = static_cast<io::TokenFormat>(root.get_choice("format", io::kTokenFormatNames));
    source.vocabulary_ = root.get_int("vocabulary", 1, kMaxVocabulary);
    const std::int64_t tokens = root.get_int("tokens", 2);
    const std::string digest = root.get_string("sha256");
    const std::vector<TomlTable> parts = root.get_table_array("part");
    for (const TomlTable& part : parts) part.accept("name");

    map((std::filesystem::path(manifest).parent_path() / file).string());
    if (source.digest_ != digest) {
      throw UserError(source.path_ + " is not the corpus that " + manifest + " describes: its SHA-256 is " +
                      source.digest_ + ", the manifest says " + digest);
    }
    if (source.tokens_ != tokens) {
      root.fail("tokens", "the file holds " + std::to_string(source.tokens_) + " tokens");
    }
    const auto [position, id] = largest();
    if (id >= source.vocabulary_) {
      root.fail("vocabulary",
                "token " + std::to_string(position) + " of " + source.path_ + " is " + std::to_string(id));
    }
    std::int64_t at = 0;
    for (const TomlTable& part : parts) {
      const std::int64_t begin = part.get_int("begin", 0, tokens);
      if (begin < at) part.fail("begin", "the part before it ends at " + std::to_string(at));
      const std::int64_t end = part.get_int("end", begin + 1, tokens);
      add_part(begin, part.get_int("heldout", begin, end), end);
      at = end;
    }
    document.finish();
  }

  TokenSource finish() {
    std::string text = source.digest_ + "\nwidth " + std::to_string(source.width_) + "\n";
    for (const auto* ranges : {&source.train_, &source.heldout_}) {
      text += ranges == &source.train_ ? "train\n" : "heldout\n";
      for (const TokenRange& range : *ranges) {
        text += std::to_string(range.begin) + " " + std::to_string(range.end) + "\n";
      }
    }
    source.split_digest_ = sha256_hex(text);
    return std::move(source);
  }
};

TokenSource TokenSource::open(const std::string& spec) {
  TokenSourceBuilder builder{TokenSource()};
  if (spec.ends_with(".toml")) {
    builder.open_manifest(spec);
  } else {
    builder.open_plain(spec);
  }
  return builder.finish();
}

void TokenSource::read(std::int64_t position, std::span<std::int32_t> ids) const {
  const auto count = static_cast<std::int64_t>(ids.size());
  if (position < 0 || position > tokens_ || count > tokens_ - position) {
    throw std::out_of_range(path_ + ": tokens " + std::to_string(position) + " to " + std::to_string(position + count) +
                            " of " + std::to_string(tokens_));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    ids[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(token_at(first_, width_, position + i));
  }
}

void TokenSource::read_window(std::int64_t position, std::span<std::int32_t> inputs,
                              std::span<std::int32_t> targets) const {
  if (inputs.size() != targets.size()) throw LogicError("inputs and targets of a window differ in length");
  read(position, inputs);
  read(position + 1, targets);
}

}  // namespace ng
