// SPDX-License-Identifier: Apache-2.0
//
// Claim: a record of 576 sites and 10 measures (16 layers, 6 linears, 6 operand uses) costs less than 1 ms, the file's
// flushes included; handing it over costs the training thread a small part of that. Alone: unit_recording_speed
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "recording_support.hpp"

namespace ng {
namespace {

using namespace recording_test;

TEST(RecordingSpeed, ARecordCostsLessThanAMillisecond) {
  const TemporaryFolder folder;
  RunSetup setup = small_setup();
  RecordLayout layout{"core", {}, {}, {}};
  for (int i = 0; i < 576; ++i)
    layout.sites.push_back("layer." + std::to_string(i / 36) + "/site/" + std::to_string(i));
  for (int i = 0; i < 10; ++i) layout.measures.push_back("measure_" + std::to_string(i));
  layout.definitions = layout.measures;
  setup.record = {layout};
  using Clock = std::chrono::steady_clock;
  const auto milliseconds = [](Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); };

  const auto created = Clock::now();
  RunFileWriter writer = RunFileWriter::create(folder / "run.h5", setup);
  const auto start = Clock::now();
  constexpr int kRecords = 400;
  double handed_over = 0;
  for (int step = 0; step < kRecords; ++step) {
    RecordRow row{0, step, std::vector<float>(5760, static_cast<float>(step)), {}};
    const auto before = Clock::now();
    writer.append(std::move(row));
    handed_over += milliseconds(Clock::now() - before);
    if (step % 50 == 49) writer.flush();
  }
  writer.flush();
  const double each = milliseconds(Clock::now() - start) / kRecords;
  std::printf("create %.1f ms; %.3f ms a record, of which %.3f ms in the caller\n", milliseconds(start - created), each,
              handed_over / kRecords);
  EXPECT_LT(each, 1.0);
  writer.close();
  EXPECT_EQ(RunReader(folder / "run.h5").record("core").at(kRecords - 1, 575, 9), static_cast<float>(kRecords - 1));
}

}  // namespace
}  // namespace ng
