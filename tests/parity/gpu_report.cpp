// SPDX-License-Identifier: Apache-2.0
//
// Speeds of the kernels on this GPU, as shares of a copy of the same tensor measured in the same run, and the report of
// a parity run: gpu_report --out FILE [--tests GTEST.json] [--revision TEXT] [--driver TEXT] [--check NAME=RESULT]...
// Bytes by definition: inputs once, outputs once; a tensor's own amax is a second read, counted as one.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>

#include "backend/cuda_quantizer.hpp"
#include "device_sweeps.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/version.hpp"
#include "runtime/check.hpp"

namespace ng_test {
namespace {

using namespace ng;
using cuda::KernelChoice;

constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kCols = 8192;

/// Median milliseconds of `work`, launched on the default stream.
double median_ms(const std::function<void()>& work, int repeats) {
  cudaEvent_t begin{};
  cudaEvent_t end{};
  NG_CUDA_CHECK(cudaEventCreate(&begin));
  NG_CUDA_CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < repeats + 3; ++i) {
    NG_CUDA_CHECK(cudaEventRecord(begin, nullptr));
    work();
    NG_CUDA_CHECK(cudaEventRecord(end, nullptr));
    NG_CUDA_CHECK(cudaEventSynchronize(end));
    float ms = 0;
    NG_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) times.push_back(ms);
  }
  NG_CUDA_CHECK(cudaEventDestroy(begin));
  NG_CUDA_CHECK(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[times.size() / 2]);
}

enum class Forms : std::uint8_t { row, column, both };

struct Entry {
  const char* name;
  const char* preset;
  ScaleRule rule;
  Dtype dtype;
  bool known_amax;
  KernelChoice choice = KernelChoice::fastest;
  Forms forms = Forms::row;
  bool transform = false;  ///< of a single form; of both forms the column's
  bool stochastic = false;
};

constexpr Entry entry(const char* name, const char* preset, ScaleRule rule, bool known, Forms forms,
                      bool transform = false, bool stochastic = false) {
  return {name, preset, rule, Dtype::bf16, known, KernelChoice::fastest, forms, transform, stochastic};
}

constexpr ScaleRule kTe = ScaleRule::te_v2_14;
constexpr Entry kEntries[] = {
    {"mxfp4 bf16", "mxfp4", ScaleRule::floor, Dtype::bf16, false},
    {"mxfp4 rceil bf16", "mxfp4", ScaleRule::rceil, Dtype::bf16, false},
    {"mxfp4 f32", "mxfp4", ScaleRule::floor, Dtype::f32, false},
    {"mxfp8_e4m3 bf16", "mxfp8_e4m3", ScaleRule::floor, Dtype::bf16, false},
    {"mxfp8_e5m2 bf16", "mxfp8_e5m2", ScaleRule::floor, Dtype::bf16, false},
    {"nvfp4 known amax bf16", "nvfp4", kTe, Dtype::bf16, true},
    {"nvfp4 own amax bf16", "nvfp4", kTe, Dtype::bf16, false},
    {"nvfp4 known amax f32", "nvfp4", kTe, Dtype::f32, true},
    {"fp8_1x128 bf16", "fp8_1x128", ScaleRule::absmax, Dtype::bf16, false},
    {"fp8_1x128 pow2 bf16", "fp8_1x128", ScaleRule::absmax_pow2, Dtype::bf16, false},
    {"fp8_1x128 f32", "fp8_1x128", ScaleRule::absmax, Dtype::f32, false},
    entry("mxfp4 column", "mxfp4", ScaleRule::floor, false, Forms::column),
    entry("mxfp8_e4m3 column", "mxfp8_e4m3", ScaleRule::floor, false, Forms::column),
    entry("nvfp4 known amax column", "nvfp4", kTe, true, Forms::column),
    entry("fp8_1x128 column", "fp8_1x128", ScaleRule::absmax, false, Forms::column),
    entry("mxfp4 both", "mxfp4", ScaleRule::floor, false, Forms::both),
    entry("mxfp8_e4m3 both", "mxfp8_e4m3", ScaleRule::floor, false, Forms::both),
    entry("nvfp4 known amax both", "nvfp4", kTe, true, Forms::both),
    entry("nvfp4 own amax both", "nvfp4", kTe, false, Forms::both),
    entry("fp8_1x128 both", "fp8_1x128", ScaleRule::absmax, false, Forms::both),
    entry("mxfp4 hadamard", "mxfp4", ScaleRule::floor, false, Forms::row, true),
    entry("nvfp4 known amax hadamard", "nvfp4", kTe, true, Forms::row, true),
    entry("nvfp4 known amax hadamard column", "nvfp4", kTe, true, Forms::column, true),
    entry("mxfp4 stochastic", "mxfp4", ScaleRule::floor, false, Forms::row, false, true),
    entry("nvfp4 known amax stochastic", "nvfp4", kTe, true, Forms::row, false, true),
    entry("nvfp4 known amax hadamard stochastic", "nvfp4", kTe, true, Forms::row, true, true),
    entry("nvfp4 known amax hadamard stochastic column", "nvfp4", kTe, true, Forms::column, true, true),
    entry("nvfp4 known amax gradient: row, column with hadamard, stochastic", "nvfp4", kTe, true, Forms::both, true,
          true),
    {"mxfp4 bf16, plain kernels", "mxfp4", ScaleRule::floor, Dtype::bf16, false, KernelChoice::plain},
    {"nvfp4 own amax bf16, plain kernels", "nvfp4", kTe, Dtype::bf16, false, KernelChoice::plain},
};

QuantizerSpec spec_of(const Entry& entry) {
  for (const NamedQuantizer& preset : quantizer_presets()) {
    if (std::string(preset.name) != entry.preset) continue;
    QuantizerSpec spec = preset.spec;
    spec.rule = entry.rule;
    return spec;
  }
  throw UserError(std::string("no preset ") + entry.preset);
}

Json measure_rates() {
  const std::size_t count = static_cast<std::size_t>(kRows * kCols);
  const Buffer bf16 = cuda::allocate(count * 2);
  const Buffer f32 = cuda::allocate(count * 4);
  fill_normal_on_device(bf16.data.get(), true, kRows * kCols);
  fill_normal_on_device(f32.data.get(), false, kRows * kCols);
  const std::uint32_t amax = 0x40c00000u;
  const Buffer known = cuda::allocate(sizeof amax);
  cuda::copy_to_device(known.data.get(), &amax, sizeof amax);

  Json rates = Json::array();
  const auto copy_rate = [&](const Buffer& from, const char* name) {
    const Buffer to = cuda::allocate(from.bytes);
    const double ms = median_ms(
        [&] {
          NG_CUDA_CHECK(cudaMemcpyAsync(to.data.get(), from.data.get(), from.bytes, cudaMemcpyDeviceToDevice, nullptr));
        },
        20);
    const double rate = 2.0 * static_cast<double>(from.bytes) / ms * 1e-6;
    std::printf("%-64s %9.3f ms %8.1f GB/s\n", name, ms, rate);
    rates.push_back(
        Json::object({{"kernel", name}, {"milliseconds", ms}, {"gigabytes_per_second", rate}, {"share_of_copy", 1.0}}));
    return rate;
  };
  const double copy_bf16 = copy_rate(bf16, "copy bf16");
  const double copy_f32 = copy_rate(f32, "copy f32");
  for (const Entry& entry : kEntries) {
    const bool half = entry.dtype == Dtype::bf16;
    const TensorView x{(half ? bf16 : f32).data.get(),        entry.dtype, kRows, kCols, kCols,
                       Placement{kRows, kCols, 0, 0, nullptr}};
    const bool plain = entry.choice == KernelChoice::plain;
    const auto plan_of = [&](Orientation orientation, bool transform) {
      QuantizerSpec spec = spec_of(entry);
      if (transform)
        spec.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
      if (entry.stochastic) {
        spec.cast.rounding = Rounding::stochastic;
        spec.cast.random_bits = 8;
      }
      cuda::QuantizePlan plan(StepContext{}, x, RowGroups{}, spec, orientation, Site{}, entry.choice,
                              entry.known_amax ? known.as<std::uint32_t>() : nullptr);
      if (!plain && plan.path() == cuda::KernelPath::plain)
        throw LogicError(std::string(entry.name) + " is served by no fast kernel");
      return plan;
    };
    const std::size_t input = (half ? bf16 : f32).bytes;
    const bool second_read = needs_tensor_amax(entry.rule) && !entry.known_amax;
    double bytes = static_cast<double>(input * (second_read ? 2 : 1));
    double ms = 0;
    const auto add = [&](const QuantizedTensor& q) { bytes += static_cast<double>(q.codes.bytes + q.scales.bytes); };
    if (entry.forms == Forms::both) {
      cuda::RowAndColumnPlan plan(plan_of(Orientation::row, false), plan_of(Orientation::column, entry.transform));
      if (!plan.from_one_read()) throw LogicError(std::string(entry.name) + " is not made from one read");
      ms = median_ms([&] { plan.run(nullptr); }, 20);
      add(plan.row());
      add(plan.column());
    } else {
      cuda::QuantizePlan plan =
          plan_of(entry.forms == Forms::row ? Orientation::row : Orientation::column, entry.transform);
      ms = median_ms([&] { plan.run(nullptr); }, plain ? 3 : 20);
      add(plan.result());
    }
    const double rate = bytes / ms * 1e-6;
    const double share = rate / (half ? copy_bf16 : copy_f32);
    std::printf("%-64s %9.3f ms %8.1f GB/s %6.1f %% of copy\n", entry.name, ms, rate, 100.0 * share);
    rates.push_back(Json::object(
        {{"kernel", entry.name}, {"milliseconds", ms}, {"gigabytes_per_second", rate}, {"share_of_copy", share}}));
  }
  return rates;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw UserError("cannot read " + path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The counts of a GoogleTest JSON report, and each test's time.
Json test_summary(const std::string& path) {
  const Json report = Json::parse(read_file(path), path);
  Json cases = Json::object();
  std::int64_t skipped = 0;
  for (const Json& suite : report.at("testsuites").as_array())
    for (const Json& test : suite.at("testsuite").as_array()) {
      const std::string name = suite.at("name").as_string() + "." + test.at("name").as_string();
      const bool skip = test.at("result").as_string() == "SKIPPED";
      skipped += skip ? 1 : 0;
      const bool failed = test.find("failures") != nullptr;
      cases[name] = std::string(skip ? "skipped" : failed ? "FAILED" : "passed") + ", " + test.at("time").as_string();
    }
  return Json::object(
      {{"run", report.at("tests")}, {"failed", report.at("failures")}, {"skipped", skipped}, {"cases", cases}});
}

int report(int argc, char** argv) {
  std::string out_path;
  std::string tests_path;
  std::string revision(git_revision());
  std::string driver = "unknown";
  Json checks = Json::object();
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    const std::string value = argv[i + 1];
    if (key == "--out")
      out_path = value;
    else if (key == "--tests")
      tests_path = value;
    else if (key == "--revision")
      revision = value;
    else if (key == "--driver")
      driver = value;
    else if (key == "--check")
      checks[value.substr(0, value.find('='))] = value.substr(value.find('=') + 1);
    else
      throw UserError("unknown option " + key + "; there are --out --tests --revision --driver --check");
  }
  const cuda::DeviceInfo device = cuda::device_info();
  std::printf("%s, driver %s (CUDA %s), runtime %s\nrevision %s\nsources %s\n", device.name.c_str(), driver.c_str(),
              device.driver.c_str(), device.runtime.c_str(), revision.c_str(), std::string(source_digest()).c_str());
  char date[32] = {};
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  Json result = Json::object({{"device", device.name},
                              {"driver", driver},
                              {"cuda_of_driver", device.driver},
                              {"cuda_of_program", device.runtime},
                              {"made", std::string(date)},
                              {"revision", revision},
                              {"sources", std::string(source_digest())},
                              {"tensor", std::to_string(kRows) + "x" + std::to_string(kCols)},
                              {"bytes", "by definition: inputs once, outputs once; own amax: a second read"},
                              {"instruments", checks},
                              {"rates", measure_rates()}});
  if (!tests_path.empty()) result["tests"] = test_summary(tests_path);
  const std::string text = result.pretty() + "\n";
  if (!out_path.empty()) {
    std::ofstream out(out_path, std::ios::binary);
    out << text;
    if (!out.flush()) throw MachineError("cannot write " + out_path);
  }
  std::cout << text;
  return 0;
}

}  // namespace
}  // namespace ng_test

int main(int argc, char** argv) {
  try {
    return ng_test::report(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << ng::message_of(error) << "\n";
    return ng::exit_code_of(error);
  }
}
