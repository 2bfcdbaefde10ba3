// SPDX-License-Identifier: Apache-2.0
//
// A fixed set of threads that works through numbered pieces. Which thread does which piece is left open, so every piece
// writes its own outputs and results never depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace ng::cpu {

class ThreadPool {
 public:
  /// `threads` >= 1, the caller's included. MachineError when the system gives no more threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls work(0) ... work(count - 1), each once, and returns when all are done. The first exception thrown is
  /// rethrown here after the running pieces have ended; pieces not yet begun are left out. Inside a piece a further
  /// parallel_for runs serially. One caller at a time.
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work);

  /// The same over [0, count) cut into ranges of `step`: work(begin, end). `step` must not depend on the threads.
  void parallel_ranges(std::int64_t count, std::int64_t step,
                       const std::function<void(std::int64_t, std::int64_t)>& work);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ng::cpu
