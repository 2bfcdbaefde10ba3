// SPDX-License-Identifier: Apache-2.0
//
// RunReader: streams as vectors of rows, texts, and what is wrong with a file that is none.
#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "run_layout.hpp"

namespace ng {
namespace {

template <class T>
std::vector<T> vector_of(const Array& array) {
  const auto values = array.as<T>();
  return {values.begin(), values.end()};
}

// Rows [0, n) of a column.
template <class T>
std::vector<T> read_column(const hdf5::Dataset& column, std::size_t n) {
  return vector_of<T>(column.read_rows(0, static_cast<std::int64_t>(n)));
}

template <class Row, std::size_t N>
std::vector<Row> read_numbers(const run_layout::ReadStream& read, const run_layout::Column<Row> (&columns)[N]) {
  const run_layout::Stream& stream = read.stream;
  std::vector<Row> rows(read.steps.size());
  for (std::size_t c = 0; c < N; ++c) {
    if (columns[c].integer != nullptr) {
      const auto values = read_column<std::int64_t>(stream.columns[c], rows.size());
      for (std::size_t r = 0; r < rows.size(); ++r) rows[r].*columns[c].integer = values[r];
    } else {
      const auto values = read_column<double>(stream.columns[c], rows.size());
      for (std::size_t r = 0; r < rows.size(); ++r) rows[r].*columns[c].real = values[r];
    }
  }
  return rows;
}

template <class T>
std::vector<T> part(const std::vector<T>& values, std::size_t row, std::size_t rows) {
  const std::size_t width = values.size() / rows;
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row * width);
  return {begin, begin + static_cast<std::ptrdiff_t>(width)};
}

}  // namespace

class RunReader::Implementation {
 public:
  explicit Implementation(const std::string& name) : path(name), file(name, hdf5::Mode::read), root(file.root()) {
    run_layout::require_run_file(root, path);
    for (const run_layout::IdentityAttribute& attribute : run_layout::kIdentity) {
      identity.*attribute.text = root.attribute_text(attribute.name);
    }
  }

  std::string path;
  hdf5::File file;
  hdf5::Group root;
  RunIdentity identity;
};

RunReader::RunReader(const std::string& path) : implementation_(std::make_unique<Implementation>(path)) {}
RunReader::RunReader(RunReader&&) noexcept = default;
RunReader& RunReader::operator=(RunReader&&) noexcept = default;
RunReader::~RunReader() = default;

const std::string& RunReader::path() const {
  return implementation_->path;
}
const RunIdentity& RunReader::identity() const {
  return implementation_->identity;
}

RunStatus RunReader::status() const {
  hdf5::Dataset dataset = implementation_->root.dataset("status");
  dataset.refresh();
  const std::string text = dataset.read_text();
  for (const RunStatus status : {RunStatus::running, RunStatus::done, RunStatus::diverged, RunStatus::interrupted}) {
    if (text == name_of(status)) return status;
  }
  throw UserError(fmt::format("{}:/status is '{}'; valid: running, done, diverged, interrupted", path(), text));
}

std::string RunReader::library_kernels() const {
  hdf5::Dataset dataset = implementation_->root.group("gemm").dataset("library_kernels");
  dataset.refresh();
  return dataset.read_text();
}

std::string RunReader::resolved() const {
  return implementation_->root.read_text("config/resolved");
}
std::string RunReader::recipe() const {
  return implementation_->root.read_text("config/recipe");
}

std::map<std::string, std::string> RunReader::digests() const {
  const hdf5::Group group = implementation_->root.group("config/digest");
  std::map<std::string, std::string> digests;
  for (const std::string& name : group.children()) digests[name] = group.read_text(name);
  return digests;
}

std::vector<GivenFile> RunReader::files() const {
  const hdf5::Group group = implementation_->root.group("config/file");
  std::vector<GivenFile> files;
  for (const std::string& role : group.children()) {
    files.push_back({role, group.dataset(role).attribute_text("path"), group.read_text(role)});
  }
  return files;
}

std::vector<TrainRow> RunReader::train() const {
  return read_numbers<TrainRow>(run_layout::read_stream(implementation_->root, "train"), run_layout::kTrain);
}

std::vector<EvalRow> RunReader::eval() const {
  return read_numbers<EvalRow>(run_layout::read_stream(implementation_->root, "eval"), run_layout::kEval);
}

std::vector<std::int64_t> RunReader::moe_layers() const {
  const hdf5::Group group = implementation_->root.group("moe");
  return group.exists("layer") ? vector_of<std::int64_t>(group.read("layer")) : std::vector<std::int64_t>{};
}

std::int64_t RunReader::experts() const {
  const hdf5::Group group = implementation_->root.group("moe");
  return group.exists("load") ? group.dataset("load").shape().back() : 0;
}

std::vector<MoeRow> RunReader::moe() const {
  const auto [stream, steps] = run_layout::read_stream(implementation_->root, "moe");
  std::vector<MoeRow> rows(steps.size());
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r].step = steps[r];
  for (std::size_t c = 0; c < std::size(run_layout::kMoe) && !rows.empty(); ++c) {
    const auto values = read_column<float>(stream.columns[c + 1], rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      rows[r].*run_layout::kMoe[c].values = part(values, r, rows.size());
    }
  }
  return rows;
}

std::vector<std::string> RunReader::record_names() const {
  return run_layout::record_names(implementation_->root);
}

void RunReader::require_record(const std::string& name) const {
  const std::vector<std::string> names = record_names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  throw UserError(fmt::format("'{}' records nothing called '{}'; {}", path(), name,
                              names.empty() ? "it records nothing" : suggestion(name, names)));
}

CodeHistograms RunReader::code_histograms(const std::string& name) const {
  require_record(name);
  CodeHistograms histograms;
  const hdf5::Group group = implementation_->root.group("record/" + name);
  histograms.sites = group.dataset("site").read_texts();
  if (!group.exists(run_layout::kHistogramStep)) return histograms;
  const auto [stream, steps] =
      run_layout::read_stream(implementation_->root, "record/" + name, run_layout::kHistogramStep);
  histograms.codes = stream.columns[1].shape().back();
  histograms.steps = steps;
  histograms.counts = read_column<std::uint32_t>(stream.columns[1], steps.size());
  return histograms;
}

RecordSeries RunReader::record(const std::string& name) const {
  require_record(name);
  const auto [stream, steps] = run_layout::read_stream(implementation_->root, "record/" + name);
  RecordSeries series;
  series.name = name;
  series.sites = stream.group.dataset("site").read_texts();
  series.measures = stream.group.dataset("measure").read_texts();
  series.definitions = stream.group.dataset("definition").read_texts();
  series.steps = steps;
  series.values = read_column<float>(stream.columns[1], series.steps.size());
  return series;
}

std::vector<GemmRow> RunReader::gemms() const {
  const hdf5::Group group = implementation_->root.group("gemm");
  const auto shares = vector_of<double>(group.read("flops_share"));
  std::vector<GemmRow> rows(shares.size());
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r].flops_share = shares[r];
  for (const run_layout::GemmColumn& column : run_layout::kGemm) {
    std::vector<std::string> texts = group.dataset(column.name).read_texts();
    for (std::size_t r = 0; r < rows.size(); ++r) rows[r].*column.text = std::move(texts[r]);
  }
  return rows;
}

std::map<std::string, double> RunReader::flops_by_format() const {
  const hdf5::Group group = implementation_->root.group("gemm/flops_by_format");
  const std::vector<std::string> formats = group.dataset("format").read_texts();
  const auto shares = vector_of<double>(group.read("share"));
  std::map<std::string, double> result;
  for (std::size_t i = 0; i < formats.size(); ++i) result[formats[i]] = shares[i];
  return result;
}

std::vector<CastRow> RunReader::casts() const {
  const hdf5::Group group = implementation_->root.group("casts");
  const auto layers = vector_of<std::int64_t>(group.read("layer"));
  const std::vector<std::string> texts = group.dataset("cast").read_texts();
  std::vector<CastRow> rows;
  for (std::size_t i = 0; i < layers.size(); ++i) rows.push_back({layers[i], texts[i]});
  return rows;
}

std::vector<std::string> RunReader::memory_kinds() const {
  const hdf5::Group group = implementation_->root.group("memory");
  return group.exists("kind") ? group.dataset("kind").read_texts() : std::vector<std::string>{};
}

std::vector<MemoryRow> RunReader::memory() const {
  const auto [stream, steps] = run_layout::read_stream(implementation_->root, "memory");
  std::vector<MemoryRow> rows;
  if (steps.empty()) return rows;
  const auto bytes = read_column<std::int64_t>(stream.columns[1], steps.size());
  const auto peaks = read_column<std::int64_t>(stream.columns[2], steps.size());
  for (std::size_t r = 0; r < steps.size(); ++r) rows.push_back({steps[r], part(bytes, r, steps.size()), peaks[r]});
  return rows;
}

std::string RunReader::checkpoint_folder() const {
  return implementation_->root.read_text("checkpoint/folder");
}

std::vector<CheckpointRow> RunReader::checkpoints() const {
  const auto [stream, steps] = run_layout::read_stream(implementation_->root, "checkpoint");
  const auto sizes = read_column<std::int64_t>(stream.columns[1], steps.size());
  const auto digests = read_column<std::uint8_t>(stream.columns[2], steps.size());
  std::vector<CheckpointRow> rows;
  for (std::size_t r = 0; r < steps.size(); ++r) {
    std::string digest;
    for (const std::uint8_t byte : part(digests, r, steps.size())) digest += fmt::format("{:02x}", byte);
    rows.push_back({steps[r], sizes[r], std::move(digest)});
  }
  return rows;
}

}  // namespace ng
