// SPDX-License-Identifier: Apache-2.0
//
// RUN.h5: the record of a training run. The writer creates every object before the first step, gives the file its name
// only when that is done, and appends rows from a thread of its own, so that the file can be read at any moment: during
// the run, after it, and after kill -9. The reader opens a file in each of those states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "narrowgauge/recording/run_rows.hpp"

namespace ng {

struct RunFileOptions {
  double flush_seconds = 10.0;   ///< rows are on disk after this long at the latest
  std::size_t queue_rows = 256;  ///< rows handed over and not yet written; `append` waits when full
};

/// One writer per file: another process, or another writer of this one, is refused with a UserError.
///
/// A disk too full for the next row is found before anything is written: the file keeps what it has and closes in
/// order. Every call after a failed write throws that failure (MachineError naming the file) in the caller's thread.
/// Steps must rise within a stream (LogicError). Not for several threads at once.
class RunFileWriter {
 public:
  /// Creates `path` by way of `path`.part. UserError if `path` exists (naming --resume) or cannot be written.
  [[nodiscard]] static RunFileWriter create(const std::string& path, const RunSetup& setup,
                                            RunFileOptions options = {});

  /// Continues a run file whose writer ended or was killed: cuts every stream back to the state after `steps_done`
  /// steps (train, moe, record, memory: step < steps_done; eval, checkpoint: step <= steps_done) and sets the status to
  /// running. UserError if the file is none of ours, of another version, being written, or ends before `steps_done`.
  [[nodiscard]] static RunFileWriter reopen(const std::string& path, std::int64_t steps_done,
                                            RunFileOptions options = {});

  RunFileWriter(RunFileWriter&&) noexcept;
  RunFileWriter& operator=(RunFileWriter&&) noexcept;
  /// Writes what was handed over and closes; never throws. Call `close` to hear of failures.
  ~RunFileWriter();

  void append(const TrainRow& row);
  void append(const EvalRow& row);
  void append(MoeRow row);
  void append(RecordRow row);
  void append(MemoryRow row);
  void append(const CheckpointRow& row);

  /// Returns when everything appended so far can be read by another process and survives kill -9.
  void flush();
  /// Flushed like `flush`.
  /// Kernels of a library that products took, a line each (Backend::library_kernels). Lines that do not fit are counted
  /// in the last one.
  void set_library_kernels(const std::string& text);
  void set_status(RunStatus status);
  /// Flushes and closes; the file opens plainly afterwards. No other call may follow.
  void close();

  [[nodiscard]] const std::string& path() const;

 private:
  class Implementation;
  explicit RunFileWriter(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

/// One entry of the recording plan over the steps.
struct RecordSeries {
  std::string name;
  std::vector<std::string> sites;
  std::vector<std::string> measures;
  std::vector<std::string> definitions;
  std::vector<std::int64_t> steps;
  std::vector<float> values;  ///< [steps, sites, measures]

  [[nodiscard]] float at(std::size_t record, std::size_t site, std::size_t measure) const {
    return values[(record * sites.size() + site) * measures.size() + measure];
  }
};

/// Code histograms of one entry of the recording plan over the steps; no codes where the plan asked for none.
struct CodeHistograms {
  std::vector<std::string> sites;
  std::int64_t codes = 0;
  std::vector<std::int64_t> steps;
  std::vector<std::uint32_t> counts;  ///< [steps, sites, codes]
};

/// Reads a finished, running or killed run file. UserError: not a run file, another version, truncated, damaged. Every
/// call looks anew, so that a running file can be followed; streams are cut to the rows that are complete.
class RunReader {
 public:
  explicit RunReader(const std::string& path);
  RunReader(RunReader&&) noexcept;
  RunReader& operator=(RunReader&&) noexcept;
  ~RunReader();

  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] const RunIdentity& identity() const;
  /// As written. A killed run still says running: see `is_being_written`.
  [[nodiscard]] RunStatus status() const;
  /// Empty where all kernels were our own.
  [[nodiscard]] std::string library_kernels() const;

  [[nodiscard]] std::string resolved() const;
  [[nodiscard]] std::string recipe() const;
  [[nodiscard]] std::map<std::string, std::string> digests() const;
  [[nodiscard]] std::vector<GivenFile> files() const;

  [[nodiscard]] std::vector<TrainRow> train() const;
  [[nodiscard]] std::vector<EvalRow> eval() const;
  [[nodiscard]] std::vector<std::int64_t> moe_layers() const;
  [[nodiscard]] std::int64_t experts() const;
  [[nodiscard]] std::vector<MoeRow> moe() const;
  [[nodiscard]] std::vector<std::string> record_names() const;  // in the order of the plan
  /// UserError listing the entries when there is none of that name.
  [[nodiscard]] RecordSeries record(const std::string& name) const;
  [[nodiscard]] CodeHistograms code_histograms(const std::string& name) const;
  [[nodiscard]] std::vector<GemmRow> gemms() const;
  /// Share of the products' FLOPs by "A x B" operand formats.
  [[nodiscard]] std::map<std::string, double> flops_by_format() const;
  [[nodiscard]] std::vector<CastRow> casts() const;
  [[nodiscard]] std::vector<std::string> memory_kinds() const;
  [[nodiscard]] std::vector<MemoryRow> memory() const;
  [[nodiscard]] std::string checkpoint_folder() const;  ///< relative to the run file's folder
  [[nodiscard]] std::vector<CheckpointRow> checkpoints() const;

 private:
  class Implementation;
  void require_record(const std::string& name) const;
  std::unique_ptr<Implementation> implementation_;
};

/// A living process has the file open for writing. A status of running without it means that the writer was killed.
[[nodiscard]] bool is_being_written(const std::string& path);

}  // namespace ng
