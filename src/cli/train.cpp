// SPDX-License-Identifier: Apache-2.0
//
// `train`: one run, from the beginning or from where it was cut.
#include <fmt/format.h>

#include <filesystem>

#include "commands.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/training/trainer.hpp"
#include "output.hpp"
#include "study_files.hpp"

namespace ng::cli {
namespace {

RunRequest request_from(const Arguments& arguments) {
  for (const char* needed : {"model", "recipe", "data", "out"})
    if (!arguments.has(needed)) arguments.fail(fmt::format("--{} is needed (or --resume RUN.h5)", needed));
  RunRequest request;
  request.model_path = study_file("models", arguments.get("model")).string();
  request.recipe_path = study_file("recipes", arguments.get("recipe")).string();
  request.record_path = arguments.optional("record").value_or("");
  if (const auto init = arguments.optional("init")) request.init_path = std::filesystem::absolute(*init).string();
  request.data = corpus_file(arguments.get("data")).string();
  request.seed = static_cast<std::uint32_t>(arguments.integer("seed", 0, 0xffffffffll));
  request.backend = arguments.get("backend");
  request.arithmetic = arguments.optional("arithmetic").value_or(default_arithmetic(request.backend));
  if (arguments.has("steps"))
    request.settings.emplace_back("train.steps", fmt::format("{}", arguments.integer("steps", 1)));
  for (const std::string& setting : arguments.all("set"))
    request.settings.push_back(split_setting(setting, "--set " + setting));
  request.read_files();
  return request;
}

/// --from RUN.h5@STEP: that run's request with what is given beside it.
RunRequest forked_from(const Arguments& arguments, const std::string& text) {
  for (const char* other : {"model", "data", "init", "resume"})
    if (arguments.has(other)) arguments.fail(fmt::format("--{} cannot be given with --from: the run says it", other));
  if (!arguments.has("out")) arguments.fail("--out is needed");
  const std::size_t at = text.rfind('@');
  const std::string digits = at == std::string::npos ? "" : text.substr(at + 1);
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos)
    arguments.fail(fmt::format("--from {} is not RUN.h5@STEP", text));
  RunRequest request = fork_request(text.substr(0, at), std::stoll(digits));
  if (const auto recipe = arguments.optional("recipe")) {
    request.recipe_path = study_file("recipes", *recipe).string();
    request.recipe_text = read_file(request.recipe_path);
    request.switch_texts.clear();  // of that run's recipe
  }
  if (const auto record = arguments.optional("record")) {
    request.record_path = *record;
    request.record_text = *record == "none" ? "" : read_file(*record);
  }
  if (arguments.has("steps"))
    request.settings.emplace_back("train.steps", fmt::format("{}", arguments.integer("steps", 1)));
  for (const std::string& setting : arguments.all("set"))
    request.settings.push_back(split_setting(setting, "--set " + setting));
  return request;
}

int run(const Arguments& arguments) {
  const bool quiet = arguments.flag("quiet");
  StatusLine status(stderr, StatusLine::detect(stderr, quiet));
  std::string label;
  RunOptions options;
  options.backend.threads = static_cast<int>(arguments.integer("threads", 1, 4096));
  options.backend.baseline_isa = arguments.get("isa") == "baseline";
  options.interrupted = [] { return interrupt_requested(); };
  options.progress = [&](const RunProgressReport& report) {
    status.update({label, report.step, report.steps, fmt::format("{:.4f}", report.loss),
                   fmt::format("{:.0f} tokens/s", report.tokens_per_second),
                   duration_text(report.seconds_left) + " left"});
  };

  std::string file;
  RunResult result;
  if (const auto resumed = arguments.optional("resume")) {
    for (const char* other : {"model", "recipe", "data", "out", "record", "init", "steps"})
      if (arguments.has(other))
        arguments.fail(fmt::format("--{} cannot be given with --resume: the run file says it", other));
    if (!arguments.all("set").empty()) arguments.fail("--set cannot be given with --resume: the run file says it");
    file = *resumed;
    label = std::filesystem::path(file).stem().string();
    result = resume_run(file, options);
  } else {
    const auto from = arguments.optional("from");
    const RunPlanned plan = plan_run(from ? forked_from(arguments, *from) : request_from(arguments));
    file = arguments.get("out");
    label = plan.resolved.name + " seed " + std::to_string(plan.request.seed);
    result = train_run(plan, file, options);
  }
  status.finish();
  if (result.carrier_losses > 0)
    write_stderr(
        fmt::format("{} elements of emulated operands lay outside the exponents of the BF16 carrier and entered "
                    "products rounded\n",
                    result.carrier_losses));
  write_stdout(fmt::format("{}: {} steps, last training loss {:.6f}, held-out loss {:.6f} (in BF16 {:.6f}), {:.1f} s\n",
                           file, result.steps, result.loss, result.eval_loss, result.eval_loss_bf16, result.seconds));
  return kExitDone;
}

}  // namespace

Command train_command() {
  return {"train",
          "one run: trains a model under a recipe and records it to HDF5",
          {},
          {
              {"model", "M.toml", Occurs::optional, "", "model: a name of studies/models or a file"},
              {"recipe", "R.toml", Occurs::optional, "", "recipe: a name of studies/recipes or a file"},
              {"data", "D", Occurs::optional, "", "a name of data/corpora, a corpus manifest, a text, or token shards"},
              {"out", "RUN.h5", Occurs::optional, "", "run file; must not exist"},
              {"resume", "RUN.h5", Occurs::optional, "", "go on with an interrupted or killed run, byte for byte"},
              {"from", "RUN.h5@STEP", Occurs::optional, "",
               "a new run from the state of another after STEP steps, under --recipe and --set"},
              {"steps", "N", Occurs::optional, "", "steps, short for --set train.steps=N"},
              {"seed", "S", Occurs::optional, "0", "seed of weights, data order and random rounding"},
              {"set", "PATH=VALUE", Occurs::repeated, "",
               "override: train.KEY, model.KEY or recipe.KEY (a bare KEY is train's)"},
              {"init", "W.safetensors", Occurs::optional, "",
               "initial weights, under our names or Hugging Face's; or the .json index of many files"},
              {"record", "PLAN.toml", Occurs::optional, "", "recording plan; `none` records no tensors"},
              {"backend",
               "NAME",
               Occurs::optional,
               "cpu",
               "device; checked: both, byte for byte",
               {"cpu", "cuda", "checked:cuda/cpu"}},
              {"arithmetic",
               "NAME",
               Occurs::optional,
               "",
               "arithmetic of the products; hopper where the backend is cuda, else ieee",
               {"ieee", "hopper"}},
              {"threads", "N", Occurs::optional, "1", "CPU threads; no result depends on it"},
              {"isa", "NAME", Occurs::optional, "best", "CPU kernels; no result depends on it", {"best", "baseline"}},
              {"quiet", "", Occurs::optional, "", "no progress"},
          },
          run};
}

}  // namespace ng::cli
