// SPDX-License-Identifier: Apache-2.0
//
// What a run file says of a run before its first step: products, casts, formats, memory.
#pragma once

#include <vector>

#include "narrowgauge/model/edges.hpp"
#include "narrowgauge/model/parameters.hpp"
#include "narrowgauge/recording/run_rows.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

/// One row per product of the model, as it is executed.
std::vector<GemmRow> gemm_rows(Edges& edges, Arithmetic arithmetic, const std::string& algorithm);

/// Casts of whole tensors, per layer, in the order of the dataflow.
std::vector<CastRow> cast_rows(Edges& edges);

/// Formats whose decode tables a reader of the run file may want.
std::vector<FormatId> formats_in_use(Edges& edges);

/// Kinds of bytes that a run reports: weights, gradients, optimizer, and what is saved between forward and backward by
/// storage ("saved_e4m3").
std::vector<std::string> memory_kinds(Edges& edges);

/// The setup of the run file.
RunSetup run_setup(const RunPlanned& plan, Edges& edges, const std::vector<BoundEntry>& recording, Backend& backend,
                   const std::string& checkpoint_folder);

}  // namespace ng
