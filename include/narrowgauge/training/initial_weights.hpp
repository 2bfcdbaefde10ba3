// SPDX-License-Identifier: Apache-2.0
//
// Weights from and to safetensors, so that a run can start where another program, or another run, ended. Written: the
// parameters under their own names and with their own shapes (model/parameters.hpp). Read: these, or the tensors of the
// Hugging Face releases of Mixtral, Qwen3-MoE, OLMoE and DeepSeek, in one file or in many with an index
// (model.safetensors.index.json).
#pragma once

#include <string>

#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/model/parameters.hpp"

namespace ng {

/// Whether a file (or the files of an index, "*.json") holds exactly the parameters of a model: F32, BF16 or F16, each
/// with its shape. UserError naming the first tensor that is missing, of no use, of another shape or of another type.
/// Reads headers only.
void check_initial_weights(const std::string& path, const ModelConfig& config);

/// SHA-256 of the file's bytes; of an index: of its bytes and then those of its files by name. 64 hexadecimal digits:
/// part of a run's identity.
std::string initial_weights_digest(const std::string& path);

/// Replaces all masters by the file's values, widened to FP32 exactly. UserError as above, and for values that are not
/// finite.
void load_initial_weights(const std::string& path, const ModelConfig& config, Backend& backend, Parameters& parameters);

/// Writes all masters as F32 in the order of the parameters. The same weights give the same bytes.
void write_weights(const std::string& path, const Backend& backend, const Parameters& parameters);

}  // namespace ng
