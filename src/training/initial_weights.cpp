// SPDX-License-Identifier: Apache-2.0
//
// Reading, checking and writing weights as safetensors.
#include "narrowgauge/training/initial_weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/io/safetensors.hpp"

namespace ng {

void check_initial_weights(const std::string& path, const ModelConfig& config) {
  const SafetensorsIndex index = list_safetensors(path);
  std::map<std::string, const SafetensorsEntry*> found;
  for (const SafetensorsEntry& entry : index.entries) found[entry.name] = &entry;
  std::vector<std::string> names;
  const std::vector<Parameter> parameters = describe_parameters(config);
  for (const Parameter& p : parameters) {
    names.push_back(p.name);
    const auto it = found.find(p.name);
    if (it == found.end())
      throw UserError(fmt::format("{}: has no tensor '{}', which model {} needs with shape {}", path, p.name,
                                  config.name, shape_text(p.shape)));
    const SafetensorsEntry& entry = *it->second;
    if (entry.shape != p.shape)
      throw UserError(fmt::format("{}: tensor '{}' has shape {}; model {} needs {}", path, p.name,
                                  shape_text(entry.shape), config.name, shape_text(p.shape)));
    if (entry.type != "F32" && entry.type != "BF16" && entry.type != "F16")
      throw UserError(fmt::format("{}: tensor '{}' is {}; valid: F32, BF16, F16", path, p.name, entry.type));
  }
  for (const SafetensorsEntry& entry : index.entries)
    if (std::find(names.begin(), names.end(), entry.name) == names.end()) {
      const std::optional<std::string> nearest = nearest_key(entry.name, names);
      throw UserError(fmt::format("{}: tensor '{}' is no parameter of model {}{}", path, entry.name, config.name,
                                  nearest ? fmt::format("; the nearest is '{}'", *nearest) : ""));
    }
}

std::string initial_weights_digest(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Sha256 digest;
  std::vector<char> piece(std::size_t{1} << 20);
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    digest.update(std::string_view(piece.data(), static_cast<std::size_t>(file.gcount())));
  }
  if (!file.eof()) throw UserError(fmt::format("{}: cannot be read", path));
  return hex_of(digest.finish());
}

void load_initial_weights(const std::string& path, Backend& backend, Parameters& parameters) {
  for (Parameter& p : parameters.all()) {
    const std::vector<float> values = read_safetensors(path, p.name).as_f32();
    if (static_cast<std::int64_t>(values.size()) != p.master.view.count())
      throw UserError(
          fmt::format("{}: tensor '{}' has {} values, not {}", path, p.name, values.size(), p.master.view.count()));
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        throw UserError(fmt::format("{}: tensor '{}': element {} is {}", path, p.name, i, values[i]));
    backend.upload(p.master.view, values.data());
  }
}

void write_weights(const std::string& path, const Backend& backend, const Parameters& parameters) {
  std::vector<std::pair<std::string, Array>> tensors;
  for (const Parameter& p : parameters.all()) {
    std::vector<float> values(static_cast<std::size_t>(p.master.view.count()));
    backend.download(values.data(), p.master.view);
    tensors.emplace_back(p.name, Array::from<float>(p.shape, values));
  }
  write_safetensors(path, tensors);
}

}  // namespace ng
