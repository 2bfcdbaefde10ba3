// SPDX-License-Identifier: Apache-2.0
//
// Sleeping workers, woken once per loop; pieces are handed out by one counter.
#include "thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cpu {

namespace {
thread_local bool inside_piece = false;
}

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable begin;
  std::condition_variable done;
  // Under the mutex: the job's number, how many workers still may look at it, whether the pool ends.
  std::uint64_t job = 0;
  int busy = 0;
  bool ending = false;
  std::exception_ptr error;
  // Fixed while workers are busy.
  const std::function<void(std::int64_t)>* work = nullptr;
  std::int64_t count = 0;
  std::atomic<std::int64_t> next{0};

  void take_pieces() {
    inside_piece = true;
    for (;;) {
      const std::int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) break;
      try {
        (*work)(index);
      } catch (...) {
        next.store(count, std::memory_order_relaxed);
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
    inside_piece = false;
  }

  void run_worker() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      begin.wait(lock, [&] { return ending || job != seen; });
      if (ending) return;
      seen = job;
      lock.unlock();
      take_pieces();
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  void end() {
    {
      const std::lock_guard lock(mutex);
      ending = true;
    }
    begin.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  NG_CHECK_GE(threads, 1);
  try {
    for (int i = 1; i < threads; ++i) state_->workers.emplace_back([state = state_.get()] { state->run_worker(); });
  } catch (const std::system_error& error) {
    state_->end();
    throw MachineError("cannot start " + std::to_string(threads) + " threads: " + error.what());
  }
}

ThreadPool::~ThreadPool() {
  state_->end();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  if (count <= 0) return;
  if (state_->workers.empty() || count == 1 || inside_piece) {
    for (std::int64_t index = 0; index < count; ++index) work(index);
    return;
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->work = &work;
    state_->count = count;
    state_->next.store(0, std::memory_order_relaxed);
    state_->error = nullptr;
    state_->busy = static_cast<int>(state_->workers.size());
    ++state_->job;
  }
  state_->begin.notify_all();
  state_->take_pieces();
  std::unique_lock lock(state_->mutex);
  state_->done.wait(lock, [&] { return state_->busy == 0; });
  if (state_->error) std::rethrow_exception(std::exchange(state_->error, nullptr));
}

void ThreadPool::parallel_ranges(std::int64_t count, std::int64_t step,
                                 const std::function<void(std::int64_t, std::int64_t)>& work) {
  NG_CHECK_GE(step, 1);
  parallel_for((count + step - 1) / step, [&](std::int64_t index) {
    const std::int64_t first = index * step;
    work(first, std::min(count, first + step));
  });
}

}  // namespace ng::cpu
