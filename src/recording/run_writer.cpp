// SPDX-License-Identifier: Apache-2.0
//
// RunFileWriter: a queue, one thread that owns the file, and the ways a file gets and keeps its name.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "free_space.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "run_layout.hpp"
#include "run_publish.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kSpareBytes = 256 << 10;  // for the library's own structures

struct LibraryKernels {
  std::string text;
};

using Job = std::variant<TrainRow, EvalRow, MoeRow, RecordRow, MemoryRow, CheckpointRow, LibraryKernels, RunStatus>;

template <class Row, std::size_t N>
void append_numbers(run_layout::Stream& stream, const run_layout::Column<Row> (&columns)[N], const Row& row) {
  for (std::size_t c = 0; c < N; ++c) {
    if (columns[c].integer != nullptr) {
      stream.columns[c].append(row.*columns[c].integer);
    } else {
      stream.columns[c].append(row.*columns[c].real);
    }
  }
}

std::vector<std::uint8_t> bytes_of_hex(const std::string& hex) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

class RunFileWriter::Implementation {
 public:
  Implementation(std::string path, hdf5::File file, RunFileOptions options)
      : path_(std::move(path)),
        options_(options),
        file_(std::move(file)),
        streams_(run_layout::open_streams(file_.root())),
        status_(file_.root().dataset("status")),
        library_kernels_(file_.root().group("gemm").dataset("library_kernels")) {
    for (const run_layout::Stream& stream : streams_.list) {
      const std::int64_t rows = stream.rows();
      rows_.push_back(rows);
      last_step_.push_back(rows == 0 ? std::numeric_limits<std::int64_t>::min() : stream.steps(rows).back());
      std::vector<std::size_t>& values = values_per_row_.emplace_back();
      for (const hdf5::Dataset& column : stream.columns) {
        values.push_back(row_values(column));
        chunk_bytes_ += run_layout::kChunkRows * static_cast<std::int64_t>(values.back() * size_of(column.dtype()));
      }
    }
    thread_ = std::thread([this] { work(); });
  }

  ~Implementation() {
    if (thread_.joinable()) stop();
    // Before the datasets: after a failed write only the file as a whole can still be closed.
    try {
      file_.close();
    } catch (const std::exception&) {
    }
  }

  const std::string& path() const { return path_; }

  void push(Job job) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return queue_.size() < options_.queue_rows || failure_; });
    rethrow();
    NG_CHECK(!stopping_, path_, " is used after it was closed");
    queue_.push_back(std::move(job));
    work_.notify_one();
  }

  void flush() {
    std::unique_lock lock(mutex_);
    rethrow();
    NG_CHECK(!stopping_, path_, " is used after it was closed");
    const std::uint64_t mine = ++flushes_wanted_;
    work_.notify_one();
    done_.wait(lock, [&] { return flushes_done_ >= mine || failure_; });
    rethrow();
  }

  void close() {
    NG_CHECK(thread_.joinable(), path_, " is closed twice");
    stop();
    const std::unique_lock lock(mutex_);
    rethrow();
    file_.close();
  }

  void check_step(std::size_t stream, std::int64_t step) {
    NG_CHECK(step >= 0 && step > last_step_[stream], "row of step ", step, " after that of step ", last_step_[stream],
             " in ", path_);
    last_step_[stream] = step;
  }
  void check_values(std::size_t stream, std::size_t column, std::size_t got) const {
    NG_CHECK(column < values_per_row_[stream].size(), path_, " was created without this stream");
    NG_CHECK_EQ(got, values_per_row_[stream][column], "values of a row in ", path_);
  }
  std::size_t record_entries() const { return streams_.histogram_of_entry.size(); }
  std::size_t histogram_of(std::size_t entry) const { return streams_.histogram_of_entry[entry]; }

 private:
  static std::size_t row_values(const hdf5::Dataset& dataset) {
    std::size_t count = 1;
    const std::vector<std::int64_t> shape = dataset.shape();
    for (std::size_t i = 1; i < shape.size(); ++i) count *= static_cast<std::size_t>(shape[i]);
    return count;
  }

  void stop() {
    {
      const std::unique_lock lock(mutex_);
      stopping_ = true;
      work_.notify_one();
    }
    thread_.join();
  }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  void work() {
    try {
      while (step()) {
      }
    } catch (...) {
      const std::unique_lock lock(mutex_);
      failure_ = std::current_exception();
      queue_.clear();
      room_.notify_all();
      done_.notify_all();
    }
  }

  // One job, or one flush. False when there is nothing left to do.
  bool step() {
    std::unique_lock lock(mutex_);
    const auto pending = [&] { return !queue_.empty() || flushes_wanted_ > flushes_done_ || stopping_; };
    if (dirty_) {
      work_.wait_until(lock, deadline_, pending);
    } else {
      work_.wait(lock, pending);
    }
    const bool overdue = dirty_ && Clock::now() >= deadline_;
    if (!queue_.empty() && !overdue) {
      const Job job = std::move(queue_.front());
      queue_.pop_front();
      room_.notify_one();
      lock.unlock();
      if (!dirty_) {
        dirty_ = true;
        deadline_ = Clock::now() +
                    std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.flush_seconds));
      }
      make_sure_of_room();
      std::visit([this](const auto& row) { write(row); }, job);
      return true;
    }
    const bool last = stopping_ && queue_.empty();
    // A flush that was asked for covers what was handed over before it: the queue must be empty.
    const std::uint64_t wanted = queue_.empty() ? flushes_wanted_ : flushes_done_;
    lock.unlock();
    if (dirty_) flush_file();
    dirty_ = false;
    lock.lock();
    flushes_done_ = wanted;
    done_.notify_all();
    return !last;
  }

  void write(const TrainRow& row) { append_numbers(next(run_layout::kTrainStream), run_layout::kTrain, row); }
  void write(const EvalRow& row) { append_numbers(next(run_layout::kEvalStream), run_layout::kEval, row); }
  void write(const MoeRow& row) {
    run_layout::Stream& stream = next(run_layout::kMoeStream);
    stream.columns[0].append(row.step);
    for (std::size_t c = 0; c < std::size(run_layout::kMoe); ++c) {
      stream.columns[c + 1].append_rows(std::span<const float>(row.*run_layout::kMoe[c].values));
    }
  }
  void write(const RecordRow& row) {
    if (!row.values.empty()) {
      run_layout::Stream& stream = next(run_layout::kFirstRecordStream + row.entry);
      stream.columns[0].append(row.step);
      stream.columns[1].append_rows(std::span<const float>(row.values));
    }
    if (!row.codes.empty()) {
      run_layout::Stream& stream = next(streams_.histogram_of_entry[row.entry]);
      stream.columns[0].append(row.step);
      stream.columns[1].append_rows(std::span<const std::uint32_t>(row.codes));
    }
  }
  void write(const MemoryRow& row) {
    run_layout::Stream& stream = next(run_layout::kMemoryStream);
    stream.columns[0].append(row.step);
    stream.columns[1].append_rows(std::span<const std::int64_t>(row.bytes));
    stream.columns[2].append(row.peak);
  }
  void write(const CheckpointRow& row) {
    run_layout::Stream& stream = next(run_layout::kCheckpointStream);
    stream.columns[0].append(row.step);
    stream.columns[1].append(row.bytes);
    stream.columns[2].append_rows(std::span<const std::uint8_t>(bytes_of_hex(row.digest)));
  }
  run_layout::Stream& next(std::size_t index) {
    ++rows_[index];
    return streams_[index];
  }
  void flush_file() {
    file_.flush();
    streams_.committed.write(Dtype::i64, std::as_bytes(std::span(rows_)));
    file_.flush();
  }
  // A row may open a new chunk of every column; what was written before must still fit when it is flushed.
  void make_sure_of_room() {
    try {
      require_free_space(path_, 2 * chunk_bytes_ + kSpareBytes);
    } catch (const MachineError&) {
      flush_file();
      throw;
    }
  }
  void write(RunStatus status) { status_.write_text(name_of(status)); }
  void write(const LibraryKernels& kernels) { library_kernels_.write_text(kernels.text); }

  std::string path_;
  RunFileOptions options_;
  hdf5::File file_;
  run_layout::Streams streams_;
  hdf5::Dataset status_;
  hdf5::Dataset library_kernels_;
  std::vector<std::int64_t> last_step_;                   // of the caller's thread
  std::vector<std::vector<std::size_t>> values_per_row_;  // by column

  std::mutex mutex_;
  std::condition_variable work_, room_, done_;
  std::deque<Job> queue_;
  std::exception_ptr failure_;
  std::uint64_t flushes_wanted_ = 0, flushes_done_ = 0;
  bool stopping_ = false;

  // Of the writing thread:
  std::vector<std::int64_t> rows_;  // of each stream
  std::int64_t chunk_bytes_ = 0;    // of one chunk of every column
  bool dirty_ = false;
  Clock::time_point deadline_{};
  std::thread thread_;
};

RunFileWriter::RunFileWriter(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
RunFileWriter::RunFileWriter(RunFileWriter&&) noexcept = default;
RunFileWriter& RunFileWriter::operator=(RunFileWriter&&) noexcept = default;
RunFileWriter::~RunFileWriter() = default;

namespace {

// A file in the making of another process is left alone (UserError).
hdf5::File create_file(const std::string& path) {
  try {
    return hdf5::File(path, hdf5::Mode::create);
  } catch (const MachineError&) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace

RunFileWriter RunFileWriter::create(const std::string& path, const RunSetup& setup, RunFileOptions options) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) refuse_existing(path);
  const std::string part = path + ".part";
  std::int64_t texts = static_cast<std::int64_t>(setup.resolved.size() + setup.recipe.size());
  for (const GivenFile& given : setup.files) texts += static_cast<std::int64_t>(given.text.size());
  require_free_space(path, texts + 2 * kSpareBytes);
  hdf5::File file = create_file(part);
  try {
    run_layout::create(file.root(), setup);
    file.start_swmr_write();
    file.flush();
    publish_new(part, path);
  } catch (...) {
    ::unlink(part.c_str());
    throw;
  }
  file.renamed(path);
  return RunFileWriter(std::make_unique<Implementation>(path, std::move(file), options));
}

namespace {

void cut(const hdf5::File& file, const std::string& path, std::int64_t steps_done) {
  run_layout::Streams streams = run_layout::open_streams(file.root());
  const std::vector<std::int64_t> committed = [&] {
    const Array counts = streams.committed.read();
    return std::vector<std::int64_t>(counts.as<std::int64_t>().begin(), counts.as<std::int64_t>().end());
  }();
  std::vector<std::int64_t> kept;
  for (run_layout::Stream& stream : streams.list) {
    const std::vector<std::int64_t> steps = stream.steps(std::min(committed[stream.index], stream.rows()));
    const std::int64_t bound = stream.counts_steps_done ? steps_done : steps_done - 1;
    kept.push_back(std::upper_bound(steps.begin(), steps.end(), bound) - steps.begin());
    if (stream.index == run_layout::kTrainStream && steps_done > 0 &&
        (kept.back() == 0 || steps[static_cast<std::size_t>(kept.back()) - 1] != bound)) {
      throw UserError(
          fmt::format("'{}' does not hold the steps up to {}, where the run was to continue", path, steps_done));
    }
    stream.truncate(kept.back());
  }
  streams.committed.write(Dtype::i64, std::as_bytes(std::span(kept)));
}

}  // namespace

RunFileWriter RunFileWriter::reopen(const std::string& path, std::int64_t steps_done, RunFileOptions options) {
  if (!fs::exists(path)) throw UserError(fmt::format("'{}' does not exist", path));
  // Cut in a copy: a kill at any moment leaves the old file or the new one.
  const WriterLock lock(path);
  const std::string part = path + ".part";
  std::error_code error;
  require_free_space(path, static_cast<std::int64_t>(fs::file_size(path)) + kSpareBytes);
  fs::copy_file(path, part, fs::copy_options::overwrite_existing, error);
  if (error) throw_file_error("write", part, error.value());
  try {
    hdf5::File file(part, hdf5::Mode::read_write);
    run_layout::require_run_file(file.root(), path);
    cut(file, path, steps_done);
    file.root().dataset("status").write_text(name_of(RunStatus::running));
    file.flush();
    file.start_swmr_write();
    file.flush();
    publish_file(part, path);
    file.renamed(path);
    return RunFileWriter(std::make_unique<Implementation>(path, std::move(file), options));
  } catch (...) {
    ::unlink(part.c_str());
    throw;
  }
}

const std::string& RunFileWriter::path() const {
  return implementation_->path();
}

void RunFileWriter::append(const TrainRow& row) {
  implementation_->check_step(run_layout::kTrainStream, row.step);
  implementation_->push(row);
}

void RunFileWriter::append(const EvalRow& row) {
  implementation_->check_step(run_layout::kEvalStream, row.step);
  implementation_->push(row);
}

void RunFileWriter::append(MoeRow row) {
  for (std::size_t c = 0; c < std::size(run_layout::kMoe); ++c) {
    implementation_->check_values(run_layout::kMoeStream, c + 1, (row.*run_layout::kMoe[c].values).size());
  }
  implementation_->check_step(run_layout::kMoeStream, row.step);
  implementation_->push(std::move(row));
}

void RunFileWriter::append(RecordRow row) {
  NG_CHECK_LT(row.entry, implementation_->record_entries());
  if (!row.values.empty()) {
    implementation_->check_values(run_layout::kFirstRecordStream + row.entry, 1, row.values.size());
    implementation_->check_step(run_layout::kFirstRecordStream + row.entry, row.step);
  }
  if (!row.codes.empty()) {
    const std::size_t stream = implementation_->histogram_of(row.entry);
    NG_CHECK(stream != 0, path(), " was created without code histograms of entry ", row.entry);
    implementation_->check_values(stream, 1, row.codes.size());
    implementation_->check_step(stream, row.step);
  }
  implementation_->push(std::move(row));
}

void RunFileWriter::append(MemoryRow row) {
  implementation_->check_values(run_layout::kMemoryStream, 1, row.bytes.size());
  implementation_->check_step(run_layout::kMemoryStream, row.step);
  implementation_->push(std::move(row));
}

void RunFileWriter::append(const CheckpointRow& row) {
  NG_CHECK_EQ(row.digest.size(), 2 * run_layout::kDigestBytes);
  implementation_->check_step(run_layout::kCheckpointStream, row.step);
  implementation_->push(row);
}

void RunFileWriter::flush() {
  implementation_->flush();
}

void RunFileWriter::set_library_kernels(const std::string& text) {
  constexpr std::size_t kRoomToCount = 64;
  if (text.size() <= run_layout::kLibraryKernelsCapacity) return implementation_->push(LibraryKernels{text});
  const std::size_t end = text.rfind('\n', run_layout::kLibraryKernelsCapacity - kRoomToCount) + 1;
  implementation_->push(LibraryKernels{
      text.substr(0, end) +
      fmt::format("and {} more\n", std::count(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), '\n'))});
}

void RunFileWriter::set_status(RunStatus status) {
  implementation_->push(status);
  implementation_->flush();
}

void RunFileWriter::close() {
  implementation_->close();
}

}  // namespace ng
