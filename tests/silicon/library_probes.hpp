// SPDX-License-Identifier: Apache-2.0
//
// Questions to cuBLASLt that random products do not answer: where chains end, which k share a step, what special values
// become, how beta enters.
#pragma once

#include <ostream>

namespace ng_silicon {

/// For every algorithm that the library lists for some shapes: which k still see a large product at k = 0, and which
/// share its step. One line each.
void probe_chains(std::ostream& out);

/// Products of two special values, every type and output: one line each.
void probe_library_specials(std::ostream& out);

/// alpha and beta: how many elements each way of writing alpha * sum + beta * c explains.
void probe_alpha_beta(std::ostream& out);

/// The accumulators that `validate --probe` finds behind the library's products, and its answers as bits.
void fit_library(std::ostream& out);

}  // namespace ng_silicon
