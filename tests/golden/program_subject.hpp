// SPDX-License-Identifier: Apache-2.0
//
// The program before the judge: casts from the numerics layer, block quantization through a backend, so that the tested
// path is the one that training runs.
#pragma once

#include <memory>

#include "narrowgauge/backend/backend.hpp"
#include "subject.hpp"

namespace ng_golden {

/// The oracle's spec in the program's words. std::invalid_argument for a format or choice that the program has not.
ng::QuantizerSpec program_spec(const ng_oracle::BlockSpec& spec);

/// Codes, scales and decoded values of a quantized tensor, downloaded. `tensor_scale` is the first group's; `largest`
/// and `tensor_amax` stay empty.
ng_oracle::Quantized read_back(ng::Backend& backend, const ng::QuantizedTensor& q);

/// x [rows, cols] in the backend's memory, its own logical tensor.
ng::Tensor uploaded(ng::Backend& backend, const std::vector<float>& x, std::size_t rows, std::size_t cols);

Subject program_subject(std::shared_ptr<ng::Backend> backend);

}  // namespace ng_golden
