// SPDX-License-Identifier: Apache-2.0
//
// Checkpoint files: /tensor/<name>, /text/<name>, and at the root what they are and their digest.
#include "narrowgauge/recording/checkpoint.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

#include "free_space.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/io/hdf5.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormatName = "narrowgauge checkpoint";
constexpr std::int64_t kFormatVersion = 1;
constexpr std::string_view kPrefix = "step-", kSuffix = ".h5";

// SHA-256 over everything that a checkpoint says, each piece after its length, tensors and texts by name.
class ContentDigest {
 public:
  ContentDigest(std::int64_t step, std::string_view run_id) {
    piece(kFormatName);
    piece(fmt::format("{} {}", kFormatVersion, step));
    piece(run_id);
  }
  void tensor(std::string_view name, Dtype dtype, std::span<const std::int64_t> shape,
              std::span<const std::byte> bytes) {
    piece("tensor");
    piece(name);
    piece(name_of(dtype));
    piece(shape_text(shape));
    piece_length(bytes.size());
    if (!bytes.empty()) sha_.update(bytes);
  }
  void text(std::string_view name, std::string_view text) {
    piece("text");
    piece(name);
    piece(text);
  }
  std::string finish() { return hex_of(sha_.finish()); }

 private:
  void piece_length(std::size_t length) { sha_.update(fmt::format("{}:", length)); }
  void piece(std::string_view text) {
    piece_length(text.size());
    sha_.update(text);
  }

  Sha256 sha_;
};

template <class Map>
const typename Map::mapped_type& find_in(const Map& map, const std::string& name, const char* what,
                                         const fs::path& path) {
  const auto found = map.find(name);
  if (found != map.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [key, value] : map) names.push_back(key);
  throw UserError(fmt::format("checkpoint '{}' has no {} '{}'; {}", path.string(), what, name,
                              names.empty() ? "it has none" : suggestion(name, names)));
}

void write_contents(const std::string& path, const CheckpointContents& contents, const std::string& digest) {
  hdf5::File file(path, hdf5::Mode::create);
  hdf5::Group root = file.root();
  root.set_attribute("format", kFormatName);
  root.set_attribute("format_version", kFormatVersion);
  root.set_attribute("step", contents.step);
  root.set_attribute("run_id", contents.run_id);
  root.set_attribute("digest", digest);
  hdf5::Group tensors = root.create_group("tensor");
  for (const CheckpointTensor& tensor : contents.tensors) {
    tensors.create(tensor.name, Array::from_bytes(tensor.dtype, tensor.shape, tensor.bytes));
  }
  hdf5::Group texts = root.create_group("text");
  for (const auto& [name, text] : contents.texts) texts.create_text(name, text);
  file.close();
}

std::string digest_of(const CheckpointContents& contents) {
  std::vector<const CheckpointTensor*> sorted;
  for (const CheckpointTensor& tensor : contents.tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  ContentDigest digest(contents.step, contents.run_id);
  for (const CheckpointTensor* tensor : sorted)
    digest.tensor(tensor->name, tensor->dtype, tensor->shape, tensor->bytes);
  for (const auto& [name, text] : contents.texts) digest.text(name, text);
  return digest.finish();
}

std::string digest_of(const LoadedCheckpoint& loaded) {
  ContentDigest digest(loaded.step, loaded.run_id);
  for (const auto& [name, array] : loaded.tensors) digest.tensor(name, array.dtype, array.shape, array.data);
  for (const auto& [name, text] : loaded.texts) digest.text(name, text);
  return digest.finish();
}

std::optional<std::int64_t> step_of(std::string_view file_name) {
  if (!file_name.starts_with(kPrefix) || !file_name.ends_with(kSuffix)) return std::nullopt;
  if (file_name.size() <= kPrefix.size() + kSuffix.size()) return std::nullopt;
  const std::string_view digits = file_name.substr(kPrefix.size(), file_name.size() - kPrefix.size() - kSuffix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc{} || end != digits.data() + digits.size() || step < 0) return std::nullopt;
  return step;
}

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

}  // namespace

const Array& LoadedCheckpoint::tensor(const std::string& name) const {
  return find_in(tensors, name, "tensor", path);
}
const std::string& LoadedCheckpoint::text(const std::string& name) const {
  return find_in(texts, name, "text", path);
}

LoadedCheckpoint load_checkpoint(const fs::path& path) {
  const hdf5::File file(path.string(), hdf5::Mode::read);
  const hdf5::Group root = file.root();
  if (!root.has_attribute("format") || root.attribute_text("format") != kFormatName) {
    throw UserError(fmt::format("'{}' is not a checkpoint of narrowgauge", path.string()));
  }
  const std::int64_t version = root.attribute_integer("format_version");
  if (version != kFormatVersion) {
    throw UserError(fmt::format("checkpoint '{}' has version {}, this program reads version {}", path.string(), version,
                                kFormatVersion));
  }
  LoadedCheckpoint loaded;
  loaded.path = path;
  loaded.step = root.attribute_integer("step");
  loaded.run_id = root.attribute_text("run_id");
  loaded.digest = root.attribute_text("digest");
  const hdf5::Group tensors = root.group("tensor"), texts = root.group("text");
  for (const std::string& name : tensors.datasets()) loaded.tensors[name] = tensors.read(name);
  for (const std::string& name : texts.datasets()) loaded.texts[name] = texts.read_text(name);
  if (digest_of(loaded) != loaded.digest) {
    throw UserError(fmt::format("checkpoint '{}' is damaged: its content does not have its digest", path.string()));
  }
  return loaded;
}

CheckpointStore::CheckpointStore(fs::path folder, int keep) : folder_(std::move(folder)), keep_(keep) {
  NG_CHECK(keep >= 1, "checkpoints to keep: ", keep);
}

SavedCheckpoint CheckpointStore::save(const CheckpointContents& contents) {
  NG_CHECK(contents.step >= 0, "checkpoint of step ", contents.step);
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw_file_error("create", folder_, error.value());
  SavedCheckpoint saved;
  saved.path = path_of(contents.step);
  saved.step = contents.step;
  saved.digest = digest_of(contents);
  std::int64_t needed = 64 << 10;
  for (const CheckpointTensor& tensor : contents.tensors)
    needed += 4096 + static_cast<std::int64_t>(tensor.bytes.size());
  for (const auto& [name, text] : contents.texts) needed += 4096 + static_cast<std::int64_t>(text.size());
  require_free_space(saved.path, needed);
  fs::path part = saved.path;
  part += ".part";
  try {
    write_contents(part.string(), contents, saved.digest);
    saved.bytes = static_cast<std::int64_t>(fs::file_size(part));
    publish_file(part, saved.path);
  } catch (...) {
    remove_quietly(part);
    throw;
  }
  const std::vector<std::int64_t> present = steps();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < present.size(); ++i) {
    if (present[i] != contents.step) remove_quietly(path_of(present[i]));
  }
  return saved;
}

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    if (const auto step = step_of(entry->path().filename().string())) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

fs::path CheckpointStore::path_of(std::int64_t step) const {
  return folder_ / fmt::format("{}{:08d}{}", kPrefix, step, kSuffix);
}

std::optional<LoadedCheckpoint> CheckpointStore::load_latest(OnDamage on_damage) const {
  std::vector<std::int64_t> present = steps();
  if (present.empty()) return std::nullopt;
  std::string first_failure;
  while (!present.empty()) {
    const std::int64_t step = present.back();
    present.pop_back();
    try {
      return load_checkpoint(path_of(step));
    } catch (const UserError& failure) {
      if (on_damage == OnDamage::fail) {
        throw UserError(present.empty() ? failure.what()
                                        : fmt::format("{}; the one before it is '{}'", failure.what(),
                                                      path_of(present.back()).string()));
      }
      if (first_failure.empty()) first_failure = failure.what();
    }
  }
  throw UserError(fmt::format("no checkpoint in '{}' is whole: {}", folder_.string(), first_failure));
}

void CheckpointStore::remove_after(std::int64_t step) {
  for (const std::int64_t present : steps()) {
    if (present > step) remove_quietly(path_of(present));
  }
}

fs::path checkpoint_folder_of(const fs::path& run_file) {
  return fs::path(run_file).replace_extension(".ckpt");
}

}  // namespace ng
