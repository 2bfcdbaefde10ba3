// SPDX-License-Identifier: Apache-2.0
//
// A kernel of cuBLASLt in words, for run files and tests: what was asked, then the library's own numbers.
#include "backend/cublaslt_matmul.hpp"

namespace ng::cuda {

std::string LibraryAlgorithm::text() const {
  static const char* const kModes[] = {"", " tensor", " outer", " 1x128", " 128x128"};
  const auto operand = [](FormatId format, OperandOrder order) {
    return std::string(name_of(format)) + (order == OperandOrder::along_k ? "" : "'");
  };
  return operand(a, order_a) + " " + operand(b, order_b) + " " + std::to_string(m) + "x" + std::to_string(n) + "x" +
         std::to_string(k) + kModes[static_cast<int>(scales)] + (fast_accumulation ? " fast" : "") +
         (output == ProductOutput::bf16 ? " -> bf16" : " -> f32") + ": id " + std::to_string(id) + " tile " +
         std::to_string(tile) + " stages " + std::to_string(stages) + " splits " + std::to_string(splits) +
         " reduction " + std::to_string(reduction) + " swizzle " + std::to_string(swizzle) + " custom " +
         std::to_string(custom) + " inner " + std::to_string(inner) + " cluster " + std::to_string(cluster);
}

}  // namespace ng::cuda
