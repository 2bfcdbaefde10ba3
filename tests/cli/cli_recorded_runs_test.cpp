// SPDX-License-Identifier: Apache-2.0
//
// Claim: what a run recorded can be taken out of it. `capture` replays a step and `validate` finds every captured
// tensor equal; `export` writes tables and TensorBoard events that an independent reader takes back to the same
// numbers; runs on different data are not compared unasked. Alone: build/bin/cli_recorded_runs
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "cli/process.hpp"
#include "cli/small_model.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/recording/run_file.hpp"

namespace ng::test {
namespace {

const std::string kPlan = R"([[entry]]
name = "all"
site = "*"
measure = ["rel_mse", "double_quant_error"]
every = 2
code_histogram_every = 3
)";

class RecordedRuns : public testing::Test {
 protected:
  std::string train(const std::string& name, const std::string& recipe, const std::string& data = "austen") {
    const std::string run = folder_.file(name);
    const Outcome outcome = narrowgauge({"train",
                                         "--model",
                                         folder_.write("m.toml", kModel),
                                         "--recipe",
                                         recipe,
                                         "--data",
                                         data,
                                         "--out",
                                         run,
                                         "--steps",
                                         "4",
                                         "--quiet",
                                         "--record",
                                         folder_.write("plan.toml", kPlan),
                                         "--set",
                                         "train.batch=2",
                                         "--set",
                                         "train.sequence_length=32",
                                         "--set",
                                         "train.eval_windows=2",
                                         "--set",
                                         "train.checkpoint_every=2",
                                         "--set",
                                         "train.warmup_steps=1"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return run;
  }
  [[nodiscard]] std::string content(const std::string& name) const {
    std::ifstream in(folder_.file(name), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

  TemporaryFolder folder_;
};

TEST_F(RecordedRuns, CapturedTensorsAreCasesThatValidateFindsEqual) {
  for (const char* recipe : {"mxfp4_sr_all", "fp8_blockwise"}) {
    const std::string run = train(std::string(recipe) + ".h5", recipe);
    const std::string out = folder_.file(std::string(recipe) + "-capture.h5");
    const Outcome captured = narrowgauge({"capture", run + "@3", "--site", "layer.0/fc1/*", "--out", out, "--quiet"});
    ASSERT_EQ(captured.code, 0) << captured.err;
    EXPECT_NE(captured.out.find("3 products of step 3, replayed from the state after 2 steps"), std::string::npos)
        << captured.out;
    const Outcome valid = narrowgauge({"validate", out});
    EXPECT_EQ(valid.code, 0) << valid.out << valid.err;
    EXPECT_NE(valid.out.find("cases are equal"), std::string::npos) << valid.out;
    const hdf5::File file(out, hdf5::Mode::read);
    EXPECT_EQ(file.root().dataset("layer.0.fc1.wgrad/output").shape(), (std::vector<std::int64_t>{4 * 64, 32}));
    // The original is an input of quantize, and gives the same codes where no random bits enter.
    if (std::string(recipe) == "fp8_blockwise") {
      const std::string again = folder_.file("again.h5");
      const Outcome quantized = narrowgauge(
          {"quantize", out + ":/layer.0.fc1.activation.fprop.expert.0/in/x", "--as", "fp8_1x128", "--out", again});
      ASSERT_EQ(quantized.code, 0) << quantized.err;
      EXPECT_EQ(hdf5::File(again, hdf5::Mode::read).root().read("codes").data,
                file.root().read("layer.0.fc1.activation.fprop.expert.0/out/codes").data);
    }
  }
}

TEST_F(RecordedRuns, CaptureSaysWhatThereIs) {
  const std::string run = train("a.h5", "mxfp4"), out = folder_.file("out.h5");
  const auto expect = [&](const std::vector<std::string>& words, const std::string& piece) {
    std::vector<std::string> all = {"capture"};
    all.insert(all.end(), words.begin(), words.end());
    all.insert(all.end(), {"--out", out});
    const Outcome outcome = narrowgauge(all);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_NE(outcome.err.find(piece), std::string::npos) << outcome.err;
  };
  expect({run + "@1", "--site", "*"}, "there is one after 2, 4 steps");
  expect({run + "@4", "--site", "*"}, "its steps are 0 to 3");
  expect({run, "--site", "*"}, "RUN.h5@STEP");
  expect({run + "@2", "--site", "layer.0/fc3/*"}, "no site of this run fits 'layer.0/fc3/*'");
  expect({run + "@2", "--site", "layer.0/router/activation/fprop"}, "is not quantized");
  EXPECT_EQ(narrowgauge({"capture", run + "@1", "--from-start", "--site", "*/fc2/fprop", "--out", out}).code, 0);
  for (const std::string& name : folder_.names()) EXPECT_EQ(name.find(".part"), std::string::npos) << name;
}

TEST_F(RecordedRuns, TablesHoldTheNumbersOfTheRun) {
  const std::string run = train("a.h5", "mxfp4");
  ASSERT_EQ(narrowgauge({"export", run, folder_.file("csv"), "--to", "csv"}).code, 0);
  ASSERT_EQ(narrowgauge({"export", run, folder_.file("jsonl"), "--to", "jsonl"}).code, 0);
  const RunReader reader(run);

  std::istringstream train_lines(content("csv/train.csv"));
  std::string line;
  std::getline(train_lines, line);
  EXPECT_EQ(line, "step,loss,aux_loss,z_loss,lr,grad_norm,tokens,seconds");
  for (const TrainRow& row : reader.train()) {
    std::getline(train_lines, line);
    std::istringstream cells(line);
    std::string cell;
    for (const double value :
         {static_cast<double>(row.step), row.loss, row.aux_loss, row.z_loss, row.lr, row.grad_norm}) {
      std::getline(cells, cell, ',');
      EXPECT_EQ(std::strtod(cell.c_str(), nullptr), value) << line;
    }
  }
  const RecordSeries series = reader.record("all");
  std::istringstream records(content("csv/record.csv")), objects(content("jsonl/record.jsonl"));
  std::string object;
  std::getline(records, line);
  EXPECT_EQ(line, "entry,step,site,measure,value");
  std::size_t missing = 0;
  for (std::size_t r = 0; r < series.steps.size(); ++r) {
    for (std::size_t s = 0; s < series.sites.size(); ++s) {
      for (std::size_t m = 0; m < series.measures.size(); ++m) {
        ASSERT_TRUE(std::getline(records, line) && std::getline(objects, object));
        const std::string prefix =
            "all," + std::to_string(series.steps[r]) + "," + series.sites[s] + "," + series.measures[m] + ",";
        ASSERT_EQ(line.substr(0, prefix.size()), prefix);
        const float value = series.at(r, s, m);
        const std::string text = line.substr(prefix.size());
        missing += std::isnan(value) ? 1 : 0;
        EXPECT_EQ(text.empty(), std::isnan(value));
        const float back = std::strtof(text.c_str(), nullptr);
        EXPECT_TRUE(std::isnan(value) || back == value) << line;
        EXPECT_EQ(object, R"({"entry":"all","step":)" + std::to_string(series.steps[r]) + R"(,"site":")" +
                              series.sites[s] + R"(","measure":")" + series.measures[m] + R"(","value":)" +
                              (std::isnan(value) ? "null" : text) + "}");
      }
    }
  }
  EXPECT_GT(missing, 0u);  // row forms have no double quantization
  EXPECT_FALSE(std::getline(records, line));
  EXPECT_NE(content("csv/code_histogram.csv").find("all,3,"), std::string::npos);
}

// ---- an independent reader of event files

// CRC-32C bit by bit from the polynomial's definition.
std::uint32_t crc_by_definition(const std::string& data) {
  std::uint32_t crc = ~0u;
  for (const char c : data) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool in = ((static_cast<unsigned char>(c) >> bit) & 1) != 0, low = (crc & 1) != 0;
      crc >>= 1;
      if (in != low) crc ^= 0x82f63b78u;
    }
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
T number_at(const std::string& data, std::size_t at) {
  T value;
  std::memcpy(&value, data.substr(at, sizeof value).data(), sizeof value);
  return value;
}

/// Fields of a protobuf message: number -> contents (varints as 8 bytes).
std::multimap<std::uint64_t, std::string> fields_of(const std::string& message) {
  std::multimap<std::uint64_t, std::string> fields;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(at++));
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const std::uint64_t key = varint();
    std::string value;
    if ((key & 7) == 0) {
      const std::uint64_t number = varint();
      value.assign(reinterpret_cast<const char*>(&number), 8);
    } else {
      const std::size_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint();
      value = message.substr(at, size);
      at += size;
    }
    fields.emplace(key >> 3, value);
  }
  return fields;
}

TEST_F(RecordedRuns, TensorBoardEventsReadBack) {
  EXPECT_EQ(crc_by_definition("123456789"), ((0xe3069283u >> 15) | (0xe3069283u << 17)) + 0xa282ead8u);  // RFC 3720
  const std::string run = train("a.h5", "mxfp4");
  ASSERT_EQ(narrowgauge({"export", run, folder_.file("tb"), "--to", "tensorboard"}).code, 0);
  std::string name;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.file("tb"))) name = entry.path().filename();
  EXPECT_EQ(name.find("events.out.tfevents."), 0u);
  const std::string data = content("tb/" + name);
  std::map<std::string, std::map<std::int64_t, float>> scalars;
  double last_time = 0;
  std::size_t at = 0, records = 0;
  while (at < data.size()) {
    const std::string length = data.substr(at, 8);
    const auto size = number_at<std::uint64_t>(length, 0);
    ASSERT_EQ(number_at<std::uint32_t>(data, at + 8), crc_by_definition(length));
    const std::string message = data.substr(at + 12, size);
    ASSERT_EQ(number_at<std::uint32_t>(data, at + 12 + size), crc_by_definition(message));
    at += 16 + size;
    const auto event = fields_of(message);
    last_time = number_at<double>(event.find(1)->second, 0);
    if (records++ == 0) {
      EXPECT_EQ(event.find(3)->second, "brain.Event:2");
      continue;
    }
    const auto value = fields_of(fields_of(event.find(5)->second).find(1)->second);
    scalars[value.find(1)->second][number_at<std::int64_t>(event.find(2)->second, 0)] =
        number_at<float>(value.find(2)->second, 0);
  }
  EXPECT_GT(last_time, 1.5e9);
  const RunReader reader(run);
  for (const TrainRow& row : reader.train())
    EXPECT_EQ(scalars["train/loss"].at(row.step), static_cast<float>(row.loss));
  for (const EvalRow& row : reader.eval()) EXPECT_EQ(scalars["eval/loss"].at(row.step), static_cast<float>(row.loss));
  const RecordSeries series = reader.record("all");
  for (std::size_t r = 0; r < series.steps.size(); ++r)
    for (std::size_t s = 0; s < series.sites.size(); ++s)
      EXPECT_EQ(scalars["rel_mse/" + series.sites[s]].at(series.steps[r]), series.at(r, s, 0));
}

TEST_F(RecordedRuns, RunsOnOtherDataAreNotComparedUnasked) {
  const std::string a = train("a.h5", "mxfp4");
  const std::string text = folder_.write("other.txt", std::string(20000, 'x') + std::string(20000, 'y'));
  const std::string b = train("b.h5", "mxfp8", text);
  const Outcome refused = narrowgauge({"compare", a, b});
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("data"), std::string::npos) << refused.err;
  for (const std::string& run : {a, b})
    EXPECT_NE(refused.err.find(RunReader(run).digests().at("data").substr(0, 12)), std::string::npos) << refused.err;
  const Outcome allowed = narrowgauge({"compare", a, b, "--allow-mismatch"});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_NE((allowed.out + allowed.err).find("data"), std::string::npos) << allowed.out;
}

}  // namespace
}  // namespace ng::test
