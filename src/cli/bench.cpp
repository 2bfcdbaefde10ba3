// SPDX-License-Identifier: Apache-2.0
//
// `bench`: speeds. `kernel`: each kernel of a device as a share of the device's own ceilings, measured first in the
// same run; `train`: steps of a training run.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "bench_cpu.hpp"
#include "commands.hpp"
#include "narrowgauge/backend/kernel_bench.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/training/trainer.hpp"
#include "output.hpp"
#include "study_files.hpp"

namespace ng::cli {
namespace {

std::string line_of(const KernelSpeed& speed) {
  const bool memory = speed.ceiling == Ceiling::copy;
  const std::string share =
      speed.share == 0.0 ? "" : fmt::format("{:6.1f} % of {}", 100.0 * speed.share, name_of(speed.ceiling));
  return fmt::format("{:<64} {:>18} {:>10.4f} ms {:>9.1f} {:<7} {}\n", speed.name, speed.shape, speed.milliseconds,
                     speed.rate, memory ? "GB/s" : "TFLOP/s", share);
}

Json json_of(const KernelSpeed& speed) {
  return Json::object({{"kernel", speed.name},
                       {"shape", speed.shape},
                       {"milliseconds", speed.milliseconds},
                       {speed.ceiling == Ceiling::copy ? "gigabytes_per_second" : "teraflops", speed.rate},
                       {"ceiling", name_of(speed.ceiling)},
                       {"share", speed.share}});
}

/// A folder of its own for a run that nobody keeps.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "narrowgauge-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw_file_error("create", name, errno);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

int bench_kernel(const Arguments& arguments) {
  KernelBenchOptions options;
  options.only = arguments.all("only");
  if (arguments.has("repeats")) options.repeats = static_cast<int>(arguments.integer("repeats", 1, 100000));
  const auto out = arguments.optional("out");
  if (out && std::filesystem::exists(*out)) arguments.fail(fmt::format("--out {} exists", *out));
  std::optional<AtomicFile> file;  // opened before the measuring, which takes minutes
  if (out) file.emplace(*out);
  const auto show = [](const KernelSpeed& speed) { write_stdout(line_of(speed)); };
  const bool cuda = arguments.get("backend") == "cuda";
  const KernelBenchReport report =
      cuda ? bench_cuda_kernels(options, show)
           : bench_cpu_kernels(options, static_cast<int>(arguments.integer("threads", 1, 4096)), show);
  if (report.kernels.empty()) {
    std::string only;
    for (const std::string& part : options.only) only += (only.empty() ? "" : " ") + part;
    arguments.fail(fmt::format("no kernel has --only {} in its name; without --only all are measured", only));
  }
  write_stdout(fmt::format("{}{}\n", report.device,
                           cuda ? fmt::format(", driver for CUDA {}, CUDA {}", report.driver, report.runtime) : ""));
  if (!file) return kExitDone;
  Json list = Json::array();
  for (const auto* speeds : {&report.ceilings, &report.kernels})
    for (const KernelSpeed& speed : *speeds) list.push_back(json_of(speed));
  const Json result = Json::object({{"device", report.device},
                                    {"cuda_of_driver", report.driver},
                                    {"cuda_of_program", report.runtime},
                                    {"speeds", list}});
  file->write(result.pretty() + "\n");
  file->commit();
  return kExitDone;
}

int bench_train(const Arguments& arguments) {
  for (const char* needed : {"model", "recipe", "data"})
    if (!arguments.has(needed)) arguments.fail(fmt::format("train: --{} is needed", needed));
  RunRequest request;
  request.model_path = study_file("models", arguments.get("model")).string();
  request.recipe_path = study_file("recipes", arguments.get("recipe")).string();
  request.record_path = "none";
  request.data = corpus_file(arguments.get("data")).string();
  request.backend = arguments.get("backend");
  request.arithmetic = arguments.optional("arithmetic").value_or(default_arithmetic(request.backend));
  for (const std::string& setting : arguments.all("set"))
    request.settings.push_back(split_setting(setting, "--set " + setting));
  constexpr std::int64_t kWarmUp = 2;
  const std::int64_t steps = (arguments.has("steps") ? arguments.integer("steps", 1) : 10) + kWarmUp;
  for (const auto& [key, value] : {std::pair{"train.steps", std::to_string(steps)},
                                   {"train.eval_every", "0"},
                                   {"train.eval_windows", "1"},
                                   {"train.checkpoint_every", "0"}})
    request.settings.emplace_back(key, value);
  request.read_files();
  const RunPlanned plan = plan_run(request);

  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  Clock::time_point last{};
  RunOptions options;
  options.backend.threads = static_cast<int>(arguments.integer("threads", 1, 4096));
  options.closing = false;
  options.interrupted = [] { return interrupt_requested(); };
  options.progress = [&](const RunProgressReport& report) {
    const Clock::time_point now = Clock::now();
    if (report.step > kWarmUp) seconds.push_back(std::chrono::duration<double>(now - last).count());
    last = now;
  };
  const TemporaryFolder folder;
  (void)train_run(plan, (folder.path() / "bench.h5").string(), options);
  if (seconds.empty()) throw MachineError("bench train: the run reported no step");
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double tokens = static_cast<double>(plan.training.tokens_per_step());
  write_stdout(
      fmt::format("{} on {} ({}): {} steps of {:.0f} tokens, median {:.3f} ms (fastest {:.3f}, slowest {:.3f}), "
                  "{:.0f} tokens/s\n",
                  plan.resolved.name, request.backend, request.arithmetic, seconds.size(), tokens, 1e3 * median,
                  1e3 * seconds.front(), 1e3 * seconds.back(), tokens / median));
  return kExitDone;
}

int run(const Arguments& arguments) {
  const bool kernel = *arguments.operand("what") == "kernel";
  const std::vector<std::string> foreign =
      kernel ? std::vector<std::string>{"model", "recipe", "data", "steps", "set", "arithmetic"}
             : std::vector<std::string>{"only", "repeats", "out"};
  for (const std::string& option : foreign)
    if (arguments.has(option))
      arguments.fail(fmt::format("--{} does not go with {}", option, *arguments.operand("what")));
  return kernel ? bench_kernel(arguments) : bench_train(arguments);
}

}  // namespace

Command bench_command() {
  return {"bench",
          "speeds, with the machine's own ceilings measured in the same run",
          {{"what", Occurs::required, "`kernel`: a device's kernels; `train`: steps of a run", {"kernel", "train"}}},
          {
              {"backend", "NAME", Occurs::optional, "cuda", "device", {"cpu", "cuda"}},
              {"only", "TEXT", Occurs::repeated, "", "kernel: those with TEXT in their name"},
              {"repeats", "N", Occurs::optional, "", "kernel: runs of each, 20 unless given; the median counts"},
              {"out", "SPEEDS.json", Occurs::optional, "", "kernel: the figures as JSON; must not exist"},
              {"model", "M.toml", Occurs::optional, "", "train: a name of studies/models or a file"},
              {"recipe", "R.toml", Occurs::optional, "", "train: a name of studies/recipes or a file"},
              {"data", "D", Occurs::optional, "", "train: as in `train`"},
              {"steps", "N", Occurs::optional, "", "train: measured steps, 10 unless given, after two more"},
              {"set", "PATH=VALUE", Occurs::repeated, "", "train: as in `train`"},
              {"arithmetic", "NAME", Occurs::optional, "", "train: as in `train`", {"ieee", "hopper"}},
              {"threads", "N", Occurs::optional, "1", "CPU threads"},
          },
          run};
}

}  // namespace ng::cli
