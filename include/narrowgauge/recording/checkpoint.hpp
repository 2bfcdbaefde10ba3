// SPDX-License-Identifier: Apache-2.0
//
// The state of a run on disk, one HDF5 file per checkpoint in a folder beside the run file. A checkpoint has its name
// only when it is whole and synced; its digest covers every tensor and text, so damage is found before anything is
// used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "narrowgauge/io/array.hpp"

namespace ng {

/// A tensor to be saved: contiguous host memory of the caller.
struct CheckpointTensor {
  std::string name;  ///< "master/layer.0/fc1"; no name may be the folder of another
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

struct CheckpointContents {
  std::int64_t step = 0;  ///< steps done
  std::string run_id;
  std::vector<CheckpointTensor> tensors;
  std::map<std::string, std::string> texts;  ///< scalars and settings, for example as JSON
};

struct LoadedCheckpoint {
  std::filesystem::path path;
  std::int64_t step = 0;
  std::string run_id;
  std::string digest;
  std::map<std::string, Array> tensors;
  std::map<std::string, std::string> texts;

  /// UserError naming the file when it has no such tensor or text.
  [[nodiscard]] const Array& tensor(const std::string& name) const;
  [[nodiscard]] const std::string& text(const std::string& name) const;
};

struct SavedCheckpoint {
  std::filesystem::path path;
  std::int64_t step = 0;
  std::int64_t bytes = 0;  ///< size of the file
  std::string digest;      ///< SHA-256 of the content, hexadecimal
};

/// Reads and verifies one checkpoint. UserError: missing, not a checkpoint, of another version, truncated, damaged.
[[nodiscard]] LoadedCheckpoint load_checkpoint(const std::filesystem::path& path);

/// What `load_latest` does when the newest checkpoint is damaged.
enum class OnDamage { fail, use_previous };

/// The checkpoints of one run: `<folder>/step-00000120.h5`.
class CheckpointStore {
 public:
  /// `keep`: how many of the newest stay on disk, at least 1. The folder is made by the first `save`.
  explicit CheckpointStore(std::filesystem::path folder, int keep = 2);

  /// Writes and syncs under a temporary name, renames, then removes the oldest beyond `keep`. On failure (MachineError:
  /// full disk) nothing of it stays, and older checkpoints are untouched.
  SavedCheckpoint save(const CheckpointContents& contents);

  /// Steps of the whole files there, ascending; temporary ones are not seen.
  [[nodiscard]] std::vector<std::int64_t> steps() const;
  [[nodiscard]] std::filesystem::path path_of(std::int64_t step) const;

  /// The newest, or with `use_previous` the newest that is whole. nullopt when the folder has none. UserError when it
  /// is damaged (naming the previous one), or all are.
  [[nodiscard]] std::optional<LoadedCheckpoint> load_latest(OnDamage on_damage = OnDamage::fail) const;

  /// Removes the checkpoints beyond `step`: the run goes on from there.
  void remove_after(std::int64_t step);

 private:
  std::filesystem::path folder_;
  int keep_;
};

/// "runs/a.ckpt" for "runs/a.h5".
[[nodiscard]] std::filesystem::path checkpoint_folder_of(const std::filesystem::path& run_file);

}  // namespace ng
