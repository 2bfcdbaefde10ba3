// SPDX-License-Identifier: Apache-2.0
//
// Claim: a run file gives back what was written, whole and while it is written; has one writer; is never overwritten;
// is cut back exactly on resume; and what is no run file is refused by name. Alone: unit_recording
// --gtest_filter=RunFile.*
#include "narrowgauge/recording/run_file.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "narrowgauge/io/hdf5.hpp"
#include "recording_support.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;
using namespace recording_test;

TEST(RunFile, RoundTrip) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter writer = RunFileWriter::create(path, small_setup());
  EXPECT_FALSE(fs::exists(path + ".part"));
  for (std::int64_t step = 0; step < 37; ++step) append_step(writer, step);
  writer.set_status(RunStatus::done);
  writer.close();

  EXPECT_FALSE(hdf5::marked_as_open(path));  // opens plainly
  const RunReader reader(path);
  expect_rows(reader, 37, 37);
  EXPECT_EQ(reader.status(), RunStatus::done);
  EXPECT_EQ(reader.identity().run_id, "run-7");
  EXPECT_EQ(reader.identity().started, "2025-01-02T03:04:05Z");
  EXPECT_EQ(reader.resolved(), small_setup().resolved);
  EXPECT_EQ(reader.recipe(), small_setup().recipe);
  EXPECT_EQ(reader.digests(), small_setup().digests);
  const auto files = reader.files();
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[1].role, "recipe");
  EXPECT_EQ(files[1].path, "r.toml");
  EXPECT_EQ(files[1].text, "name = \"ü\"\n");
  EXPECT_EQ(reader.moe_layers(), (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(reader.experts(), 4);
  EXPECT_EQ(reader.record_names(), (std::vector<std::string>{"zeta", "alpha"}));  // the plan's order
  const RecordSeries zeta = reader.record("zeta");
  EXPECT_EQ(zeta.sites, small_setup().record[0].sites);
  EXPECT_EQ(zeta.measures, small_setup().record[0].measures);
  EXPECT_EQ(zeta.definitions, small_setup().record[0].definitions);
  EXPECT_EQ(zeta.at(3, 0, 1), 3.25f);
  EXPECT_EQ(zeta.at(3, 1, 1), -3.0f);
  const auto gemms = reader.gemms();
  ASSERT_EQ(gemms.size(), 2u);
  EXPECT_EQ(gemms[0].b_scales, "e8m0 1x32");
  EXPECT_EQ(gemms[1].output, "f32");
  EXPECT_EQ(gemms[1].flops_share, 0.25);
  EXPECT_EQ(reader.flops_by_format(), (std::map<std::string, double>{{"bf16 x bf16", 0.25}, {"mxfp4 x mxfp4", 0.75}}));
  ASSERT_EQ(reader.casts().size(), 3u);
  EXPECT_EQ(reader.casts()[1].cast, "fc1 activation: quantize columns");
  EXPECT_EQ(reader.memory_kinds(), small_setup().memory_kinds);
  EXPECT_EQ(reader.checkpoint_folder(), "run.ckpt");
  EXPECT_NE(message_of_error([&] { (void)reader.record("zetta"); }).find("did you mean 'zeta'"), std::string::npos);
}

TEST(RunFile, CarriesDecodeTables) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter::create(path, small_setup()).close();
  const hdf5::File file(path, hdf5::Mode::read);
  const Array e2m1 = file.root().read("config/decode/e2m1");
  const std::vector<float> expected = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0f, -0.5, -1, -1.5, -2, -3, -4, -6};
  EXPECT_EQ(std::vector<float>(e2m1.as<float>().begin(), e2m1.as<float>().end()), expected);
  const Array e4m3 = file.root().read("config/decode/e4m3");
  ASSERT_EQ(e4m3.count(), 256);
  EXPECT_EQ(e4m3.as<float>()[0x7e], 448.0f);
  EXPECT_TRUE(std::isnan(e4m3.as<float>()[0x7f]));
  EXPECT_EQ(file.root().read("config/decode/e8m0").as<float>()[127], 1.0f);
  EXPECT_FALSE(file.root().exists("config/decode/bf16"));
}

// interface.md, "Run file": other programs rely on these names.
TEST(RunFile, HasTheWrittenLayout) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter::create(path, small_setup()).close();
  const hdf5::File file(path, hdf5::Mode::read);
  for (const char* name : {"status",
                           "config/resolved",
                           "config/recipe",
                           "train/step",
                           "train/loss",
                           "train/lr",
                           "train/grad_norm",
                           "train/tokens",
                           "train/seconds",
                           "eval/step",
                           "eval/loss",
                           "eval/loss_bf16",
                           "moe/step",
                           "moe/load",
                           "moe/dropped",
                           "moe/router_entropy",
                           "moe/max_violation",
                           "moe/aux_loss",
                           "record/alpha/site",
                           "record/alpha/measure",
                           "record/alpha/step",
                           "record/alpha/value",
                           "gemm/site",
                           "gemm/carrier",
                           "gemm/algorithm",
                           "gemm/library_kernels",
                           "casts/cast",
                           "memory/step",
                           "memory/peak",
                           "checkpoint/folder",
                           "checkpoint/digest"}) {
    EXPECT_EQ(file.root().kind(name), hdf5::Kind::dataset) << name;
  }
  EXPECT_EQ(file.root().attribute_integer("format_version"), kRunFileVersion);
}

TEST(RunFile, KernelsOfALibraryAreToldAsFarAsTheyFit) {
  const TemporaryFolder folder;
  RunSetup setup;
  setup.resolved = setup.recipe = "{}";
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "kernel number " + std::to_string(i) + " of a library\n";
  for (const std::string& text : {std::string("one kernel\n"), many}) {
    const auto path = folder / ("run" + std::to_string(text.size()) + ".h5");
    RunFileWriter writer = RunFileWriter::create(path, setup);
    EXPECT_EQ(RunReader(path).library_kernels(), "");
    writer.set_library_kernels(text);
    writer.close();
    const std::string kept = RunReader(path).library_kernels();
    if (text.size() < 100) {
      EXPECT_EQ(kept, text);
      continue;
    }
    const auto lines = std::count(kept.begin(), kept.end(), '\n') - 1;
    EXPECT_GT(lines, 400);
    const std::string last = "and " + std::to_string(1000 - lines) + " more\n";
    EXPECT_EQ(kept.substr(kept.size() - last.size()), last);
    EXPECT_EQ(text.substr(0, kept.size() - last.size()), kept.substr(0, kept.size() - last.size()));
  }
}

TEST(RunFile, AModelWithoutExpertsAndAPlanWithoutEntries) {
  const TemporaryFolder folder;
  RunSetup setup;
  setup.resolved = setup.recipe = "{}";
  RunFileWriter writer = RunFileWriter::create(folder / "run.h5", setup);
  writer.append(train_row(0));
  EXPECT_THROW(writer.append(moe_row(0)), LogicError);
  EXPECT_THROW(writer.append(memory_row(0)), LogicError);
  EXPECT_THROW(writer.append(record_row(0, 0)), LogicError);
  writer.close();
  const RunReader reader(folder / "run.h5");
  EXPECT_EQ(reader.train().size(), 1u);
  EXPECT_TRUE(reader.moe().empty());
  EXPECT_TRUE(reader.memory().empty());
  EXPECT_TRUE(reader.gemms().empty());
  EXPECT_TRUE(reader.casts().empty());
  EXPECT_TRUE(reader.record_names().empty());
  EXPECT_EQ(reader.experts(), 0);
}

TEST(RunFile, CanBeFollowedWhileItIsWritten) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter writer = RunFileWriter::create(path, small_setup());
  const RunReader follower(path);
  EXPECT_TRUE(is_being_written(path));
  EXPECT_EQ(follower.status(), RunStatus::running);
  EXPECT_TRUE(follower.train().empty());
  for (std::int64_t step = 0; step < 100; ++step) {
    append_step(writer, step);
    if (step % 20 != 19) continue;
    writer.flush();
    expect_rows(follower, step + 1, step + 1);
    expect_rows(RunReader(path), step + 1, step + 1);
  }
  writer.set_status(RunStatus::interrupted);
  EXPECT_EQ(follower.status(), RunStatus::interrupted);
  writer.close();
  EXPECT_FALSE(is_being_written(path));
  expect_rows(follower, 100, 100);
}

TEST(RunFile, FlushesByItself) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter writer = RunFileWriter::create(path, small_setup(), {.flush_seconds = 0.02, .queue_rows = 4});
  append_step(writer, 0);
  for (int wait = 0; wait < 500 && RunReader(path).train().empty(); ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(RunReader(path).train().size(), 1u);
}

TEST(RunFile, IsNotOverwritten) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  {
    RunFileWriter writer = RunFileWriter::create(path, small_setup());
    append_step(writer, 0);
  }
  const std::string before = content_of(path);
  const std::string message = message_of_error([&] { (void)RunFileWriter::create(path, small_setup()); });
  EXPECT_NE(message.find("--resume"), std::string::npos) << message;
  EXPECT_NE(message.find(path), std::string::npos) << message;
  EXPECT_EQ(content_of(path), before);
  EXPECT_FALSE(fs::exists(path + ".part"));
}

TEST(RunFile, HasOneWriter) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  RunFileWriter writer = RunFileWriter::create(path, small_setup());
  for (std::int64_t step = 0; step < 10; ++step) append_step(writer, step);
  writer.flush();
  const std::string message = message_of_error([&] { (void)RunFileWriter::reopen(path, 10); });
  EXPECT_NE(message.find("being written"), std::string::npos) << message;
  append_step(writer, 10);
  writer.close();
  expect_rows(RunReader(path), 11, 11);
  RunFileWriter second = RunFileWriter::reopen(path, 10);
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::reopen(path, 10); }).find("being written"), std::string::npos);
}

// Two programs that start a run of the same name at the same moment: the second meets the file in the making.
TEST(RunFile, InTheMakingHasOneWriter) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  const hdf5::File making(path + ".part", hdf5::Mode::create);
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::create(path, small_setup()); }).find("being written"),
            std::string::npos);
  EXPECT_TRUE(fs::exists(path + ".part"));
}

TEST(RunFile, ResumeCutsEveryStream) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5", straight = folder / "straight.h5";
  {
    RunFileWriter writer = RunFileWriter::create(path, small_setup());
    for (std::int64_t step = 0; step < 37; ++step) append_step(writer, step);
    writer.set_status(RunStatus::interrupted);
    writer.close();
  }
  RunFileWriter writer = RunFileWriter::reopen(path, 20);
  {
    const RunReader reader(path);
    expect_rows(reader, 20, 20);
    EXPECT_EQ(reader.status(), RunStatus::running);
    EXPECT_EQ(reader.eval().back().step, 20);
    EXPECT_EQ(reader.checkpoints().back().step, 20);
    EXPECT_EQ(reader.record("alpha").steps.back(), 15);
  }
  EXPECT_THROW(writer.append(train_row(19)), LogicError);  // a row twice
  for (std::int64_t step = 20; step < 50; ++step) append_step(writer, step);
  writer.set_status(RunStatus::done);
  writer.close();
  expect_rows(RunReader(path), 50, 50);
  EXPECT_EQ(RunReader(path).status(), RunStatus::done);
  EXPECT_FALSE(hdf5::marked_as_open(path));
}

TEST(RunFile, ResumeRefusesWhatIsNotThere) {
  const TemporaryFolder folder;
  const std::string path = folder / "run.h5";
  {
    RunFileWriter writer = RunFileWriter::create(path, small_setup());
    for (std::int64_t step = 0; step < 5; ++step) append_step(writer, step);
    writer.close();
  }
  const std::string before = content_of(path);
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::reopen(path, 6); }).find("steps up to 6"), std::string::npos);
  EXPECT_EQ(content_of(path), before);
  EXPECT_FALSE(fs::exists(path + ".part"));
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::reopen(folder / "none.h5", 6); }).find("none.h5"),
            std::string::npos);
  RunFileWriter again = RunFileWriter::reopen(path, 0);
  again.close();
  EXPECT_TRUE(RunReader(path).train().empty());
}

TEST(RunFile, StepsRise) {
  const TemporaryFolder folder;
  RunFileWriter writer = RunFileWriter::create(folder / "run.h5", small_setup());
  writer.append(train_row(3));
  EXPECT_THROW(writer.append(train_row(3)), LogicError);
  RecordRow row = record_row(0, 1);
  row.values.pop_back();
  EXPECT_THROW(writer.append(row), LogicError);
  writer.close();
  EXPECT_EQ(RunReader(folder / "run.h5").train().size(), 1u);
}

TEST(RunFile, WhatIsNoneIsRefusedByName) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& path) { return message_of_error([&] { const RunReader reader(path); }); };
  const std::string path = folder / "run.h5";
  EXPECT_NE(message(path).find(path), std::string::npos) << message(path);

  std::ofstream(path) << "step,loss\n0,5.5\n";
  EXPECT_NE(message(path).find("not an HDF5 file"), std::string::npos) << message(path);
  fs::remove(path);

  {
    hdf5::File file(path, hdf5::Mode::create);
    file.root().create_text("status", "done");
    file.close();
  }
  EXPECT_NE(message(path).find("not a run file"), std::string::npos) << message(path);
  fs::remove(path);

  RunFileWriter::create(path, small_setup()).close();
  {
    hdf5::File file(path, hdf5::Mode::read_write);
    file.root().set_attribute("format_version", 99);
    file.close();
  }
  EXPECT_NE(message(path).find("version 99"), std::string::npos) << message(path);
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::reopen(path, 0); }).find("version 99"), std::string::npos);
  fs::remove(path);

  RunFileWriter::create(path, small_setup()).close();
  fs::resize_file(path, fs::file_size(path) / 2);
  EXPECT_NE(message(path).find("truncated"), std::string::npos) << message(path);
}

TEST(RunFile, AFolderThatIsNotThere) {
  const TemporaryFolder folder;
  const std::string path = folder / "none/run.h5";
  EXPECT_NE(message_of_error([&] { (void)RunFileWriter::create(path, small_setup()); }).find("none/run.h5"),
            std::string::npos);
}

}  // namespace
}  // namespace ng
