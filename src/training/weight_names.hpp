// SPDX-License-Identifier: Apache-2.0
//
// Where the rows of a parameter lie in a file of weights: under its own name, or cut into the tensors that the Hugging
// Face releases of Mixtral, Qwen3-MoE, OLMoE and DeepSeek (V2-Lite, V3) consist of.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "narrowgauge/model/parameters.hpp"

namespace ng {

/// Heads of `head` rows whose last `rotated` rows stand in pairs (0, 1), (2, 3), ... where the model has (i, i + R/2).
struct PairedRows {
  std::int64_t head = 0;
  std::int64_t rotated = 0;  ///< R; 0: the rows are as the model has them
};

/// One tensor of a file: rows [row, row + rows) of a parameter, whose leading axes are folded into rows.
struct WeightPiece {
  std::string name;
  std::vector<std::int64_t> shape;  ///< demanded
  std::int64_t row = 0;
  PairedRows pairs{};
};

/// Whether a file has a tensor of this name.
using HasTensor = std::function<bool(const std::string& name)>;

/// The pieces of each parameter of the configuration, in the order of describe_parameters. The names are Hugging Face's
/// if the file has the embedding under its name there, else our own.
std::vector<std::vector<WeightPiece>> weight_pieces(const ModelConfig& config, const HasTensor& has);

/// Names that a Hugging Face file may hold although no parameter is made of them: tables of angles, and layers behind
/// the last one (DeepSeek-V3's module for a second token).
bool is_surplus_weight(const ModelConfig& config, const std::string& name);

/// Row of the piece that row r of the parameter's part comes from.
std::int64_t source_row(const PairedRows& pairs, std::int64_t r);

}  // namespace ng
