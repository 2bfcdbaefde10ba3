// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a model that are its state: FP32 masters and FP32 gradients, in a fixed order with fixed names.
// Initial values are a function of (seed, name, element) and of nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/model/model_config.hpp"

namespace ng {

struct Parameter {
  std::string name;  ///< "layer.3/fc1"
  std::vector<std::int64_t>
      shape;                ///< as the field writes it, e.g. [E, 2F, C]; in memory leading axes are folded into rows
  double init_std = 0.0;    ///< 0: all elements start at init_value
  float init_value = 1.0f;  ///< 1: a gain; 0: a router's bias
  bool decay = false;       ///< weight decay applies (matrices yes, gains no)
  bool trained = true;      ///< has a gradient and optimizer state; a router's bias follows the load instead
  Tensor master;            ///< f32 [rows, cols]
  Tensor gradient;          ///< f32 [rows, cols]; no rows unless `trained`

  std::int64_t rows() const { return master.view.rows; }
  std::int64_t cols() const { return master.view.cols; }
};

/// Names and shapes of a configuration, in order, without memory. Output projections (attn_out, fc2, shared_fc2,
/// dense_fc2) start with init_std / sqrt(2 layers), all other matrices with init_std, gains with one, router biases
/// with zero.
std::vector<Parameter> describe_parameters(const ModelConfig& config);

class Parameters {
 public:
  /// Allocates masters and zeroed gradients; masters are initialised from the counter RNG: purpose initial_weights,
  /// tensor id from the name, step 0.
  Parameters(const ModelConfig& config, Backend& backend, std::uint32_t seed);

  std::vector<Parameter>& all() { return all_; }
  const std::vector<Parameter>& all() const { return all_; }
  /// LogicError if there is none.
  Parameter& at(const std::string& name);
  Parameter& layer(std::int64_t layer, const std::string& name) {
    return at("layer." + std::to_string(layer) + "/" + name);
  }
  void zero_gradients(Backend& backend);

 private:
  std::vector<Parameter> all_;
};

}  // namespace ng
