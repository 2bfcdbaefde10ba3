// SPDX-License-Identifier: Apache-2.0
//
// Reading, checking and writing weights as safetensors. Which tensors make a parameter is said in weight_names.cpp.
#include "narrowgauge/training/initial_weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "weight_names.hpp"

namespace ng {

namespace {

/// The files behind a path, each once, in the order of their names: itself, or those of an index.
std::vector<std::string> files_of(const std::string& path) {
  if (!path.ends_with(".json")) return {path};
  const Json index = Json::parse(read_file(path), path);
  const Json* const map = index.find("weight_map");
  if (map == nullptr) throw UserError(fmt::format("{}: has no 'weight_map' of tensors to files", path));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map->as_object())
    files.insert((std::filesystem::path(path).parent_path() / file.as_string()).string());
  return {files.begin(), files.end()};
}

struct Stored {
  std::string file;
  SafetensorsEntry entry;
};

std::map<std::string, Stored> tensors_of(const std::string& path) {
  std::map<std::string, Stored> found;
  for (const std::string& file : files_of(path))
    for (SafetensorsEntry& entry : list_safetensors(file).entries) {
      const std::string name = entry.name;
      if (!found.emplace(name, Stored{file, std::move(entry)}).second)
        throw UserError(fmt::format("{}: tensor '{}' is in {} and in {}", path, name, found.at(name).file, file));
    }
  return found;
}

std::vector<std::vector<WeightPiece>> pieces_in(const ModelConfig& config, const std::map<std::string, Stored>& found) {
  return weight_pieces(config, [&](const std::string& name) { return found.contains(name); });
}

}  // namespace

void check_initial_weights(const std::string& path, const ModelConfig& config) {
  const std::map<std::string, Stored> found = tensors_of(path);
  std::set<std::string> used;
  for (const std::vector<WeightPiece>& pieces : pieces_in(config, found))
    for (const WeightPiece& piece : pieces) {
      used.insert(piece.name);
      const auto it = found.find(piece.name);
      if (it == found.end())
        throw UserError(fmt::format("{}: has no tensor '{}', which model {} needs with shape {}", path, piece.name,
                                    config.name, shape_text(piece.shape)));
      const SafetensorsEntry& entry = it->second.entry;
      if (entry.shape != piece.shape)
        throw UserError(fmt::format("{}: tensor '{}' has shape {}; model {} needs {}", path, piece.name,
                                    shape_text(entry.shape), config.name, shape_text(piece.shape)));
      if (entry.type != "F32" && entry.type != "BF16" && entry.type != "F16")
        throw UserError(fmt::format("{}: tensor '{}' is {}; valid: F32, BF16, F16", path, piece.name, entry.type));
    }
  const std::vector<std::string> names(used.begin(), used.end());
  for (const auto& [name, stored] : found)
    if (!used.contains(name) && !is_surplus_weight(config, name)) {
      const std::optional<std::string> nearest = nearest_key(name, names);
      throw UserError(fmt::format("{}: tensor '{}' is no parameter of model {}{}", path, name, config.name,
                                  nearest ? fmt::format("; the nearest is '{}'", *nearest) : ""));
    }
}

std::string initial_weights_digest(const std::string& path) {
  std::vector<std::string> files = files_of(path);
  if (files.front() != path) files.insert(files.begin(), path);
  Sha256 digest;
  std::vector<char> piece(std::size_t{1} << 20);
  for (const std::string& name : files) {
    std::ifstream file(name, std::ios::binary);
    while (file) {
      file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      digest.update(std::string_view(piece.data(), static_cast<std::size_t>(file.gcount())));
    }
    if (!file.eof()) throw UserError(fmt::format("{}: cannot be read", name));
  }
  return hex_of(digest.finish());
}

void load_initial_weights(const std::string& path, const ModelConfig& config, Backend& backend,
                          Parameters& parameters) {
  const std::map<std::string, Stored> found = tensors_of(path);
  const std::vector<std::vector<WeightPiece>> pieces = pieces_in(config, found);
  for (std::size_t n = 0; n < pieces.size(); ++n) {
    const TensorView& master = parameters.all()[n].master.view;
    std::vector<float> values(static_cast<std::size_t>(master.count()));
    for (const WeightPiece& piece : pieces[n]) {
      const auto stored = found.find(piece.name);
      if (stored == found.end()) throw UserError(fmt::format("{}: has no tensor '{}'", path, piece.name));
      const Array array = read_safetensors(stored->second.file, piece.name);
      if (array.shape != piece.shape)
        throw UserError(fmt::format("{}: tensor '{}' has shape {}, not {}", path, piece.name, shape_text(array.shape),
                                    shape_text(piece.shape)));
      const std::vector<float> part = array.as_f32();
      for (std::size_t i = 0; i < part.size(); ++i)
        if (!std::isfinite(part[i]))
          throw UserError(fmt::format("{}: tensor '{}': element {} is {}", path, piece.name, i, part[i]));
      const std::int64_t rows = static_cast<std::int64_t>(part.size()) / master.cols;
      for (std::int64_t r = 0; r < rows; ++r)
        std::copy_n(part.begin() + source_row(piece.pairs, r) * master.cols, master.cols,
                    values.begin() + (piece.row + r) * master.cols);
    }
    backend.upload(master, values.data());
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
