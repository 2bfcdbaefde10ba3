// SPDX-License-Identifier: Apache-2.0
//
// Promises that only a kernel can see broken. An operation asks for a word, which its kernel may note a fault in
// (runtime/fault.hpp); the backend looks at all words with the next download and throws what the CPU backend throws at
// once: the first fault of the first operation that has one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "narrowgauge/tensor/storage.hpp"
#include "runtime/fault.hpp"

namespace ng::cuda {

class FaultWords {
 public:
  /// What to complain about, from index and value of the fault.
  using Message = std::function<std::string(const Fault& fault)>;

  /// A word for the kernels of one operation, on the default stream. Waits for earlier kernels when all words are
  /// taken.
  [[nodiscard]] FaultWord* watch(Message message);
  /// Waits for the kernels that have a word; LogicError for the first fault. All words are free afterwards.
  void check();

 private:
  static constexpr std::size_t kWords = 64;
  Buffer words_;
  std::vector<Message> messages_;  ///< of the words that are taken
};

}  // namespace ng::cuda
