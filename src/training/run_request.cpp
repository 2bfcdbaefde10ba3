// SPDX-License-Identifier: Apache-2.0
//
// From the user's words to a checked plan: files read, overrides applied, recipe resolved on the model, identity
// formed.
#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/version.hpp"
#include "narrowgauge/io/token_stream.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/training/initial_weights.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

namespace {

/// The settings whose path begins with `prefix` and a dot, without it. A path without a dot belongs to training.
void apply(TomlDocument& document, const std::string& prefix,
           const std::vector<std::pair<std::string, std::string>>& settings) {
  for (const auto& [path, value] : settings) {
    const std::size_t dot = path.find('.');
    const std::string first = dot == std::string::npos ? "train" : path.substr(0, dot);
    if (first != "train" && first != "model" && first != "recipe")
      throw UserError(fmt::format("--set {}={}: the path begins with train., model. or recipe.", path, value));
    if (first == prefix)
      document.set(dot == std::string::npos ? path : path.substr(dot + 1), value,
                   fmt::format("--set {}={}", path, value));
  }
}

/// Whether any stage has an estimator on the head's weight.
bool estimates_head(const ResolvedRecipe& recipe) {
  const LinearSpec& head = recipe.linear(kOutsideLayers, Linear::head);
  if (operand_spec(head, Operand::weight, Gemm::fprop).estimator.kind != EstimatorKind::straight_through) return true;
  return std::any_of(recipe.switches.begin(), recipe.switches.end(),
                     [](const ResolvedSwitch& entry) { return estimates_head(entry.recipe); });
}

}  // namespace

void RunRequest::read_files() {
  model_text = read_file(model_path);
  recipe_text = read_file(recipe_path);
  if (!record_path.empty() && record_path != "none") record_text = read_file(record_path);
}

Json RunRequest::to_json() const {
  Json json = Json::object();
  json["model_path"] = model_path;
  json["recipe_path"] = recipe_path;
  json["record_path"] = record_path;
  json["data"] = data;
  Json list = Json::array();
  for (const auto& [path, value] : settings) list.push_back(Json::array({path, value}));
  json["settings"] = list;
  json["init_path"] = init_path;
  json["seed"] = seed;
  json["backend"] = backend;
  json["arithmetic"] = arithmetic;
  if (fork)
    json["fork"] = Json::object(
        {{"run_file", fork->run_file}, {"run_id", fork->run_id}, {"digest", fork->digest}, {"step", fork->step}});
  return json;
}

RunRequest RunRequest::from_json(const Json& json) {
  RunRequest r;
  r.model_path = json.at("model_path").as_string();
  r.recipe_path = json.at("recipe_path").as_string();
  r.record_path = json.at("record_path").as_string();
  r.data = json.at("data").as_string();
  for (const Json& item : json.at("settings").as_array())
    r.settings.emplace_back(item.as_array().at(0).as_string(), item.as_array().at(1).as_string());
  // Run files from before there were initial weights from a file do not say it.
  if (const Json* init = json.find("init_path"); init != nullptr) r.init_path = init->as_string();
  r.seed = static_cast<std::uint32_t>(json.at("seed").as_uint());
  r.backend = json.at("backend").as_string();
  r.arithmetic = json.at("arithmetic").as_string();
  if (const auto found = json.as_object().find("fork"); found != json.as_object().end())
    r.fork = ForkPoint{found->second.at("run_file").as_string(), found->second.at("run_id").as_string(),
                       found->second.at("digest").as_string(),
                       static_cast<std::int64_t>(found->second.at("step").as_uint())};
  return r;
}

std::string default_arithmetic(const std::string& backend) {
  return backend == "cuda" || backend.starts_with("checked:cuda/") ? "hopper" : "ieee";
}

RunPlanned plan_run(const RunRequest& request) {
  RunPlanned plan;
  plan.request = request;
  plan.arithmetic = parse_enum<Arithmetic>("--arithmetic", request.arithmetic);

  TomlDocument model = TomlDocument::from_text(request.model_path, request.model_text);
  apply(model, "model", request.settings);
  plan.model = ModelConfig::from_document(model);
  TomlDocument recipe = TomlDocument::from_text(request.recipe_path, request.recipe_text);
  apply(recipe, "recipe", request.settings);
  plan.request.switch_texts.clear();  // only those that this recipe names
  plan.recipe = Recipe::from_document(recipe, [&](const std::string& path) {
    const auto known = request.switch_texts.find(path);
    return plan.request.switch_texts[path] = known != request.switch_texts.end() ? known->second : read_file(path);
  });
  TomlDocument training = TomlDocument::from_text("settings", "");
  apply(training, "train", request.settings);
  plan.training = TrainingConfig::from_table(training.root());
  if (request.record_path == "none") {
    plan.recording = RecordingPlan::none();
  } else if (request.record_path.empty()) {
    plan.recording = RecordingPlan::built_in();
  } else {
    plan.recording = RecordingPlan::from_toml(TomlDocument::from_text(request.record_path, request.record_text));
  }
  plan.resolved = resolve(plan.recipe, plan.model.shape());
  plan.first_steps = first_steps(plan.resolved, plan.training.steps);
  check_arithmetic(plan.resolved, plan.arithmetic);
  if (plan.model.tied_head && estimates_head(plan.resolved))
    throw UserError(
        fmt::format("{}: an estimator on the head would also multiply the embedding's gradient, since {} ties "
                    "them; use tied_head = false or another rule for the head",
                    request.recipe_path, request.model_path));

  const TokenSource data = TokenSource::open(request.data);
  plan.data_digest = data.split_digest();
  plan.data_vocabulary = data.vocabulary();
  if (data.vocabulary() > plan.model.vocabulary)
    throw UserError(fmt::format("{}: its tokens need a vocabulary of {}, the model {} has {} (key 'vocabulary')",
                                request.data, data.vocabulary(), request.model_path, plan.model.vocabulary));
  if (plan.training.sequence_length > plan.model.context)
    throw UserError(fmt::format("sequence_length {} is longer than the model's context of {} ({}, key 'context')",
                                plan.training.sequence_length, plan.model.context, request.model_path));

  const std::int64_t tokens = plan.training.tokens_per_step() / plan.training.micro_batches;
  if (tokens % plan.resolved.token_multiple() != 0)
    throw UserError(
        fmt::format("{}: its Hadamard transform of size {} on wgrad does not divide the {} tokens of a micro-batch "
                    "(batch * sequence_length / "
                    "micro_batches)",
                    request.recipe_path, plan.resolved.token_multiple(), tokens));

  Json identity = Json::object();
  if (!request.init_path.empty()) {
    check_initial_weights(request.init_path, plan.model);
    identity["init"] = initial_weights_digest(request.init_path);
  }
  if (request.fork) {
    if (request.fork->step >= plan.training.steps)
      throw UserError(fmt::format("--from {}@{}: the run ends after {} steps (key steps)", request.fork->run_file,
                                  request.fork->step, plan.training.steps));
    identity["fork"] = Json::object(
        {{"run_id", request.fork->run_id}, {"digest", request.fork->digest}, {"step", request.fork->step}});
  }
  identity["model"] = plan.model.to_json();
  identity["recipe"] = plan.resolved.to_json();
  identity["training"] = plan.training.identity_json();
  identity["data"] = plan.data_digest;
  identity["seed"] = request.seed;
  identity["backend"] = request.backend;
  identity["arithmetic"] = request.arithmetic;
  identity["source"] = std::string(source_digest());
  plan.identity = identity;
  plan.run_id = digest_of(identity).substr(0, 12);
  return plan;
}

RunRequest request_of(const RunReader& run) {
  const Json resolved = Json::parse(run.resolved(), run.path() + ":/config/resolved");
  RunRequest request = RunRequest::from_json(resolved.at("request"));
  for (const GivenFile& file : run.files()) {
    if (file.role == "model") request.model_text = file.text;
    if (file.role == "recipe") request.recipe_text = file.text;
    if (file.role.starts_with("switch")) request.switch_texts[file.path] = file.text;
    if (file.role == "record") request.record_text = file.text;
  }
  return request;
}

}  // namespace ng
