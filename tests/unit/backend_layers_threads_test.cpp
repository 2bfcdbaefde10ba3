// SPDX-License-Identifier: Apache-2.0
//
// Claim: the thread pool does every piece once, passes exceptions on and works on after them, and runs nested loops.
// Alone: bin/unit_backend_layers_threads
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "thread_pool.hpp"

namespace {

using ng::cpu::ThreadPool;

TEST(ThreadPool, DoesEveryPieceOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
      for (int round = 0; round < 20; ++round)
        pool.parallel_for(count, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
      for (const auto& d : done) EXPECT_EQ(d.load(), 20);
    }
  }
}

TEST(ThreadPool, RangesCoverEverythingInFixedPieces) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> done(103);
  pool.parallel_ranges(103, 10, [&](std::int64_t begin, std::int64_t end) {
    EXPECT_EQ(begin % 10, 0);
    EXPECT_EQ(end, begin == 100 ? 103 : begin + 10);
    for (std::int64_t i = begin; i < end; ++i) ++done[static_cast<std::size_t>(i)];
  });
  for (const auto& d : done) EXPECT_EQ(d.load(), 1);
}

TEST(ThreadPool, PassesExceptionsOnAndGoesOn) {
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    EXPECT_THROW(pool.parallel_for(100,
                                   [](std::int64_t i) {
                                     if (i == 37) throw std::runtime_error("37");
                                   }),
                 std::runtime_error);
    std::atomic<int> done{0};
    pool.parallel_for(50, [&](std::int64_t) { ++done; });
    EXPECT_EQ(done.load(), 50);
  }
}

TEST(ThreadPool, NestedLoopsRun) {
  ThreadPool pool(3);
  std::atomic<int> done{0};
  pool.parallel_for(8, [&](std::int64_t) { pool.parallel_for(8, [&](std::int64_t) { ++done; }); });
  EXPECT_EQ(done.load(), 64);
}

}  // namespace
