// SPDX-License-Identifier: Apache-2.0
//
// What a run file holds, as plain data: the facts that stand from the start (RunSetup) and one struct per growing
// stream.
//
// Numbering: rows of train, moe, record and memory carry the index of their step, from 0; rows of eval and checkpoint
// carry the number of steps done. Both say "with the weights after that many updates". Within a stream numbers rise.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng {

/// Version of the layout; a reader refuses any other.
inline constexpr std::int64_t kRunFileVersion = 1;

enum class RunStatus : std::uint8_t { running, done, diverged, interrupted };
[[nodiscard]] std::string_view name_of(RunStatus status);

/// Attributes of `/`.
struct RunIdentity {
  std::string program_version;
  std::string git_revision;
  std::string run_id;
  std::string backend;
  std::string arithmetic;
  std::string device;
  std::string started;  ///< ISO 8601
};

/// A file that the user gave, as text.
struct GivenFile {
  std::string role;  ///< "model", "recipe", "record", ...: the name of its dataset
  std::string path;
  std::string text;
};

/// One product as it is really executed.
struct GemmRow {
  std::string site;  ///< "layer.3/fc1/fprop"
  std::string a_format, b_format;
  std::string a_scales, b_scales;
  std::string carrier, arithmetic, accumulate, output, algorithm;
  double flops_share = 0;  ///< of the run's products; all rows add up to 1
};

/// One cast of a whole tensor in the dataflow of a layer.
struct CastRow {
  std::int64_t layer = 0;
  std::string cast;
};

/// Axes of an entry of the recording plan.
struct RecordLayout {
  std::string name;
  std::vector<std::string> sites;
  std::vector<std::string> measures;
  std::vector<std::string> definitions;  ///< of the measures, in words
  std::int64_t codes = 0;                ///< extent of code histograms; 0: none
};

/// Everything that exists before the first step.
struct RunSetup {
  RunIdentity identity;
  std::string resolved;                        ///< canonical JSON of the whole configuration
  std::string recipe;                          ///< canonical JSON of the resolved recipe
  std::map<std::string, std::string> digests;  ///< "run", "recipe", "data", "source", ...
  std::vector<GivenFile> files;
  std::vector<FormatId> formats;         ///< whose decode tables the file carries (formats of up to 12 bits)
  std::vector<std::int64_t> moe_layers;  ///< indices of the layers with experts; empty: no /moe streams
  std::int64_t experts = 0;
  std::vector<RecordLayout> record;
  std::vector<GemmRow> gemms;
  std::string gemm_note;  ///< attribute "note" of /gemm: which steps it is about; empty: all
  std::vector<CastRow> casts;
  std::vector<std::string> memory_kinds;  ///< empty: no /memory streams
  std::string checkpoint_folder;          ///< relative to the run file's folder
};

struct TrainRow {
  std::int64_t step = 0;
  double loss = 0;      ///< mean cross entropy, nats per token
  double aux_loss = 0;  ///< coefficient included
  double z_loss = 0;
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  std::int64_t tokens = 0;
  double seconds = 0;  ///< of this step

  bool operator==(const TrainRow&) const = default;
};

struct EvalRow {
  std::int64_t step = 0;  ///< steps done
  double loss = 0;        ///< with the recipe's forward
  double loss_bf16 = 0;   ///< the same weights in BF16
  std::int64_t tokens = 0;

  bool operator==(const EvalRow&) const = default;
};

struct MoeRow {
  std::int64_t step = 0;
  std::vector<float> load;            ///< [layers, experts]: token slots that chose each expert, dropped ones included
  std::vector<float> dropped;         ///< [layers]: share of the token slots that were dropped
  std::vector<float> router_entropy;  ///< [layers]: mean over tokens, nats
  std::vector<float> max_violation;   ///< [layers]: largest load / mean load - 1
  std::vector<float> aux_loss;        ///< [layers]

  bool operator==(const MoeRow&) const = default;
};

struct RecordRow {
  std::size_t entry = 0;  ///< index into RunSetup::record
  std::int64_t step = 0;
  std::vector<float> values;         ///< [sites, measures], NaN where not measured; empty: not due
  std::vector<std::uint32_t> codes;  ///< [sites, codes]: how often each code occurred; empty: not due
};

struct MemoryRow {
  std::int64_t step = 0;
  std::vector<std::int64_t> bytes;  ///< per kind
  std::int64_t peak = 0;

  bool operator==(const MemoryRow&) const = default;
};

struct CheckpointRow {
  std::int64_t step = 0;  ///< steps done
  std::int64_t bytes = 0;
  std::string digest;  ///< SHA-256, 64 hexadecimal digits

  bool operator==(const CheckpointRow&) const = default;
};

}  // namespace ng
