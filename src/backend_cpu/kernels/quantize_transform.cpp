// SPDX-License-Identifier: Apache-2.0
//
// What surrounds the quantizer: Hadamard transforms before it, transposition of codes for column forms, and decoding.
// Compiled once per instruction set.
#include "kernels.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "quantize.hpp"

#if NG_ISA_LEVEL >= 3
#include "hadamard_avx2.hpp"
#endif

namespace ng::cpu::NG_ISA {

namespace {

/// Exchanges the halves of neighbouring words that a transposition of 8x8 bytes has to: three such steps do it.
template <int kDistance>
NG_HD void exchange_bytes(std::uint64_t* word) {
  constexpr int kBits = 8 * kDistance;
  constexpr std::uint64_t kMask = kDistance == 1   ? 0x00ff00ff00ff00ffull
                                  : kDistance == 2 ? 0x0000ffff0000ffffull
                                                   : 0x00000000ffffffffull;
  for (int i = 0; i < 8; ++i) {
    if ((i & kDistance) != 0) continue;
    const std::uint64_t moved = ((word[i] >> kBits) ^ word[i + kDistance]) & kMask;
    word[i + kDistance] ^= moved;
    word[i] ^= moved << kBits;
  }
}

/// out[c * out_stride + r] = block[r * cols + c], one byte each.
void transpose_codes(const std::uint8_t* block, std::int64_t rows, std::int64_t cols, std::uint8_t* out,
                     std::int64_t out_stride) {
  std::int64_t r = 0;
  for (; r + 8 <= rows; r += 8) {
    std::int64_t c = 0;
    for (; c + 8 <= cols; c += 8) {
      std::uint64_t word[8];
      for (int i = 0; i < 8; ++i) __builtin_memcpy(&word[i], block + (r + i) * cols + c, 8);
      exchange_bytes<1>(word);
      exchange_bytes<2>(word);
      exchange_bytes<4>(word);
      for (int i = 0; i < 8; ++i) __builtin_memcpy(out + (c + i) * out_stride + r, &word[i], 8);
    }
    for (; c < cols; ++c)
      for (int i = 0; i < 8; ++i) out[c * out_stride + r + i] = block[(r + i) * cols + c];
  }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) out[c * out_stride + r] = block[r * cols + c];
}

/// Hadamard transform of consecutive groups of spec.size elements of a row, in place.
void hadamard_row(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t count) {
#if NG_ISA_LEVEL >= 3
  if (hadamard_row_avx2(spec, mask, x, count)) return;
#endif
  for (std::int64_t i = 0; i < count; i += spec.size) hadamard_transform(spec, mask, x + i);
}

/// The same across rows: element (k, c) is x[k * stride + c], k < spec.size; every column is one group. The sums of
/// hadamard_transform, column by column at once.
void hadamard_columns(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t stride,
                      std::int64_t count) {
  const int n = spec.size;
  if (spec.order != HadamardOrder::butterfly) {
    for (std::int64_t c = 0; c < count; ++c) {
      float group[kLargestHadamard];
      for (int k = 0; k < n; ++k) group[k] = x[k * stride + c];
      hadamard_transform(spec, mask, group);
      for (int k = 0; k < n; ++k) x[k * stride + c] = group[k];
    }
    return;
  }
  const float scale = hadamard_scale(n);
  for (int k = 0; k < n; ++k) {
    const float signed_scale = hadamard_negates(mask, k) ? -scale : scale;
    for (std::int64_t c = 0; c < count; ++c) x[k * stride + c] = mul_rn(x[k * stride + c], signed_scale);
  }
  for (int distance = 1; distance < n; distance *= 2) {
    for (int k = 0; k < n; ++k) {
      if ((k & distance) != 0) continue;
      float* upper = x + k * stride;
      float* lower = x + (k + distance) * stride;
      for (std::int64_t c = 0; c < count; ++c) {
        const float a = upper[c];
        const float b = lower[c];
        upper[c] = add_rn(a, b);
        lower[c] = sub_rn(a, b);
      }
    }
  }
  for (int k = 0; k < n; ++k)
    for (std::int64_t c = 0; c < count; ++c) x[k * stride + c] = hadamard_result(spec, x[k * stride + c]);
}

/// out[i] = table[code i] * scale of its tile; count codes as they are stored from code number `first` of the row on.
void decode_row(CodeStorage storage, const float* table, const std::uint8_t* row, std::int64_t first,
                std::int64_t count, const float* scales, std::int64_t tile, float* out) {
  for (std::int64_t begin = 0, j = 0; begin < count; begin += tile, ++j) {
    const std::int64_t end = begin + tile <= count ? begin + tile : count;
    const float scale = scales[j];
    std::int64_t i = begin;
    if (storage == CodeStorage::nibble) {
      if (((first + i) & 1) != 0 && i < end) {
        out[i] = decoded_product(table[row[(first + i) / 2] >> 4], scale);
        ++i;
      }
      const std::uint8_t* bytes = row + (first + i) / 2;
      const std::int64_t pairs = (end - i) / 2;
      for (std::int64_t p = 0; p < pairs; ++p) {
        out[i + 2 * p] = decoded_product(table[bytes[p] & 15], scale);
        out[i + 2 * p + 1] = decoded_product(table[bytes[p] >> 4], scale);
      }
      i += 2 * pairs;
      if (i < end) out[i] = decoded_product(table[bytes[pairs] & 15], scale);
    } else if (storage == CodeStorage::byte) {
      for (; i < end; ++i) out[i] = decoded_product(table[row[first + i]], scale);
    } else {
      for (; i < end; ++i)
        out[i] = decoded_product(table[load_code(row, storage, static_cast<std::size_t>(first + i))], scale);
    }
  }
}

}  // namespace

void add_transform_kernels(CpuKernels& table) {
  table.transpose_codes = transpose_codes;
  table.hadamard_row = hadamard_row;
  table.hadamard_columns = hadamard_columns;
  table.decode_row = decode_row;
}

}  // namespace ng::cpu::NG_ISA
