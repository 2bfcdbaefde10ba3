// SPDX-License-Identifier: Apache-2.0
//
// The report of a run on a GPU: what the tests and instruments found, and the speeds that `bench kernel` measures.
// gpu_report --out FILE [--tests PROGRAM=GTEST.json]... [--revision TEXT] [--driver TEXT] [--check NAME=RESULT]...
// [--only TEXT]...
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>

#include "narrowgauge/backend/kernel_bench.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/version.hpp"
#include "runtime/device.hpp"

namespace ng_test {
namespace {

using namespace ng;

Json as_json(const KernelSpeed& speed) {
  return Json::object({{"kernel", speed.name},
                       {"shape", speed.shape},
                       {"milliseconds", speed.milliseconds},
                       {speed.ceiling == Ceiling::copy ? "gigabytes_per_second" : "teraflops", speed.rate},
                       {"ceiling", name_of(speed.ceiling)},
                       {"share", speed.share}});
}

Json measure_rates(const KernelBenchOptions& options) {
  Json rates = Json::array();
  (void)bench_cuda_kernels(options, [&](const KernelSpeed& speed) {
    std::printf("%-72s %-20s %9.3f ms %9.1f %s %6.1f %% of %s\n", speed.name.c_str(), speed.shape.c_str(),
                speed.milliseconds, speed.rate, speed.ceiling == Ceiling::copy ? "GB/s" : "TFLOP/s",
                100.0 * speed.share, name_of(speed.ceiling));
    std::fflush(stdout);
    rates.push_back(as_json(speed));
  });
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
  Json tests = Json::object();
  std::string revision(git_revision());
  std::string driver = "unknown";
  Json checks = Json::object();
  KernelBenchOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    const std::string value = argv[i + 1];
    if (key == "--out")
      out_path = value;
    else if (key == "--tests")
      tests[value.substr(0, value.find('='))] = test_summary(value.substr(value.find('=') + 1));
    else if (key == "--revision")
      revision = value;
    else if (key == "--driver")
      driver = value;
    else if (key == "--only")
      options.only.push_back(value);
    else if (key == "--check")
      checks[value.substr(0, value.find('='))] = value.substr(value.find('=') + 1);
    else
      throw UserError("unknown option " + key + "; there are --out --tests --revision --driver --only --check");
  }
  const cuda::DeviceInfo device = cuda::device_info();
  std::printf("%s, driver %s (CUDA %s), runtime %s\nrevision %s\nsources %s\n", device.name.c_str(), driver.c_str(),
              device.driver.c_str(), device.runtime.c_str(), revision.c_str(), std::string(source_digest()).c_str());
  char date[32] = {};
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  const Json result = Json::object({{"device", device.name},
                                    {"driver", driver},
                                    {"cuda_of_driver", device.driver},
                                    {"cuda_of_program", device.runtime},
                                    {"made", std::string(date)},
                                    {"revision", revision},
                                    {"sources", std::string(source_digest())},
                                    {"bytes", "by definition: inputs once, outputs once; own amax: a second read"},
                                    {"instruments", checks},
                                    {"tests", tests},
                                    {"rates", measure_rates(options)}});
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
