// SPDX-License-Identifier: Apache-2.0
//
// The makers behind `make_backend`: each backend's library defines its own. Either the CUDA backend or its stub is
// linked; both define the same two functions, so that no call site asks which one it is.
#pragma once

#include <memory>
#include <string>

#include "narrowgauge/backend/backend.hpp"

namespace ng {

/// The CPU backend. UserError when `options.threads` is not at least 1 or the arithmetic is not offered.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

/// The CUDA backend. UserError where it is absent, saying why and how to get it.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

/// Every operation on both, with the first one's inputs; LogicError at the first byte that differs, with operation,
/// site and place. Their arithmetics may differ only to see that. Results are the first one's.
std::unique_ptr<Backend> make_checked_backend(std::unique_ptr<Backend> first, std::unique_ptr<Backend> second);

/// Why there is no CUDA backend, in one sentence; empty when there is one.
std::string cuda_absent_reason();

}  // namespace ng
