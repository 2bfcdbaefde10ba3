// SPDX-License-Identifier: Apache-2.0
//
// `models`: what there is, and how many parameters a model has.
#include <fmt/format.h>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "output.hpp"
#include "study_files.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

void list() {
  TextTable table(
      {"model", "total", "active", "layers", "hidden", "experts", "top-k", "vocabulary"},
      {Align::left, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right});
  for (const auto& file : study_files("models")) {
    const ModelConfig m = ModelConfig::from_file(file);
    table.add({m.name, short_count(m.total_parameters()), short_count(m.active_parameters()),
               fmt::format("{}", m.layers), fmt::format("{}", m.hidden), fmt::format("{}", m.experts),
               fmt::format("{}", m.top_k), fmt::format("{}", m.vocabulary)});
  }
  write_stdout(table.text());
}

int run(const Arguments& arguments) {
  const std::optional<std::string> name = arguments.operand("NAME");
  if (!name) {
    list();
    return kExitDone;
  }
  const ModelConfig model = ModelConfig::from_file(study_file("models", *name));
  const Json json = Json::object({{"name", model.name},
                                  {"total_parameters", model.total_parameters()},
                                  {"active_parameters", model.active_parameters()},
                                  {"config", model.to_json()}});
  write_stdout(fmt::format("{}\n", json.pretty()));
  return kExitDone;
}

}  // namespace

Command models_command() {
  return {"models",
          "the models there are with total and active parameters; with NAME, one in full, as JSON",
          {{"NAME", Occurs::optional, "a model of studies/models, or a file"}},
          {},
          run};
}

}  // namespace ng::cli
