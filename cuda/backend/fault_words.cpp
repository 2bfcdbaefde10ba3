// SPDX-License-Identifier: Apache-2.0
//
// Words that kernels note faults in.
#include "backend/fault_words.hpp"

#include <utility>

#include "narrowgauge/base/check.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

FaultWord* FaultWords::watch(Message message) {
  if (messages_.size() == kWords) check();
  if (!words_.data) {
    words_ = allocate(kWords * sizeof(FaultWord));
    fill_bytes(words_.data.get(), 0, words_.bytes);
  }
  messages_.push_back(std::move(message));
  return words_.as<FaultWord>() + (messages_.size() - 1);
}

void FaultWords::check() {
  if (messages_.empty()) return;
  const std::vector<Message> messages = std::exchange(messages_, {});
  const std::vector<FaultWord> words = to_host<FaultWord>(words_.data.get(), messages.size());
  fill_bytes(words_.data.get(), 0, messages.size() * sizeof(FaultWord));
  for (std::size_t i = 0; i < words.size(); ++i)
    if (words[i] != 0)
      check_failed(__FILE__, __LINE__, "what a kernel was given is right", {}, messages[i](fault_of(words[i])));
}

}  // namespace ng::cuda
