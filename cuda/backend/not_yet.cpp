// SPDX-License-Identifier: Apache-2.0
//
// Operations that are still to be written; make_cuda_backend refuses as long as this file exists.
#include "backend/cuda_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"

#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace ng::cuda {

namespace {
[[noreturn]] void not_yet(const char* operation) {
  throw LogicError(std::string("not written yet: ") + operation);
}
}  // namespace


}  // namespace ng::cuda
