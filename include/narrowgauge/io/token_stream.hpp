// SPDX-License-Identifier: Apache-2.0
//
// Token data for training: one long sequence of ids (memory-mapped files), cut into training and held-out ranges. What
// is read and how it is cut is fixed by the data spec and its digest, never by the run.
//
// A data spec is one of
//   corpus.toml   a manifest: one file or shards that follow each other, format, vocabulary, digests, parts with their
//                 held-out tails
//   x.npy         one dimension, uint16 or uint32
//   x.bin         an llm.c shard (magic 20240520), or Megatron's x.bin with x.idx beside it
//   anything else plain text, one token per byte, vocabulary 256
// Without a manifest the last tenth (rounded down) is held out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ng {

// Positions [begin, end) in the token sequence of a source.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

class TokenSource {
 public:
  // Opens, checks the structure and every id, and the digest where a manifest states one: a changed corpus is
  // a UserError that names both digests. Time: one pass over the file.
  static TokenSource open(const std::string& spec);

  // Number of ids: what the manifest says, 256 for text, else the largest id of the file + 1.
  std::int64_t vocabulary() const { return vocabulary_; }
  std::int64_t tokens() const { return tokens_; }

  // Contiguous, ascending, disjoint.
  std::span<const TokenRange> train() const { return train_; }
  std::span<const TokenRange> heldout() const { return heldout_; }

  // SHA-256 of the bytes of the token files in order, 64 hex digits (Megatron: each .bin followed by its .idx).
  const std::string& digest() const { return digest_; }
  // SHA-256 of digest, token width and both lists of ranges: equal exactly when the same tokens are trained on and held
  // out.
  const std::string& split_digest() const { return split_digest_; }
  const std::string& name() const { return name_; }  // manifest's name or the file's
  const std::string& path() const { return path_; }  // the token file; of shards the manifest

  // ids[i] = token at position + i. Throws std::out_of_range outside the sequence.
  void read(std::int64_t position, std::span<std::int32_t> ids) const;

  // One training window: inputs[i] = token p+i, targets[i] = token p+i+1. Both spans of the same length.
  void read_window(std::int64_t position, std::span<std::int32_t> inputs, std::span<std::int32_t> targets) const;

 private:
  TokenSource() = default;
  struct Mapping;
  struct Shard {
    std::shared_ptr<const Mapping> mapping;
    const std::byte* first = nullptr;  // its token 0
    std::int64_t begin = 0;            // position of that token in the sequence
    std::int64_t end = 0;
  };
  std::vector<Shard> shards_;  // in order, none empty
  std::size_t width_ = 1;      // bytes of a token: 1, 2 or 4
  std::int64_t tokens_ = 0;
  std::int64_t vocabulary_ = 0;
  std::vector<TokenRange> train_;
  std::vector<TokenRange> heldout_;
  std::string digest_, split_digest_, name_, path_;

  friend struct TokenSourceBuilder;
};

// Which window a batch entry trains on: a pure function of (seed, step, index). Each range is cut from its begin
// into windows of `sequence_length` inputs plus one more target; a rest shorter than that is not used, and no
// window crosses a range. Each epoch visits every window once, in an order of its own.
class BatchOrder {
 public:
  // UserError when no range holds sequence_length + 1 tokens.
  BatchOrder(std::uint32_t seed, std::span<const TokenRange> ranges, std::int64_t sequence_length);

  std::int64_t windows() const { return windows_; }
  std::int64_t sequence_length() const { return sequence_length_; }

  // Position of the first input of entry `index_in_batch` of the global batch of `batch` sequences.
  std::int64_t sequence_start(std::int64_t step, std::int64_t index_in_batch, std::int64_t batch) const;

  // The same by running number of the sequence: step * batch + index_in_batch.
  std::int64_t sequence_start(std::int64_t sequence) const;

  // Position of window w in file order, 0 <= w < windows().
  std::int64_t window_start(std::int64_t window) const;

 private:
  std::int64_t permuted(std::uint64_t epoch, std::uint64_t slot) const;

  std::uint32_t seed_;
  std::int64_t sequence_length_;
  std::int64_t windows_ = 0;
  int half_bits_ = 1;
  std::vector<std::int64_t> first_window_;  // per range, ascending
  std::vector<std::int64_t> begin_;
};

// Evaluation windows: the windows of BatchOrder in file order, at most `limit` of them (0: all), the same for
// every seed. With a limit they are spread evenly over all windows.
std::vector<std::int64_t> evaluation_windows(std::span<const TokenRange> ranges, std::int64_t sequence_length,
                                             std::int64_t limit = 0);

}  // namespace ng
