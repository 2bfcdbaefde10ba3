// SPDX-License-Identifier: Apache-2.0
//
// One training step of the program's model, opened up for another program: initial weights out, or weights and tokens
// in and the losses, the router's choices and every gradient out, all as safetensors. No optimizer, no recording.
//
//   one_step_dump weights MODEL.toml SEED OUT.safetensors
//   one_step_dump step MODEL.toml RECIPE.toml WEIGHTS.safetensors IDS.npy TARGETS.npy OUT.safetensors
//
// IDS and TARGETS are integers [sequences, length]. OUT of `step`: loss (mean cross entropy), aux_loss, z_loss
// (coefficients included, sums over the layers) F64 [1]; token_loss F32 [sequences, length]; for each MoE layer L
// expert/layer.L I32 and weight/layer.L F32, [tokens, K]; and gradient/NAME of loss + aux_loss + z_loss, F32, for every
// trained parameter in its own shape.
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gradient/production.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "narrowgauge/model/model.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "narrowgauge/training/initial_weights.hpp"

namespace {

using Tensors = std::vector<std::pair<std::string, ng::Array>>;

std::vector<std::int32_t> integers(const ng::Array& array) {
  std::vector<std::int32_t> values;
  const auto take = [&](auto list) {
    for (const auto value : list) values.push_back(static_cast<std::int32_t>(value));
  };
  switch (array.dtype) {
    case ng::Dtype::u8:
      take(array.as<std::uint8_t>());
      break;
    case ng::Dtype::u16:
      take(array.as<std::uint16_t>());
      break;
    case ng::Dtype::i32:
      take(array.as<std::int32_t>());
      break;
    case ng::Dtype::i64:
      take(array.as<std::int64_t>());
      break;
    default:
      throw ng::UserError(array.origin + ": is " + std::string(name_of(array.dtype)) + "; valid: u8, u16, i32, i64");
  }
  return values;
}

template <class T>
ng::Array download(const ng::Backend& backend, const ng::TensorView& view, std::vector<std::int64_t> shape) {
  std::vector<T> values(static_cast<std::size_t>(view.count()));
  backend.download(values.data(), view);
  return ng::Array::from<T>(std::move(shape), values);
}

void write_initial(const std::string& model_path, const std::string& seed, const std::string& out) {
  const auto backend = ng::make_cpu_backend({1, ng::Arithmetic::ieee, false});
  const ng::Parameters parameters(ng::ModelConfig::from_file(model_path), *backend,
                                  static_cast<std::uint32_t>(std::stoul(seed)));
  ng::write_weights(out, *backend, parameters);
}

void write_step(const std::string& model_path, const std::string& recipe_path, const std::string& weights,
                const std::string& ids_path, const std::string& targets_path, const std::string& out) {
  const ng::ModelConfig config = ng::ModelConfig::from_file(model_path);
  const ng::ResolvedRecipe recipe = ng::resolve(ng::Recipe::from_file(recipe_path), config.shape());
  const ng::Array ids = ng::read_npy(ids_path), targets = ng::read_npy(targets_path);
  if (ids.shape.size() != 2 || ids.shape != targets.shape)
    throw ng::UserError(ids_path + ", " + targets_path + ": need one shape [sequences, length]");
  ng::check_initial_weights(weights, config);
  const auto backend = ng::make_cpu_backend({1, ng::Arithmetic::ieee, false});
  ng_test::WatchingCommunicator communicator;
  ng::Edges edges(config, recipe);
  ng::Model model(config, *backend, communicator, 0);
  ng::load_initial_weights(weights, config, *backend, model.parameters());
  const std::vector<std::int32_t> id_list = integers(ids), target_list = integers(targets);
  const ng::Batch batch{id_list, target_list, ids.shape[0], ids.shape[1], ids.count(), 0};
  const ng::ForwardResult result = model.train({0, 0, 0, ng::Phase::train}, batch, edges);

  const std::vector<float> token_losses = [&] {
    std::vector<float> values(static_cast<std::size_t>(ids.count()));
    backend->download(values.data(), result.token_loss.view);
    return values;
  }();
  double loss = 0.0, aux = 0.0, z = 0.0;
  for (const float value : token_losses) loss += static_cast<double>(value);
  loss /= static_cast<double>(token_losses.size());
  Tensors tensors;
  for (std::size_t i = 0; i < result.moe.size(); ++i) {
    aux += result.moe[i].aux_loss;
    z += result.moe[i].z_loss;
    const ng::Routing& routing = communicator.routings.at(i);
    const std::string layer = "/layer." + std::to_string(result.moe[i].layer);
    const std::vector<std::int64_t> shape = {routing.expert.view.rows, routing.expert.view.cols};
    tensors.emplace_back("expert" + layer, download<std::int32_t>(*backend, routing.expert.view, shape));
    tensors.emplace_back("weight" + layer, download<float>(*backend, routing.weight.view, shape));
  }
  for (const auto& [name, value] : {std::pair<const char*, double>{"loss", loss}, {"aux_loss", aux}, {"z_loss", z}})
    tensors.emplace_back(name, ng::Array::from<double>({1}, std::vector<double>{value}));
  tensors.emplace_back("token_loss", ng::Array::from<float>(ids.shape, token_losses));
  for (const ng::Parameter& p : model.parameters().all())
    if (p.trained) tensors.emplace_back("gradient/" + p.name, download<float>(*backend, p.gradient.view, p.shape));
  ng::write_safetensors(out, tensors);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  try {
    if (a.size() == 4 && a[0] == "weights")
      write_initial(a[1], a[2], a[3]);
    else if (a.size() == 7 && a[0] == "step")
      write_step(a[1], a[2], a[3], a[4], a[5], a[6]);
    else
      throw ng::UserError(
          "usage: one_step_dump weights MODEL.toml SEED OUT | step MODEL.toml RECIPE.toml WEIGHTS IDS TARGETS OUT");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "one_step_dump: %s\n", error.what());
    return 2;
  }
  return 0;
}
