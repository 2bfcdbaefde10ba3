// SPDX-License-Identifier: Apache-2.0
//
// What a run file says of a run before its first step: products, casts, formats, memory.
#pragma once

#include <memory>
#include <vector>

#include "narrowgauge/model/edges.hpp"
#include "narrowgauge/model/parameters.hpp"
#include "narrowgauge/recording/run_rows.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

/// The edges of each stage of the recipe.
using Stages = std::vector<std::unique_ptr<Edges>>;

/// One row per product of the model, as it is executed.
std::vector<GemmRow> gemm_rows(Edges& edges, Arithmetic arithmetic, const std::string& algorithm);

/// Casts of whole tensors, per layer, in the order of the dataflow.
std::vector<CastRow> cast_rows(Edges& edges);

/// Formats whose decode tables a reader of the run file may want.
std::vector<FormatId> formats_in_use(const Stages& stages);

/// Kinds of bytes that a run reports: weights, gradients, optimizer, and what is saved between forward and backward by
/// storage ("saved_e4m3").
std::vector<std::string> memory_kinds(const Stages& stages);

/// The setup of the run file; products and casts are those of the first stage.
RunSetup run_setup(const RunPlanned& plan, const Stages& stages, const std::vector<BoundEntry>& recording,
                   Backend& backend, const std::string& checkpoint_folder);

}  // namespace ng
