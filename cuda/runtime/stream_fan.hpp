// SPDX-License-Identifier: Apache-2.0
//
// Independent work side by side: a few queues that start after what the default stream has been given so far, and that
// it waits for before what it is given later.
#pragma once

#include "runtime/stream.hpp"

namespace ng::cuda {

constexpr int kFanStreams = 4;

class StreamFan {
 public:
  /// The queues start. One fan at a time.
  StreamFan();
  /// The default stream waits for them.
  ~StreamFan();
  StreamFan(const StreamFan&) = delete;
  StreamFan& operator=(const StreamFan&) = delete;

  [[nodiscard]] Stream stream(int i) const;
};

}  // namespace ng::cuda
