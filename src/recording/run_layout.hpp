// SPDX-License-Identifier: Apache-2.0
//
// Where everything lies in a run file: the one place that names its datasets. Writer and reader both go by it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/recording/run_rows.hpp"

namespace ng::run_layout {

inline constexpr const char* kFormatName = "narrowgauge run";
inline constexpr std::int64_t kChunkRows = 16;
inline constexpr std::size_t kStatusCapacity = 16;
inline constexpr std::size_t kLibraryKernelsCapacity = 16384;  // bytes of text
inline constexpr std::size_t kDigestBytes = 32;
inline constexpr const char* kHistogramStep = "code_histogram_step";  ///< first column of an entry's code histograms

/// A stream of numbers: one member of a row, one dataset.
template <class Row>
struct Column {
  const char* name;
  const char* meaning;
  std::int64_t Row::*integer = nullptr;
  double Row::*real = nullptr;
};
inline constexpr Column<TrainRow> kTrain[] = {
    {"step", "index of the step", &TrainRow::step},
    {"loss", "mean cross entropy, nats per token", nullptr, &TrainRow::loss},
    {"aux_loss", "load-balancing loss, coefficient included", nullptr, &TrainRow::aux_loss},
    {"z_loss", "router z-loss, coefficient included", nullptr, &TrainRow::z_loss},
    {"lr", "learning rate", nullptr, &TrainRow::lr},
    {"grad_norm", "norm of the gradients before clipping", nullptr, &TrainRow::grad_norm},
    {"tokens", "tokens of the step", &TrainRow::tokens},
    {"seconds", "duration of the step", nullptr, &TrainRow::seconds},
};
inline constexpr Column<EvalRow> kEval[] = {
    {"step", "steps done", &EvalRow::step},
    {"loss", "held-out loss with the recipe's forward, nats per token", nullptr, &EvalRow::loss},
    {"loss_bf16", "held-out loss of the same weights in BF16", nullptr, &EvalRow::loss_bf16},
    {"tokens", "tokens of the evaluation", &EvalRow::tokens},
};

/// A per-layer number of MoeRow.
struct MoeColumn {
  const char* name;
  const char* meaning;
  std::vector<float> MoeRow::*values;
};
inline constexpr MoeColumn kMoe[] = {
    {"load", "token slots that chose each expert, dropped ones included", &MoeRow::load},
    {"dropped", "share of the token slots that were dropped", &MoeRow::dropped},
    {"router_entropy", "mean over tokens, nats", &MoeRow::router_entropy},
    {"max_violation", "largest load / mean load - 1", &MoeRow::max_violation},
    {"aux_loss", "coefficient included", &MoeRow::aux_loss},
};

/// A text column of /gemm.
struct GemmColumn {
  const char* name;
  std::string GemmRow::*text;
};
inline constexpr GemmColumn kGemm[] = {
    {"site", &GemmRow::site},
    {"a_format", &GemmRow::a_format},
    {"b_format", &GemmRow::b_format},
    {"a_scales", &GemmRow::a_scales},
    {"b_scales", &GemmRow::b_scales},
    {"carrier", &GemmRow::carrier},
    {"arithmetic", &GemmRow::arithmetic},
    {"accumulate", &GemmRow::accumulate},
    {"output", &GemmRow::output},
    {"algorithm", &GemmRow::algorithm},
};

/// A text attribute of `/`.
struct IdentityAttribute {
  const char* name;
  std::string RunIdentity::*text;
};
inline constexpr IdentityAttribute kIdentity[] = {
    {"program_version", &RunIdentity::program_version},
    {"git_revision", &RunIdentity::git_revision},
    {"run_id", &RunIdentity::run_id},
    {"backend", &RunIdentity::backend},
    {"arithmetic", &RunIdentity::arithmetic},
    {"device", &RunIdentity::device},
    {"started", &RunIdentity::started},
};

/// Creates every object in an empty file.
void create(hdf5::Group root, const RunSetup& setup);

/// UserError unless the file is a run file of this version.
void require_run_file(const hdf5::Group& root, const std::string& path);

/// Names of the entries under /record, in the order of the plan.
std::vector<std::string> record_names(const hdf5::Group& root);

// `/committed` [streams]: how many rows of each stream were whole at the last flush. It is overwritten in place after
// the rows, so that what a kill or a full disk left beyond it is known to be torn.

/// The growing datasets of one group; the first is `step`.
struct Stream {
  hdf5::Group group;
  std::vector<hdf5::Dataset> columns;
  std::size_t index = 0;           ///< in `committed`
  bool counts_steps_done = false;  ///< eval and checkpoint; the others carry the index of the step

  /// Rows that every column has.
  std::int64_t rows() const;
  /// Steps of the first n rows.
  std::vector<std::int64_t> steps(std::int64_t n) const;
  /// Cuts all columns to n rows.
  void truncate(std::int64_t n);
};

/// In the order of `committed`, that of the fields; an entry of the plan is number kFirstRecordStream + its own.
enum StreamIndex : std::size_t {
  kTrainStream,
  kEvalStream,
  kMoeStream,
  kMemoryStream,
  kCheckpointStream,
  kFirstRecordStream
};
struct Streams {
  std::vector<Stream> list;
  hdf5::Dataset committed;
  std::vector<std::size_t> histogram_of_entry;  ///< index of the stream of an entry's code histograms; 0: it has none

  Stream& operator[](std::size_t index) { return list[index]; }
};

/// Opens the streams that the file has; /moe and /memory may be without any (no columns).
Streams open_streams(const hdf5::Group& root);

/// Opens one stream ("train", "record/core") for reading: with its complete rows, as of now. `step`: its first column.
struct ReadStream {
  Stream stream;
  std::vector<std::int64_t> steps;
};
ReadStream read_stream(const hdf5::Group& root, const std::string& group, const std::string& step = "step");

}  // namespace ng::run_layout
