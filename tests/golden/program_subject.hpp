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

/// Codes, scales and decoded values of one quantization by a backend. `context` and `site` key the random draws.
ng_oracle::Quantized quantize_with(ng::Backend& backend, const std::vector<float>& x, std::size_t rows,
                                   std::size_t cols, const ng::QuantizerSpec& spec, ng::Orientation orientation,
                                   const ng::StepContext& context = {}, const ng::Site& site = {});

Subject program_subject(std::shared_ptr<ng::Backend> backend);

}  // namespace ng_golden
