// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the recording layer share: a folder that goes away, a small run whose every row is a function of
// its step.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/run_file.hpp"

namespace ng::recording_test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ng_recording_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw MachineError("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

template <class Error = UserError>
std::string message_of_error(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

inline std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline RunSetup small_setup() {
  RunSetup setup;
  setup.identity = {"0.1.0", "0123abc", "run-7", "cpu", "ieee", "a processor", "2025-01-02T03:04:05Z"};
  setup.resolved = R"({"model":{"layers":2},"steps":40})";
  setup.recipe = R"({"name":"mxfp4"})";
  setup.digests = {{"recipe", "aa"}, {"data", "bb"}, {"source", "cc"}};
  setup.files = {{"model", "studies/models/tiny.toml", "layers = 2\n"}, {"recipe", "r.toml", "name = \"ü\"\n"}};
  setup.formats = {FormatId::e2m1, FormatId::e4m3, FormatId::e8m0, FormatId::e2m1, FormatId::bf16};
  setup.moe_layers = {1, 3};
  setup.experts = 4;
  setup.record = {
      {"zeta", {"layer.0/fc1/weight/fprop", "layer.0/fc1/activation/wgrad"}, {"rel_mse", "bias"}, {"a", "b"}},
      {"alpha", {"layer.0/fc2/weight/fprop"}, {"cosine"}, {"c"}}};
  setup.gemms = {
      {"layer.0/fc1/fprop", "mxfp4", "mxfp4", "e8m0 1x32", "e8m0 1x32", "bf16", "ieee", "fp32", "bf16", "chain", 0.75},
      {"head/fprop", "bf16", "bf16", "none", "none", "bf16", "ieee", "fp32", "f32", "chain", 0.25}};
  setup.casts = {{0, "fc1 activation: quantize rows"}, {0, "fc1 activation: quantize columns"}, {1, "x"}};
  setup.memory_kinds = {"weights", "optimizer"};
  setup.checkpoint_folder = "run.ckpt";
  return setup;
}

inline TrainRow train_row(std::int64_t step) {
  const auto s = static_cast<double>(step);
  return {step, 5.5 - 0.01 * s, 0.001 * s, 1e-4, 3e-4 * s, 1.0 / (s + 1), 4096, 0.25};
}
inline EvalRow eval_row(std::int64_t steps_done) {
  const auto s = static_cast<double>(steps_done);
  return {steps_done, 5 - s / 64, 4.5 - s / 64, 8192};
}
inline MoeRow moe_row(std::int64_t step) {
  const auto s = static_cast<float>(step);
  return {step, {s, 1, 2, 3, 4, 5, 6, 7}, {0, s}, {1.25f, s / 2}, {0.5f, 0.25f}, {0.01f, 0.02f}};
}
inline RecordRow record_row(std::size_t entry, std::int64_t step) {
  const auto s = static_cast<float>(step);
  return entry == 0 ? RecordRow{0, step, {s, s + 0.25f, NAN, -s}, {}} : RecordRow{1, step, {s * 2}, {}};
}
inline MemoryRow memory_row(std::int64_t step) {
  return {step, {1000, 2000 + step}, 1 << 20};
}
inline CheckpointRow checkpoint_row(std::int64_t steps_done) {
  return {steps_done, 12345, std::string(62, 'a') + (steps_done % 2 == 0 ? "0f" : "f0")};
}

/// Rows of step `step`; evaluation and checkpoint every ten steps, records of entry 0 every step, of 1 every 5.
inline void append_step(RunFileWriter& writer, std::int64_t step) {
  writer.append(train_row(step));
  writer.append(moe_row(step));
  writer.append(memory_row(step));
  writer.append(record_row(0, step));
  if (step % 5 == 0) writer.append(record_row(1, step));
  if ((step + 1) % 10 == 0) {
    writer.append(eval_row(step + 1));
    writer.append(checkpoint_row(step + 1));
  }
}

/// Every stream of the file holds what `append_step` writes, each up to its own length; train has `least` rows or more.
inline void expect_rows(const RunReader& reader, std::int64_t least, std::int64_t most) {
  const auto train = reader.train();
  ASSERT_GE(static_cast<std::int64_t>(train.size()), least);
  ASSERT_LE(static_cast<std::int64_t>(train.size()), most);
  for (std::size_t i = 0; i < train.size(); ++i) ASSERT_EQ(train[i], train_row(static_cast<std::int64_t>(i))) << i;
  const auto moe = reader.moe();
  ASSERT_GE(static_cast<std::int64_t>(moe.size()), least);
  for (std::size_t i = 0; i < moe.size(); ++i) ASSERT_EQ(moe[i], moe_row(static_cast<std::int64_t>(i))) << i;
  const auto memory = reader.memory();
  ASSERT_GE(static_cast<std::int64_t>(memory.size()), least);
  for (std::size_t i = 0; i < memory.size(); ++i) ASSERT_EQ(memory[i], memory_row(static_cast<std::int64_t>(i))) << i;
  for (const std::size_t entry : {std::size_t{0}, std::size_t{1}}) {
    const RecordSeries series = reader.record(entry == 0 ? "zeta" : "alpha");
    const std::int64_t cadence = entry == 0 ? 1 : 5;
    ASSERT_GE(static_cast<std::int64_t>(series.steps.size()), (least + cadence - 1) / cadence);
    for (std::size_t r = 0; r < series.steps.size(); ++r) {
      ASSERT_EQ(series.steps[r], static_cast<std::int64_t>(r) * cadence);
      const RecordRow expected = record_row(entry, series.steps[r]);
      for (std::size_t v = 0; v < expected.values.size(); ++v) {
        const float got = series.values[r * expected.values.size() + v];
        ASSERT_TRUE(got == expected.values[v] || (std::isnan(got) && std::isnan(expected.values[v])))
            << "entry " << entry << " record " << r << " value " << v << ": " << got;
      }
    }
  }
  const auto eval = reader.eval();
  const auto checkpoints = reader.checkpoints();
  ASSERT_GE(static_cast<std::int64_t>(eval.size()), least / 10);
  ASSERT_GE(static_cast<std::int64_t>(checkpoints.size()), least / 10);
  for (std::size_t i = 0; i < eval.size(); ++i) ASSERT_EQ(eval[i], eval_row(static_cast<std::int64_t>(i + 1) * 10));
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    ASSERT_EQ(checkpoints[i], checkpoint_row(static_cast<std::int64_t>(i + 1) * 10));
  }
}

}  // namespace ng::recording_test
