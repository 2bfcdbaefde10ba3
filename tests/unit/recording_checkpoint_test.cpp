// SPDX-License-Identifier: Apache-2.0
//
// Claim: a checkpoint gives back every byte; one that is not whole, or not as it was written, is never used in silence;
// the newest few stay. Alone: unit_recording --gtest_filter=Checkpoint.*
#include "narrowgauge/recording/checkpoint.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "narrowgauge/io/hdf5.hpp"
#include "recording_support.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;
using namespace recording_test;

struct State {
  explicit State(std::int64_t at) : step(at) {
    for (std::size_t i = 0; i < master.size(); ++i) master[i] = static_cast<float>(at) + 0.5f * static_cast<float>(i);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::uint16_t>(i * 7 + 1);
  }
  CheckpointContents contents() const {
    return {step,
            "run-7",
            {{"master/layer.0/fc1", Dtype::f32, {30, 100}, std::as_bytes(std::span(master))},
             {"weight/layer.0/fc1", Dtype::bf16, {100}, std::as_bytes(std::span(weights))},
             {"adam/m", Dtype::f32, {0, 4}, {}}},
            {{"scalars", R"({"tokens":81920})"}, {"rng", ""}}};
  }
  std::int64_t step;
  std::vector<float> master = std::vector<float>(3000);
  std::vector<std::uint16_t> weights = std::vector<std::uint16_t>(100);
};

void expect_state(const LoadedCheckpoint& loaded, std::int64_t step) {
  const State state(step);
  EXPECT_EQ(loaded.step, step);
  EXPECT_EQ(loaded.run_id, "run-7");
  const Array& master = loaded.tensor("master/layer.0/fc1");
  EXPECT_EQ(master.shape, (std::vector<std::int64_t>{30, 100}));
  ASSERT_EQ(master.data.size(), state.master.size() * 4);
  EXPECT_EQ(std::memcmp(master.data.data(), state.master.data(), master.data.size()), 0);
  const Array& weights = loaded.tensor("weight/layer.0/fc1");
  EXPECT_EQ(weights.dtype, Dtype::bf16);
  ASSERT_EQ(weights.data.size(), state.weights.size() * 2);
  EXPECT_EQ(std::memcmp(weights.data.data(), state.weights.data(), weights.data.size()), 0);
  EXPECT_EQ(loaded.tensor("adam/m").shape, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(loaded.text("scalars"), R"({"tokens":81920})");
  EXPECT_EQ(loaded.text("rng"), "");
}

// Changes one byte of the tensor's data in the file.
void damage(const fs::path& path, std::int64_t step) {
  std::string bytes = content_of(path.string());
  const State state(step);
  const std::string needle(reinterpret_cast<const char*>(&state.master[1000]), 64);
  const std::size_t at = bytes.find(needle);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] = static_cast<char>(bytes[at + 5] ^ 0x10);
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Checkpoint, RoundTrip) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run.ckpt");
  EXPECT_FALSE(store.load_latest());
  const SavedCheckpoint saved = store.save(State(120).contents());
  EXPECT_EQ(saved.path.filename(), "step-00000120.h5");
  EXPECT_EQ(saved.bytes, static_cast<std::int64_t>(fs::file_size(saved.path)));
  const auto loaded = store.load_latest();
  ASSERT_TRUE(loaded);
  expect_state(*loaded, 120);
  EXPECT_EQ(loaded->digest, saved.digest);
  EXPECT_EQ(saved.digest.size(), 64u);
  EXPECT_NE(message_of_error([&] { (void)loaded->tensor("adam/n"); }).find("did you mean 'adam/m'"), std::string::npos);
  EXPECT_NE(message_of_error([&] { (void)loaded->text("scalar"); }).find("scalars"), std::string::npos);
}

TEST(Checkpoint, DigestIsOfTheContent) {
  const TemporaryFolder folder;
  CheckpointStore a(folder / "a"), b(folder / "b");
  const State state(5);
  CheckpointContents contents = state.contents();
  const std::string digest = a.save(contents).digest;
  std::reverse(contents.tensors.begin(), contents.tensors.end());
  EXPECT_EQ(b.save(contents).digest, digest);
  contents.texts["rng"] = "1";
  EXPECT_NE(b.save(contents).digest, digest);
}

TEST(Checkpoint, TheNewestStay) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "c", 2);
  for (const std::int64_t step : {5, 50, 100}) (void)store.save(State(step).contents());
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{50, 100}));
  store.remove_after(50);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{50}));
  (void)store.save(State(50).contents());  // again
  expect_state(*store.load_latest(), 50);
}

TEST(Checkpoint, AHalfWrittenOneIsNotSeen) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "c");
  (void)store.save(State(5).contents());
  fs::copy_file(store.path_of(5), store.path_of(9).string() + ".part");
  fs::resize_file(store.path_of(9).string() + ".part", 1000);
  std::ofstream(folder / "c/step-x.h5") << "x";
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{5}));
  expect_state(*store.load_latest(), 5);
  (void)store.save(State(9).contents());  // over the leftover
  expect_state(*store.load_latest(), 9);
}

TEST(Checkpoint, DamageIsFoundAndTheOneBeforeUsedOnRequest) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "c");
  (void)store.save(State(5).contents());
  (void)store.save(State(9).contents());
  damage(store.path_of(9), 9);
  const std::string message = message_of_error([&] { (void)store.load_latest(); });
  EXPECT_NE(message.find("step-00000009.h5"), std::string::npos) << message;
  EXPECT_NE(message.find("damaged"), std::string::npos) << message;
  EXPECT_NE(message.find("step-00000005.h5"), std::string::npos) << message;
  expect_state(*store.load_latest(OnDamage::use_previous), 5);
  fs::resize_file(store.path_of(5), 900);
  EXPECT_NE(message_of_error([&] { (void)store.load_latest(OnDamage::use_previous); }).find("no checkpoint"),
            std::string::npos);
}

TEST(Checkpoint, AnotherFileIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "other.h5";
  {
    hdf5::File file(path, hdf5::Mode::create);
    file.close();
  }
  EXPECT_NE(message_of_error([&] { (void)load_checkpoint(path); }).find("not a checkpoint"), std::string::npos);
  EXPECT_NE(message_of_error([&] { (void)load_checkpoint(folder / "none.h5"); }).find("none.h5"), std::string::npos);
  EXPECT_EQ(checkpoint_folder_of("runs/a.h5"), fs::path("runs/a.ckpt"));
}

}  // namespace
}  // namespace ng
