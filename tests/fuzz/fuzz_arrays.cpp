// SPDX-License-Identifier: Apache-2.0
//
// Files of arrays: npy, safetensors, token shards.
#include <algorithm>
#include <vector>

#include "fuzz_support.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "narrowgauge/io/token_stream.hpp"

namespace ng::fuzz {
namespace {

void check_array(const Array& array) {
  const std::int64_t bytes = checked_bytes(array.shape, size_of(array.dtype));
  promise(bytes >= 0 && static_cast<std::uint64_t>(bytes) == array.data.size(), "an array holds what its shape says");
  promise(array.rows() * array.cols() == array.count(), "rows and columns are all elements");
  accepted([&] { promise(static_cast<std::int64_t>(array.as_f32().size()) == array.count(), "every element widens"); });
}

void check_tokens(const std::string& path) {
  accepted([&] {
    const TokenSource source = TokenSource::open(path);
    std::int64_t held = 0, at = 0;
    for (const auto& ranges : {source.train(), source.heldout()}) {
      at = 0;
      for (const TokenRange& range : ranges) {
        promise(at <= range.begin && range.begin < range.end && range.end <= source.tokens(), "ranges ascend");
        at = range.end;
        held += range.size();
      }
    }
    promise(held <= source.tokens(), "no token is in two ranges");
    std::vector<std::int32_t> ids(static_cast<std::size_t>(source.tokens()));
    source.read(0, ids);
    for (const std::int32_t id : ids) promise(id >= 0 && id < source.vocabulary(), "ids lie in the vocabulary");
    accepted([&] {
      const BatchOrder order(7, source.train(), 3);
      for (std::int64_t s = 0; s < 8; ++s) {
        const std::int64_t start = order.sequence_start(s);
        promise(start >= 0 && start + 4 <= source.tokens(), "windows lie in the tokens");
      }
    });
  });
}

}  // namespace

void npy(Bytes input) {
  const std::string path = file_with("x.npy", input);
  accepted([&] {
    const Array array = read_npy(path);
    check_array(array);
    if (array.data.size() > 4096) return;
    for (const NpyOrder order : {NpyOrder::c, NpyOrder::fortran}) {
      const std::string copy = file_with("copy.npy", {});
      write_npy(copy, array, order);
      const Array again = read_npy(copy);
      promise(again.shape == array.shape && again.dtype == array.dtype && again.data == array.data,
              "what was written reads back");
    }
  });
}

void safetensors(Bytes input) {
  const std::string path = file_with("x.safetensors", input);
  accepted([&] {
    for (const SafetensorsEntry& entry : list_safetensors(path).entries)
      accepted([&] { check_array(read_safetensors(path, entry.name)); });
  });
}

// Input beginning with 'M': two bytes of length, so many bytes of Megatron's index, the tokens. With 'T': two bytes of
// length, so many bytes of a manifest that names tokens.bin, the tokens. All else: a shard.
void tokens(Bytes input) {
  const bool megatron = !input.empty() && input[0] == 'M', manifest = !input.empty() && input[0] == 'T';
  if ((megatron || manifest) && input.size() >= 3) {
    const std::size_t wanted = static_cast<std::size_t>(input[1]) + 256u * input[2];
    const std::size_t head = std::min(wanted, input.size() - 3);
    const Bytes first = input.subspan(3, head), rest = input.subspan(3 + head);
    const std::string bin = file_with("tokens.bin", rest);
    if (megatron) {
      (void)file_with("tokens.idx", first);
      check_tokens(bin);
      remove_file("tokens.idx");
    } else {
      check_tokens(file_with("corpus.toml", first));
    }
  }
  check_tokens(file_with("shard.bin", input));
  check_tokens(file_with("shard.npy", input));
}

}  // namespace ng::fuzz
