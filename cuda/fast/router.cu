// SPDX-License-Identifier: Apache-2.0
//
// A token's experts lie in the registers of a warp. Chains are run by shuffles in their written order; the largest
// scores are found by integer maxima of keys that are ordered as the scores are.
#include "fast/router.hpp"

#include "fast/tree_sums.hpp"
#include "fast/warp_row.cuh"
#include "narrowgauge/numerics/softmax.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kMostExperts = 256;
constexpr int kMostSlots = 32;
constexpr int kWarps = kThreadsPerBlock / kWarp;
constexpr int kNone = 0x7fffffff;

/// An integer ordered as the numbers are, zeros equal; NaN below all.
__device__ std::uint32_t order_key(float value) {
  if (value != value) return 0;
  const std::uint32_t bits = bits_of(add_rn(value, 0.0f));  // -0 becomes +0
  return bits & kSignBit ? ~bits : bits | kSignBit;
}

/// choose_largest one by one, in all lanes at once: the next of the values that are open, bit j of `open` for word j.
template <int kWords>
class Choice {
 public:
  __device__ Choice(const WarpRow<kWords>& values, unsigned open) : open_(open) {
    bool nan = false;
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      key_[j] = order_key(values.word[j]);
      nan = nan || (key_[j] == 0 && (open >> j & 1));
    }
    nan_ = __any_sync(kAllLanes, nan);
  }

  __device__ int next() {
    std::uint32_t best = 0;
    int element = kNone;
#pragma unroll
    for (int j = 0; j < kWords; ++j)
      if ((open_ >> j & 1) && (element == kNone || key_[j] > best)) {
        best = key_[j];
        element = WarpRow<kWords>::element(j);
      }
    const std::uint32_t largest = __reduce_max_sync(kAllLanes, best);
    int chosen =
        static_cast<int>(__reduce_min_sync(kAllLanes, static_cast<unsigned>(best == largest ? element : kNone)));
    if (nan_) {  // a NaN that comes first is passed by nothing
      const int own = open_ == 0 ? kNone : WarpRow<kWords>::element(__ffs(static_cast<int>(open_)) - 1);
      const int first = static_cast<int>(__reduce_min_sync(kAllLanes, static_cast<unsigned>(own)));
      bool is_nan = false;
#pragma unroll
      for (int j = 0; j < kWords; ++j) is_nan = is_nan || (WarpRow<kWords>::element(j) == first && key_[j] == 0);
      if (__any_sync(kAllLanes, is_nan)) chosen = first;
    }
    if (chosen % kWarp == WarpRow<kWords>::lane()) open_ &= ~(1u << (chosen / kWarp));
    return chosen;
  }

 private:
  std::uint32_t key_[kWords];
  unsigned open_;
  bool nan_;
};

/// sum p log p over n elements, a chain that every lane runs.
template <int kWords>
__device__ float entropy_chain(const WarpRow<kWords>& p, const WarpRow<kWords>& log_p, int n) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kWords; ++j)
    for (int l = 0; l < kWarp && j * kWarp + l < n; ++l)
      sum = entropy_link(sum, __shfl_sync(kAllLanes, p.word[j], l), __shfl_sync(kAllLanes, log_p.word[j], l));
  return sum;
}

template <int kWords>
__global__ void route_tokens_kernel(const __grid_constant__ RouterJob job) {
  using Row = WarpRow<kWords>;
  __shared__ float sm_selection[kWarps][kWords * kWarp];
  const std::int64_t t = thread_number() / kWarp;
  if (t >= job.tokens) return;
  const RouterSpec& spec = job.spec;
  const int E = static_cast<int>(spec.experts), K = static_cast<int>(spec.top_k), lane = Row::lane();

  // 1. Softmax, entropy, the gate's scores.
  Row x;
  x.load(static_cast<const float*>(job.logits.data) + t * job.logits.stride, E);
  const float maximum = largest_of_lanes(x, E);
  Row p;
#pragma unroll
  for (int j = 0; j < kWords; ++j) p.word[j] = softmax_numerator(x.word[j], maximum);
  const float sum = sum_of_lanes(p, E);
#pragma unroll
  for (int j = 0; j < kWords; ++j) p.word[j] = div_rn(p.word[j], sum);
  p.store(job.probabilities + t * E, E);
  const float log_sum = log_rn(sum);
  Row scores = p;
  float entropy = 0.0f;
  Row log_share;
  if (spec.gate == Gate::softmax) {
#pragma unroll
    for (int j = 0; j < kWords; ++j) log_share.word[j] = sub_rn(x.word[j], maximum);
    entropy = sub_rn(log_sum, entropy_chain(p, log_share, E));
  } else {
#pragma unroll
    for (int j = 0; j < kWords; ++j) scores.word[j] = sigmoid_rn(x.word[j]);
    const float total = sum_of_lanes(scores, E);
    Row share;
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      share.word[j] = gate_share(scores.word[j], total);
      log_share.word[j] = log_rn(share.word[j]);
    }
    entropy = -entropy_chain(share, log_share, E);
    scores.store(job.scores + t * E, E);
    share.store(job.shares + t * E, E);
  }
  if (lane == 0) {
    job.log_sum_exp[t] = add_rn(maximum, log_sum);
    job.entropy[t] = entropy;
  }

  // 2. The experts that may be chosen.
  Row selection;
  unsigned open = 0;
#pragma unroll
  for (int j = 0; j < kWords; ++j) {
    const bool is_expert = Row::element(j) < E;
    selection.word[j] = is_expert ? selection_score(scores.word[j], job.bias, Row::element(j)) : 0.0f;
    open |= static_cast<unsigned>(is_expert) << j;
  }
  if (spec.groups_kept < spec.groups) {
    float* const sm = sm_selection[threadIdx.x / kWarp];
    selection.store(sm, E);
    __syncwarp();
    const int groups = static_cast<int>(spec.groups), size = E / groups;
    WarpRow<1> group;
    group.word[0] = lane < groups ? group_score(spec.group_score, sm + lane * size, size) : 0.0f;
    Choice<1> choice(group, lane < groups ? 1u : 0u);
    unsigned kept = 0;
    for (int g = 0; g < spec.groups_kept; ++g) kept |= 1u << choice.next();
#pragma unroll
    for (int j = 0; j < kWords; ++j)
      if (Row::element(j) < E && !(kept >> (Row::element(j) / size) & 1)) open &= ~(1u << j);
  }

  // 3. The slots: lane k keeps slot k.
  Choice<kWords> choice(selection, open);
  int expert = 0;
  float score = 0.0f;
  float total = 0.0f;
  for (int k = 0; k < K; ++k) {
    const int e = choice.next();
    const float s = scores.at(e);
    total = add_rn(total, s);
    if (lane == k) {
      expert = e;
      score = s;
    }
  }
  if (lane < K) {
    job.expert[t * K + lane] = expert;
    job.full_weight[t * K + lane] = combine_weight(spec, score, total);
    job.row_of_slot[t * K + lane] = 0;
  }
}

template <int kWords>
__global__ void route_backward_kernel(const __grid_constant__ plain::RouterGradientJob job) {
  using Row = WarpRow<kWords>;
  const std::int64_t t = thread_number() / kWarp;
  if (t >= job.tokens) return;
  const RouterSpec& spec = job.spec;
  const int E = static_cast<int>(spec.experts), K = static_cast<int>(spec.top_k);
  Row p, scores, shares, slopes;
  p.load(job.probabilities + t * E, E);
  slopes.load(job.slopes + t / job.scope * E, E);
  scores = shares = p;
  if (spec.gate == Gate::sigmoid) {
    scores.load(job.scores + t * E, E);
    shares.load(job.shares + t * E, E);
  }
  const float* const weight = job.full_weight + t * K;
  const float* const d_weight = job.d_weight + t * K;
  const std::int32_t* const row_of_slot = job.row_of_slot + t * K;
  const TokenGradient token = token_gradient(spec, dot_of_lanes(shares, slopes, E), z_slope(spec, job.per_token),
                                             job.log_sum_exp[t], weight, d_weight, row_of_slot);
  Row gradient;
#pragma unroll
  for (int j = 0; j < kWords; ++j)
    gradient.word[j] = expert_gradient(spec.gate, token, p.word[j], scores.word[j], shares.word[j], slopes.word[j]);
  for (int k = 0; k < K && slots_have_gradients(spec); ++k) {
    const int e = job.expert[t * K + k];
#pragma unroll
    for (int j = 0; j < kWords; ++j)
      if (Row::element(j) == e)
        gradient.word[j] = add_slot_gradient(spec, token, weight[k], scores.word[j],
                                             slot_slope(row_of_slot[k], d_weight[k]), gradient.word[j]);
  }
  gradient.store(static_cast<float*>(job.d_logits.data) + t * job.d_logits.stride, E);
}

/// A warp for each (sequence, expert).
__global__ void sum_pieces_kernel(const __grid_constant__ RouterJob job, std::int64_t* totals) {
  const std::int64_t list = thread_number() / kWarp, E = job.spec.experts, pieces = job.sequence_pieces();
  if (list >= job.sequences() * E) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  std::int32_t* const counts = job.piece_counts + list / E * pieces * E + list % E;
  std::int32_t before = 0;
  for (std::int64_t first = 0; first < pieces; first += kWarp) {
    const std::int64_t piece = first + lane;
    const std::int32_t count = piece < pieces ? counts[piece * E] : 0;
    std::int32_t sum = count;
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const std::int32_t lower = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
      if (lane >= distance) sum += lower;
    }
    if (piece < pieces) counts[piece * E] = before + sum - count;
    before += __shfl_sync(kAllLanes, sum, kWarp - 1);
  }
  if (lane == 0) totals[list] = before;
}

/// A block for each list of slots: keys of all of them pass through shared memory, each slot counts those before it.
__global__ void drop_slots_kernel(const __grid_constant__ RouterJob job, const __grid_constant__ DropLists lists) {
  __shared__ std::uint32_t sm_key[kThreadsPerBlock];
  const std::int64_t list = blockIdx.x, E = job.spec.experts, K = job.spec.top_k, e = list % E;
  const std::int64_t count = job.sequence_counts[list];
  const std::int32_t* const token_at = lists.token_at + list * job.length;
  const bool ranked = count > lists.capacity && job.spec.drop == Drop::probability;
  const auto key_at = [&](std::int64_t i) { return i < count ? drop_key(job.scores[token_at[i] * E + e]) : 0; };
  for (std::int64_t first = 0; first < count; first += kThreadsPerBlock) {
    const std::int64_t own = first + threadIdx.x;
    std::int64_t before = own;
    if (ranked) {
      const std::uint32_t key = key_at(own);
      before = 0;
      for (std::int64_t tile = 0; tile < count; tile += kThreadsPerBlock) {
        __syncthreads();
        sm_key[threadIdx.x] = key_at(tile + threadIdx.x);
        __syncthreads();
        const int others = static_cast<int>(count - tile < kThreadsPerBlock ? count - tile : kThreadsPerBlock);
        for (int i = 0; i < others; ++i)
          if (sm_key[i] > key || (sm_key[i] == key && tile + i < own)) ++before;
      }
    }
    if (own >= count) continue;
    std::int64_t slot = token_at[own] * K;
    while (job.expert[slot] != e) ++slot;
    const bool dropped = before >= lists.capacity;
    job.row_of_slot[slot] = dropped ? -1 : 0;
    job.weight[slot] = dropped ? 0.0f : job.full_weight[slot];
  }
}

/// sum_leaf with many loads on their way.
template <class Term>
__device__ double leaf_of(std::int64_t leaf, std::int64_t count, const Term& term) {
  constexpr int kLoads = 16;
  constexpr std::int64_t kLeaf = static_cast<std::int64_t>(kSummationLeaf);
  if ((leaf + 1) * kLeaf > count) return sum_leaf(leaf, count, term);
  double sum = 0.0;
  for (std::int64_t first = leaf * kLeaf; first < (leaf + 1) * kLeaf; first += kLoads) {
    double terms[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) terms[i] = term(first + i);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) sum = add_rn(sum, terms[i]);
  }
  return sum;
}

__global__ void token_leaves_kernel(const __grid_constant__ RouterJob job, std::int64_t count, double* leaves) {
  const std::int64_t i = thread_number();
  if (i >= 2 * count) return;
  leaves[i] = i < count
                  ? leaf_of(i, job.tokens, [&](std::int64_t t) { return squared(job.log_sum_exp[t]); })
                  : leaf_of(i - count, job.tokens, [&](std::int64_t t) { return static_cast<double>(job.entropy[t]); });
}

/// Thread (scope, leaf, expert): neighbours read neighbours.
__global__ void share_leaves_kernel(const __grid_constant__ RouterJob job, std::int64_t scope, std::int64_t count,
                                    double* leaves) {
  const std::int64_t i = thread_number(), E = job.spec.experts;
  if (i >= job.tokens / scope * count * E) return;
  const std::int64_t e = i % E, leaf = i / E % count, s = i / E / count;
  const float* const shares = job.shares + s * scope * E + e;
  leaves[(s * E + e) * count + leaf] =
      leaf_of(leaf, scope, [&](std::int64_t t) { return static_cast<double>(shares[t * E]); });
}

std::int64_t leaves_of(std::int64_t terms) {
  return static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(terms)));
}

/// Calls `run` with the smallest number of words that hold so many experts.
template <class Run>
void with_words(std::int64_t experts, const Run& run) {
  if (experts <= kWarp) return run.template operator()<1>();
  if (experts <= 2 * kWarp) return run.template operator()<2>();
  if (experts <= 4 * kWarp) return run.template operator()<4>();
  return run.template operator()<kMostExperts / kWarp>();
}

}  // namespace

bool routes(const RouterSpec& spec) {
  return spec.experts <= kMostExperts && spec.top_k <= kMostSlots &&
         (spec.groups_kept == spec.groups || spec.groups <= kWarp);
}

bool routes_back(const RouterSpec& spec) {
  return spec.experts <= kMostExperts;
}

void route_tokens(const RouterJob& job, Stream stream) {
  with_words(job.spec.experts, [&]<int kWords>() {
    launch("route_tokens", route_tokens_kernel<kWords>, job.tokens * kWarp, stream, job);
  });
}

void route_backward(const plain::RouterGradientJob& job, Stream stream) {
  with_words(job.spec.experts, [&]<int kWords>() {
    launch("route_backward", route_backward_kernel<kWords>, job.tokens * kWarp, stream, job);
  });
}

void sum_pieces(const RouterJob& job, std::int64_t* totals, Stream stream) {
  launch("sum_pieces", sum_pieces_kernel, job.sequences() * job.spec.experts * kWarp, stream, job, totals);
}

void drop_slots(const RouterJob& job, const DropLists& lists, Stream stream) {
  launch("drop_slots", drop_slots_kernel, job.sequences() * job.spec.experts * kThreadsPerBlock, stream, job, lists);
}

void token_sums(const RouterJob& job, const RouterSums& sums, Stream stream) {
  const std::int64_t leaves = leaves_of(job.tokens);
  launch("token_leaves", token_leaves_kernel, 2 * leaves, stream, job, leaves, sums.token_leaves);
  reduce_trees(sums.token_leaves, 2, leaves, sums.token_sums, stream);
}

void share_sums(const RouterJob& job, const RouterSums& sums, std::int64_t scope, Stream stream) {
  const std::int64_t leaves = leaves_of(scope), trees = job.tokens / scope * job.spec.experts;
  launch("share_leaves", share_leaves_kernel, trees * leaves, stream, job, scope, leaves, sums.share_leaves);
  reduce_trees(sums.share_leaves, trees, leaves, sums.share_sums, stream);
}

}  // namespace ng::cuda::fast
