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

std::uint32_t token_at(const std::byte* first, std::size_t width, std::int64_t index) {
  const std::byte* at = first + static_cast<std::size_t>(index) * width;
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

  Sha256 sha;  // of all files

  // Adds a file to the end of the sequence and gives the SHA-256 of it alone.
  std::string map(const std::string& path) {
    TokenSource::Shard shard;
    shard.mapping = std::make_shared<TokenSource::Mapping>(path);
    const auto bytes = shard.mapping->file.bytes();
    const io::TokenLayout layout = io::layout_of(format, path, bytes);
    if (!source.shards_.empty() && layout.width != source.width_) {
      throw UserError(path + ": its tokens are " + std::to_string(layout.width) + " bytes wide, those of " +
                      "the shard before it " + std::to_string(source.width_));
    }
    source.width_ = layout.width;
    shard.first = bytes.data() + layout.offset;
    shard.begin = source.tokens_;
    shard.end = source.tokens_ += layout.count;
    Sha256 alone;
    const auto digest = [&](std::span<const std::byte> part) {
      alone.update(part);
      sha.update(part);
    };
    digest(bytes);
    if (format == io::TokenFormat::megatron) digest(io::MappedFile(io::index_path(path)).bytes());
    if (layout.count > 0) source.shards_.push_back(std::move(shard));
    return hex_of(alone.finish());
  }

  void end_of_files() {
    source.digest_ = hex_of(sha.finish());
    if (source.tokens_ < 2) throw UserError(source.path_ + ": holds " + std::to_string(source.tokens_) + " tokens");
  }

  // Position and value of the largest id.
  std::pair<std::int64_t, std::uint32_t> largest() const {
    std::pair<std::int64_t, std::uint32_t> found{0, 0};
    for (const TokenSource::Shard& shard : source.shards_) {
      for (std::int64_t i = shard.begin; i < shard.end; ++i) {
        const std::uint32_t id = token_at(shard.first, source.width_, i - shard.begin);
        if (id > found.second) found = {i, id};
      }
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
    source.path_ = path;
    map(path);
    end_of_files();
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

  // A file as the manifest describes it: `table` has file and sha256.
  void map_described(const TomlTable& table, const std::string& manifest) {
    const std::string path = (std::filesystem::path(manifest).parent_path() / table.get_string("file")).string();
    const std::string stated = table.get_string("sha256");
    if (source.path_.empty()) source.path_ = path;
    const std::string digest = map(path);
    if (digest != stated) {
      throw UserError(path + " is not the corpus that " + manifest + " describes: its SHA-256 is " + digest +
                      ", the manifest says " + stated);
    }
  }

  void open_manifest(const std::string& manifest) {
    const TomlDocument document = TomlDocument::from_file(manifest);
    const TomlTable root = document.root();
    source.name_ = root.get_string("name");
    format = static_cast<io::TokenFormat>(root.get_choice("format", io::kTokenFormatNames));
    source.vocabulary_ = root.get_int("vocabulary", 1, kMaxVocabulary);
    const std::int64_t tokens = root.get_int("tokens", 2);
    for (const char* note : {"tokenizer", "text_bytes", "origin"}) root.accept(note);
    const std::vector<TomlTable> parts = root.get_table_array("part");
    for (const TomlTable& part : parts) part.accept("name");
    if (root.has("shard")) {
      source.path_ = manifest;
      for (const TomlTable& shard : root.get_table_array("shard")) map_described(shard, manifest);
    } else {
      map_described(root, manifest);
    }
    end_of_files();
    if (source.tokens_ != tokens) {
      root.fail("tokens", (root.has("shard") ? "the shards hold " : "the file holds ") +
                              std::to_string(source.tokens_) + " tokens");
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
  TokenSourceBuilder builder;
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
  auto shard = std::upper_bound(shards_.begin(), shards_.end(), position,
                                [](std::int64_t at, const Shard& other) { return at < other.end; });
  for (std::int64_t i = 0; i < count; ++i) {
    if (position + i == shard->end) ++shard;
    ids[static_cast<std::size_t>(i)] =
        static_cast<std::int32_t>(token_at(shard->first, width_, position + i - shard->begin));
  }
}

void TokenSource::read_window(std::int64_t position, std::span<std::int32_t> inputs,
                              std::span<std::int32_t> targets) const {
  if (inputs.size() != targets.size()) throw LogicError("inputs and targets of a window differ in length");
  read(position, inputs);
  read(position + 1, targets);
}

}  // namespace ng
