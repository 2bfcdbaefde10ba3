// SPDX-License-Identifier: Apache-2.0
//
// A step of a run once more, so that its tensors can be looked at: from the newest checkpoint at or before it, or from
// the initial weights. The run file is only read. Every replayed step must give the loss that the run file has.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "narrowgauge/backend/backend.hpp"

namespace ng {

struct ReplayOptions {
  BackendOptions backend;
  bool from_start = false;  ///< begin with the initial weights where no checkpoint is old enough
  std::function<void(std::int64_t step, std::int64_t last)> progress;
  std::function<bool()> interrupted;  ///< asked between steps
};

class Replay {
 public:
  /// `step`: index of a step, from 0. UserError: no such step; no checkpoint at or before it (naming those that there
  /// are); model, recipe, data or program are no longer those of the run (naming what differs).
  Replay(const std::string& run_file, std::int64_t step, ReplayOptions options);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  /// Steps done in the state that it begins with.
  [[nodiscard]] std::int64_t begins_at() const;
  [[nodiscard]] std::int64_t micro_batches() const;
  [[nodiscard]] std::vector<Site> quantized_sites() const;
  [[nodiscard]] std::vector<Site> all_sites() const;
  [[nodiscard]] std::vector<Site> products() const;
  [[nodiscard]] Backend& backend();

  /// Replays up to the step, which `tap` then sees. UserError when a loss is not the run's; InterruptedError.
  void run(Tap& tap);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ng
