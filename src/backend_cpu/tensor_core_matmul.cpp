// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the tensor-core model: operands packed once, then panels of sixteen columns through the kernels,
// blocks of K at a time (an accumulator carried through memory is the same accumulator). What the fast path cannot hold
// exactly, row by row, goes through the functor.
#include <algorithm>
#include <vector>

#include "tensor_core_product.hpp"

namespace ng::cpu {

namespace {

constexpr std::int64_t kRowsPerTask = 64;
constexpr std::int64_t kBlockK = 256;  // a panel of it stays in the first-level cache

std::int64_t rounded_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

struct PackedRows {
  std::int64_t stride = 0;  ///< K rounded up to whole instructions
  std::vector<float> values;
  std::vector<std::uint32_t> exponents;
  std::vector<OperandRange> ranges;
};

struct PackedPanels {
  std::int64_t depth = 0;
  std::vector<float> values;  ///< [panel][depth][16]
  std::vector<std::int16_t> exponents;
  std::vector<OperandRange> ranges;  ///< per panel
};

/// Exponent of an operand, its special values and range noted.
std::int16_t packed_exponent(float value, int smallest, OperandRange& range) {
  const AlignedNumber n = aligned_number(bits_of(value), smallest);
  if (n.nan || n.infinite) range.special = true;
  if (n.significand == 0) return kZeroOperand;
  range.least = std::min<std::int32_t>(range.least, n.exponent);
  range.largest = std::max<std::int32_t>(range.largest, n.exponent);
  return n.exponent;
}

PackedRows pack_rows(ThreadPool& pool, const ProductMatrix& m, std::int64_t k, std::int64_t stride) {
  PackedRows packed;
  packed.stride = stride;
  packed.values.resize(static_cast<std::size_t>(m.rows * stride));
  packed.exponents.resize(packed.values.size());
  packed.ranges.resize(static_cast<std::size_t>(m.rows));
  const int smallest = smallest_exponent(format_of(m.format));
  pool.parallel_ranges(m.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* from = m.data + r * m.stride;
      for (std::int64_t i = 0; i < stride; ++i) {
        const float value = i < k ? from[i] : 0.0f;
        const auto exponent =
            static_cast<std::uint16_t>(packed_exponent(value, smallest, packed.ranges[static_cast<std::size_t>(r)]));
        packed.values[static_cast<std::size_t>(r * stride + i)] = value;
        packed.exponents[static_cast<std::size_t>(r * stride + i)] = exponent * 0x10001u;
      }
    }
  });
  return packed;
}

PackedPanels pack_panels(ThreadPool& pool, const ProductMatrix& m, std::int64_t k, std::int64_t depth) {
  PackedPanels packed;
  packed.depth = depth;
  const std::int64_t panels = (m.rows + kPanelCols - 1) / kPanelCols;
  packed.values.resize(static_cast<std::size_t>(panels * depth * kPanelCols));
  packed.exponents.resize(packed.values.size(), kZeroOperand);
  packed.ranges.resize(static_cast<std::size_t>(panels));
  const int smallest = smallest_exponent(format_of(m.format));
  pool.parallel_for(panels, [&](std::int64_t p) {
    const std::int64_t cols = std::min(kPanelCols, m.rows - p * kPanelCols);
    for (std::int64_t j = 0; j < cols; ++j) {
      const float* from = m.data + (p * kPanelCols + j) * m.stride;
      for (std::int64_t i = 0; i < k; ++i) {
        const auto at = static_cast<std::size_t>((p * depth + i) * kPanelCols + j);
        packed.values[at] = from[i];
        packed.exponents[at] = packed_exponent(from[i], smallest, packed.ranges[static_cast<std::size_t>(p)]);
      }
    }
  });
  return packed;
}

/// Whether the kernels have this accumulator.
bool has_fast_path(const CpuKernels& kernels, const AccumulatorSpec& spec) {
  if (spec.scales != StepScales::none || spec.order != StepOrder::consecutive ||
      spec.result != StepResult::fp32_toward_zero)
    return false;
  TensorCoreBlock nothing{};
  nothing.terms = spec.terms;
  nothing.fraction_bits = spec.fraction_bits;
  nothing.significand_bits = spec.significand_bits;
  return kernels.tensor_core_rows(nothing);
}

class Matmul {
 public:
  Matmul(const CpuKernels& kernels, const TensorCoreSpec& spec, const ProductMatrix& a, const ProductMatrix& b,
         const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc)
      : kernels_(kernels), spec_(spec), a_(a), b_(b), scales_(scales), size_(size), out_(out), ldc_(ldc) {}

  void run(ThreadPool& pool) {
    const std::int64_t panels = (b_.rows + kPanelCols - 1) / kPanelCols;
    const std::int64_t pieces = (a_.rows + kRowsPerTask - 1) / kRowsPerTask;
    const bool fast = has_fast_path(kernels_, spec_.accumulator);
    if (fast) {
      const std::int64_t depth = rounded_up(size_.k, spec_.accumulator.terms);
      rows_ = pack_rows(pool, a_, size_.k, depth);
      panels_ = pack_panels(pool, b_, size_.k, depth);
    }
    pool.parallel_for(panels * pieces, [&](std::int64_t task) {
      const std::int64_t m0 = task / panels * kRowsPerTask;
      piece(task % panels, m0, std::min(a_.rows, m0 + kRowsPerTask), fast);
    });
  }

 private:
  void piece(std::int64_t panel, std::int64_t m0, std::int64_t m1, bool fast) const {
    const std::int64_t n0 = panel * kPanelCols;
    const std::int64_t n1 = std::min(b_.rows, n0 + kPanelCols);
    std::int64_t m = m0;
    while (m < m1) {
      std::int64_t end = m;
      while (
          fast && end < m1 &&
          takes_fast_path(rows_.ranges[static_cast<std::size_t>(end)], panels_.ranges[static_cast<std::size_t>(panel)]))
        ++end;
      if (end > m) fast_rows(panel, n0, n1, m, end);
      if (end < m1) {
        for (std::int64_t n = n0; n < n1; ++n) slow_element(end, n);
        ++end;
      }
      m = end;
    }
  }

  void slow_element(std::int64_t m, std::int64_t n) const {
    const auto block_scales = [](const ProductMatrix& x, std::int64_t row) {
      return x.block_scales == nullptr ? nullptr : x.block_scales + row * x.block_scale_stride;
    };
    const StepOperands in{a_.data + m * a_.stride,
                          b_.data + n * b_.stride,
                          block_scales(a_, m),
                          block_scales(b_, n),
                          smallest_exponent(format_of(a_.format)),
                          smallest_exponent(format_of(b_.format)),
                          smallest_exponent(format_of(size_.block_scale_format))};
    const float sum = tensor_core_element(spec_, in, scales_.element(m, n), size_.k, size_.block_scale_k);
    store(m, n, sum);
  }

  void store(std::int64_t m, std::int64_t n, float value) const {
    out_[m * ldc_ + n] = output_value(spec_.output, output_bits(spec_.output, value));
  }

  /// One chain over [begin, end) for each element: into sums[rows][16].
  void chain(std::int64_t panel, std::int64_t m, std::int64_t rows, std::int64_t begin, std::int64_t end,
             float* sums) const {
    std::fill(sums, sums + rows * kPanelCols, 0.0f);
    const std::int64_t terms = spec_.accumulator.terms;
    for (std::int64_t k = begin; k < end; k += kBlockK) {
      TensorCoreBlock block{};
      const auto a = static_cast<std::size_t>(m * rows_.stride + k);
      const auto b = static_cast<std::size_t>((panel * panels_.depth + k) * kPanelCols);
      block.a = rows_.values.data() + a;
      block.a_exponents = rows_.exponents.data() + a;
      block.a_stride = rows_.stride;
      block.b = panels_.values.data() + b;
      block.b_exponents = panels_.exponents.data() + b;
      block.rows = rows;
      block.steps = (std::min(kBlockK, end - k) + terms - 1) / terms;
      block.terms = spec_.accumulator.terms;
      block.fraction_bits = spec_.accumulator.fraction_bits;
      block.significand_bits = spec_.accumulator.significand_bits;
      block.c = sums;
      (void)kernels_.tensor_core_rows(block);
    }
  }

  void fast_rows(std::int64_t panel, std::int64_t n0, std::int64_t n1, std::int64_t m, std::int64_t m_end) const {
    float sums[kRowsPerTask * kPanelCols];
    float part[kRowsPerTask * kPanelCols];
    float total[kRowsPerTask * kPanelCols] = {};
    const std::int64_t rows = m_end - m;
    const std::int64_t length = split_length(spec_, size_.k);
    for (std::int64_t begin = 0; begin < size_.k; begin += length) {
      const std::int64_t end = std::min(begin + length, size_.k);
      float* to = begin == 0 ? total : part;
      if (spec_.promotion == 0) {
        chain(panel, m, rows, begin, end, to);
      } else {
        std::fill(to, to + rows * kPanelCols, 0.0f);
        for (std::int64_t k = begin; k < end; k += spec_.promotion) {
          chain(panel, m, rows, k, std::min(k + spec_.promotion, end), sums);
          float scale_b[kPanelCols] = {};
          if (is_blockwise(spec_.scales))
            for (std::int64_t n = n0; n < n1; ++n) scale_b[n - n0] = scales_.element(0, n).b[k / kScaleBlock];
          for (std::int64_t r = 0; r < rows; ++r) {
            const float scale_a = is_blockwise(spec_.scales) ? scales_.element(m + r, 0).a[k / kScaleBlock] : 1.0f;
            kernels_.tensor_core_promote(spec_.scales, sums + r * kPanelCols, scale_a, scale_b, to + r * kPanelCols);
          }
        }
      }
      if (begin != 0)
        for (std::int64_t i = 0; i < rows * kPanelCols; ++i) total[i] = gpu_add(total[i], part[i]);
    }
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t n = n0; n < n1; ++n)
        store(m + r, n, scaled_result(spec_.scales, total[r * kPanelCols + n - n0], scales_.element(m + r, n)));
  }

  const CpuKernels& kernels_;
  const TensorCoreSpec spec_;
  const ProductMatrix a_, b_;
  const ProductScales scales_;
  const MatmulSize size_;
  float* out_;
  std::int64_t ldc_;
  PackedRows rows_;
  PackedPanels panels_;
};

}  // namespace

void tensor_core_matmul(const CpuKernels& kernels, ThreadPool& pool, const TensorCoreSpec& spec, const ProductMatrix& a,
                        const ProductMatrix& b, const ProductScales& scales, const MatmulSize& size, float* out,
                        std::int64_t ldc) {
  Matmul(kernels, spec, a, b, scales, size, out, ldc).run(pool);
}

void tensor_core_matmul(const TensorCoreSpec& spec, const ProductMatrix& a, const ProductMatrix& b,
                        const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc, int threads,
                        bool baseline) {
  ThreadPool pool(threads);
  tensor_core_matmul(cpu_kernels(baseline), pool, spec, a, b, scales, size, out, ldc);
}

void ieee_matmul(ScaleMode mode, ProductOutput output, const ProductMatrix& a, const ProductMatrix& b,
                 const ProductScales& scales, const MatmulSize& size, float* out, std::int64_t ldc, int threads) {
  const CpuKernels& kernels = cpu_kernels(false);
  ThreadPool pool(threads);
  const std::int64_t step = is_blockwise(mode) ? kScaleBlock : std::max<std::int64_t>(size.k, 1);
  pool.parallel_ranges(a.rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(kGemmScratchFloats);
    std::vector<float> chains(static_cast<std::size_t>((end - begin) * b.rows));
    std::vector<float> totals(chains.size(), 0.0f);
    for (std::int64_t k = 0; k < size.k; k += step) {
      std::vector<float>& to = is_blockwise(mode) ? chains : totals;
      kernels.gemm_chain({a.data + begin * a.stride + k, a.stride, 1}, {b.data + k, b.stride, 1}, to.data(), b.rows,
                         end - begin, b.rows, std::min(step, size.k - k), false, scratch.data());
      if (!is_blockwise(mode)) continue;
      for (std::int64_t i = 0; i < end - begin; ++i)
        for (std::int64_t n = 0; n < b.rows; ++n) {
          const auto at = static_cast<std::size_t>(i * b.rows + n);
          totals[at] = promoted(mode, chains[at], scales.element(begin + i, n), k / kScaleBlock, totals[at]);
        }
    }
    for (std::int64_t i = 0; i < end - begin; ++i)
      for (std::int64_t n = 0; n < b.rows; ++n) {
        const float sum = totals[static_cast<std::size_t>(i * b.rows + n)];
        const std::uint32_t bits =
            output_bits(output, scaled_result(mode, is_nan_bits(bits_of(sum)) ? float_of(kTensorCoreNanBits) : sum,
                                              scales.element(begin + i, n)));
        out[(begin + i) * ldc + n] = output_value(output, bits);
      }
  });
}

}  // namespace ng::cpu
