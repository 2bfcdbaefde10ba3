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

/// Why there is no CUDA backend, in one sentence; empty when there is one.
std::string cuda_absent_reason();

}  // namespace ng
