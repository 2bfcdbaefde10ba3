// SPDX-License-Identifier: Apache-2.0
//
// Creation and opening of a run file's objects.
#include "run_layout.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"

namespace ng {

std::string_view name_of(RunStatus status) {
  switch (status) {
    case RunStatus::running:
      return "running";
    case RunStatus::done:
      return "done";
    case RunStatus::diverged:
      return "diverged";
    case RunStatus::interrupted:
      return "interrupted";
  }
  return "?";
}

}  // namespace ng

namespace ng::run_layout {
namespace {

constexpr int kLargestTableBits = 12;  // e5m6; the wider formats are every reader's own

template <class T>
Array array_1d(const std::vector<T>& values) {
  return Array::from<T>({static_cast<std::int64_t>(values.size())}, values);
}

template <class Row>
void create_columns(hdf5::Group group, std::span<const Column<Row>> columns) {
  for (const Column<Row>& column : columns) {
    hdf5::Dataset dataset =
        group.create_growing(column.name, column.integer != nullptr ? Dtype::i64 : Dtype::f64, {}, kChunkRows);
    dataset.set_attribute("meaning", column.meaning);
  }
}

void create_config(hdf5::Group config, const RunSetup& setup) {
  config.create_text("resolved", setup.resolved);
  config.create_text("recipe", setup.recipe);
  hdf5::Group digests = config.create_group("digest");
  for (const auto& [name, digest] : setup.digests) digests.create_text(name, digest);
  hdf5::Group files = config.create_group("file");
  for (const GivenFile& file : setup.files) {
    hdf5::Dataset text = files.create_text(file.role, file.text);
    text.set_attribute("path", file.path);
  }
  hdf5::Group tables = config.create_group("decode");
  for (const FormatId id : setup.formats) {
    const ElementFormat format = format_of(id);
    if (bit_count(format) > kLargestTableBits || tables.exists(name_of(id))) continue;
    std::vector<float> values;
    for (std::uint32_t code = 0; code < 1u << bit_count(format); ++code) values.push_back(decode(format, code));
    tables.create(name_of(id), array_1d(values));
  }
}

void create_moe(hdf5::Group moe, const RunSetup& setup) {
  if (setup.moe_layers.empty()) return;
  const auto layers = static_cast<std::int64_t>(setup.moe_layers.size());
  moe.create("layer", array_1d(setup.moe_layers));
  moe.create_growing("step", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "index of the step");
  for (const MoeColumn& column : kMoe) {
    std::vector<std::int64_t> shape = {layers};
    if (column.values == &MoeRow::load) shape.push_back(setup.experts);
    moe.create_growing(column.name, Dtype::f32, shape, kChunkRows).set_attribute("meaning", column.meaning);
  }
}

void create_record(hdf5::Group record, const std::vector<RecordLayout>& entries) {
  std::int64_t index = 0;
  for (const RecordLayout& entry : entries) {
    NG_CHECK(!entry.sites.empty() && !entry.measures.empty(), "record entry ", entry.name);
    NG_CHECK_EQ(entry.measures.size(), entry.definitions.size(), "record entry ", entry.name);
    hdf5::Group group = record.create_group(entry.name);
    group.set_attribute("index", index++);
    group.create_texts("site", entry.sites);
    group.create_texts("measure", entry.measures);
    group.create_texts("definition", entry.definitions);
    group.create_growing("step", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "index of the step");
    group
        .create_growing(
            "value", Dtype::f32,
            {static_cast<std::int64_t>(entry.sites.size()), static_cast<std::int64_t>(entry.measures.size())},
            kChunkRows)
        .set_attribute("meaning", "[records, sites, measures]; NaN where not measured");
    if (entry.codes == 0) continue;
    group.create_growing(kHistogramStep, Dtype::i64, {}, kChunkRows)
        .set_attribute("meaning", "index of the step of each histogram");
    group
        .create_growing("code_histogram", Dtype::u32, {static_cast<std::int64_t>(entry.sites.size()), entry.codes},
                        kChunkRows)
        .set_attribute("meaning", "[records, sites, codes]: how often each code occurred, 2^32 - 1 at most");
  }
}

void create_gemm(hdf5::Group gemm, const std::vector<GemmRow>& rows) {
  for (const GemmColumn& column : kGemm) {
    std::vector<std::string> texts;
    for (const GemmRow& row : rows) texts.push_back(row.*column.text);
    gemm.create_texts(column.name, texts);
  }
  std::vector<double> shares;
  std::map<std::string, double> by_format;
  for (const GemmRow& row : rows) {
    shares.push_back(row.flops_share);
    by_format[row.a_format + " x " + row.b_format] += row.flops_share;
  }
  gemm.create("flops_share", array_1d(shares));
  std::vector<std::string> formats;
  std::vector<double> format_shares;
  for (const auto& [format, share] : by_format) {
    formats.push_back(format);
    format_shares.push_back(share);
  }
  gemm.create_texts("flops_by_format/format", formats);
  gemm.create("flops_by_format/share", array_1d(format_shares));
}

void create_casts(hdf5::Group casts, const std::vector<CastRow>& rows) {
  std::vector<std::int64_t> layers;
  std::vector<std::string> texts;
  for (const CastRow& row : rows) {
    layers.push_back(row.layer);
    texts.push_back(row.cast);
  }
  casts.create("layer", array_1d(layers));
  casts.create_texts("cast", texts);
}

void create_memory(hdf5::Group memory, const std::vector<std::string>& kinds) {
  if (kinds.empty()) return;
  memory.create_texts("kind", kinds);
  memory.create_growing("step", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "index of the step");
  memory.create_growing("bytes", Dtype::i64, {static_cast<std::int64_t>(kinds.size())}, kChunkRows)
      .set_attribute("meaning", "[steps, kinds]");
  memory.create_growing("peak", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "bytes");
}

void create_checkpoint(hdf5::Group checkpoint, const std::string& folder) {
  checkpoint.create_text("folder", folder).set_attribute("meaning", "relative to the folder of this file");
  checkpoint.create_growing("step", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "steps done");
  checkpoint.create_growing("bytes", Dtype::i64, {}, kChunkRows).set_attribute("meaning", "size of the file");
  checkpoint.create_growing("digest", Dtype::u8, {static_cast<std::int64_t>(kDigestBytes)}, kChunkRows)
      .set_attribute("meaning", "SHA-256 of the content");
}

Stream open_columns(const hdf5::Group& group, const std::vector<std::string>& names, std::size_t index) {
  Stream stream{group, {}, index, index == kEvalStream || index == kCheckpointStream};
  for (const std::string& name : names) stream.columns.push_back(group.dataset(name));
  return stream;
}

template <class Columns>
std::vector<std::string> names_of(const Columns& columns) {
  std::vector<std::string> names;
  for (const auto& column : columns) names.emplace_back(column.name);
  return names;
}

}  // namespace

void create(hdf5::Group root, const RunSetup& setup) {
  root.set_attribute("format", kFormatName);
  root.set_attribute("format_version", kRunFileVersion);
  for (const IdentityAttribute& attribute : kIdentity) {
    root.set_attribute(attribute.name, setup.identity.*attribute.text);
  }
  root.create_text("status", name_of(RunStatus::running), kStatusCapacity);
  create_config(root.create_group("config"), setup);
  create_columns<TrainRow>(root.create_group("train"), kTrain);
  create_columns<EvalRow>(root.create_group("eval"), kEval);
  create_moe(root.create_group("moe"), setup);
  create_record(root.create_group("record"), setup.record);
  create_gemm(root.create_group("gemm"), setup.gemms);
  root.group("gemm").create_text("library_kernels", "", kLibraryKernelsCapacity);
  if (!setup.gemm_note.empty()) root.group("gemm").set_attribute("note", setup.gemm_note);
  create_casts(root.create_group("casts"), setup.casts);
  create_memory(root.create_group("memory"), setup.memory_kinds);
  create_checkpoint(root.create_group("checkpoint"), setup.checkpoint_folder);
  hdf5::Dataset committed = root.create(
      "committed", array_1d(std::vector<std::int64_t>(
                       kFirstRecordStream + setup.record.size() +
                       static_cast<std::size_t>(std::count_if(setup.record.begin(), setup.record.end(),
                                                              [](const auto& r) { return r.codes != 0; })))));
  committed.set_attribute(
      "meaning",
      "complete rows of train, eval, moe, memory, checkpoint, record entries in order, and of their "
      "code histograms, those that there are");
}

void require_run_file(const hdf5::Group& root, const std::string& path) {
  if (!root.has_attribute("format") || root.attribute_text("format") != kFormatName) {
    throw UserError(fmt::format("'{}' is not a run file of narrowgauge", path));
  }
  const std::int64_t version = root.attribute_integer("format_version");
  if (version != kRunFileVersion) {
    throw UserError(fmt::format("'{}' has version {} of the run file's layout, this program reads version {}", path,
                                version, kRunFileVersion));
  }
}

std::vector<std::string> record_names(const hdf5::Group& root) {
  const hdf5::Group record = root.group("record");
  std::vector<std::pair<std::int64_t, std::string>> found;
  for (const std::string& name : record.children()) {
    found.emplace_back(record.group(name).attribute_integer("index"), name);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (auto& [index, name] : found) names.push_back(std::move(name));
  return names;
}

std::int64_t Stream::rows() const {
  std::int64_t least = columns.empty() ? 0 : columns.front().rows();
  for (const hdf5::Dataset& column : columns) least = std::min(least, column.rows());
  return least;
}

std::vector<std::int64_t> Stream::steps(std::int64_t n) const {
  if (columns.empty()) return {};
  const Array array = columns.front().read_rows(0, n);
  const auto values = array.as<std::int64_t>();
  return {values.begin(), values.end()};
}

void Stream::truncate(std::int64_t n) {
  for (hdf5::Dataset& column : columns) column.truncate_rows(n);
}

Streams open_streams(const hdf5::Group& root) {
  const hdf5::Group memory = root.group("memory"), moe = root.group("moe");
  std::vector<std::string> moe_columns, memory_columns;
  if (moe.exists("step")) {
    moe_columns = names_of(kMoe);
    moe_columns.insert(moe_columns.begin(), "step");
  }
  if (memory.exists("step")) memory_columns = {"step", "bytes", "peak"};
  Streams streams{{}, root.dataset("committed"), {}};
  const auto add = [&](const hdf5::Group& group, const std::vector<std::string>& columns) {
    streams.list.push_back(open_columns(group, columns, streams.list.size()));
  };
  add(root.group("train"), names_of(kTrain));
  add(root.group("eval"), names_of(kEval));
  add(moe, moe_columns);
  add(memory, memory_columns);
  add(root.group("checkpoint"), {"step", "bytes", "digest"});
  const std::vector<std::string> names = record_names(root);
  for (const std::string& name : names) add(root.group("record/" + name), {"step", "value"});
  for (const std::string& name : names) {
    const hdf5::Group group = root.group("record/" + name);
    const bool has_codes = group.exists(kHistogramStep);
    streams.histogram_of_entry.push_back(has_codes ? streams.list.size() : 0);
    if (has_codes) add(group, {kHistogramStep, "code_histogram"});
  }
  if (streams.committed.rows() != static_cast<std::int64_t>(streams.list.size())) {
    throw UserError(streams.committed.label() + " does not fit the streams of the file");
  }
  return streams;
}

ReadStream read_stream(const hdf5::Group& root, const std::string& group, const std::string& step) {
  Streams streams = open_streams(root);
  // First the number, then the rows: a living writer may add some in between.
  streams.committed.refresh();
  const Array counts = streams.committed.read();
  for (Stream& stream : streams.list) {
    if (stream.columns.empty() ? stream.group.path() != "/" + group
                               : stream.columns.front().path() != "/" + group + "/" + step)
      continue;
    for (hdf5::Dataset& column : stream.columns) column.refresh();
    const std::int64_t rows = std::min(counts.as<std::int64_t>()[stream.index], stream.rows());
    std::vector<std::int64_t> steps = stream.steps(rows);
    return {std::move(stream), std::move(steps)};
  }
  throw LogicError("no stream is called " + group);
}

}  // namespace ng::run_layout
