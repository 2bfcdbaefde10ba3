// SPDX-License-Identifier: Apache-2.0
//
// The order of training windows. Each epoch is a permutation made by a keyed Feistel network over the smallest
// even number of bits that holds the window numbers; numbers outside are walked on until they fall inside
// (cycle walking), so it is a bijection on exactly the windows, and needs no table.
#include <algorithm>
#include <bit>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/token_stream.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"

namespace ng {

namespace {

constexpr std::uint32_t kRounds = 8;

std::int64_t windows_in(const TokenRange& range, std::int64_t length) {
  return range.size() > length ? (range.size() - 1) / length : 0;
}

}  // namespace

BatchOrder::BatchOrder(std::uint32_t seed, std::span<const TokenRange> ranges, std::int64_t sequence_length)
    : seed_(seed), sequence_length_(sequence_length) {
  if (sequence_length < 1)
    throw UserError("the sequence length is " + std::to_string(sequence_length) + "; at least 1 is needed");
  std::int64_t longest = 0;
  for (const TokenRange& range : ranges) {
    longest = std::max(longest, range.size());
    const std::int64_t count = windows_in(range, sequence_length);
    if (count == 0) continue;
    first_window_.push_back(windows_);
    begin_.push_back(range.begin);
    windows_ += count;
  }
  if (windows_ == 0) {
    throw UserError("no part of the data holds a sequence of " + std::to_string(sequence_length) +
                    " tokens and its next one; the longest has " + std::to_string(longest) + " tokens");
  }
  const int bits = std::bit_width(static_cast<std::uint64_t>(windows_ - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

std::int64_t BatchOrder::window_start(std::int64_t window) const {
  const auto after = std::upper_bound(first_window_.begin(), first_window_.end(), window);
  const std::size_t range = static_cast<std::size_t>(after - first_window_.begin()) - 1;
  return begin_[range] + (window - first_window_[range]) * sequence_length_;
}

std::int64_t BatchOrder::permuted(std::uint64_t epoch, std::uint64_t slot) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t value = slot;
  do {
    std::uint64_t left = value >> half_bits_, right = value & mask;
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      const PhiloxBlock block =
          philox4x32_10(PhiloxBlock{{static_cast<std::uint32_t>(right), round, static_cast<std::uint32_t>(epoch),
                                     static_cast<std::uint32_t>(epoch >> 32)}},
                        seed_, static_cast<std::uint32_t>(RandomPurpose::data_order));
      const std::uint64_t next = left ^ (block.word[0] & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= static_cast<std::uint64_t>(windows_));
  return static_cast<std::int64_t>(value);
}

std::int64_t BatchOrder::sequence_start(std::int64_t sequence) const {
  const auto number = static_cast<std::uint64_t>(sequence), count = static_cast<std::uint64_t>(windows_);
  return window_start(permuted(number / count, number % count));
}

std::int64_t BatchOrder::sequence_start(std::int64_t step, std::int64_t index_in_batch, std::int64_t batch) const {
  return sequence_start(step * batch + index_in_batch);
}

std::vector<std::int64_t> evaluation_windows(std::span<const TokenRange> ranges, std::int64_t sequence_length,
                                             std::int64_t limit) {
  const BatchOrder order(0, ranges, sequence_length);  // only for its window_start: the seed is not used
  const std::int64_t all = order.windows(), count = limit > 0 ? std::min(limit, all) : all;
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < count; ++i) starts.push_back(order.window_start(i * all / count));
  return starts;
}

}  // namespace ng
