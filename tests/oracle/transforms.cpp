// SPDX-License-Identifier: Apache-2.0
//
// Hadamard by its definition, Philox by 64-bit arithmetic.
#include "transforms.hpp"

#include <cmath>
#include <stdexcept>

#include "exact.hpp"

namespace ng_oracle {
namespace {

constexpr std::uint32_t kTeMask = 0xD7E8;

/// FP32 value nearest to 1/sqrt(n).
float inverse_root(std::size_t n) {
  return static_cast<float>(round_to_grid(exact_of(1.0 / std::sqrt(static_cast<double>(n))), 24, -149, 127));
}

}  // namespace

int sylvester(std::size_t row, std::size_t col) {
  int sign = 1;
  for (std::size_t common = row & col; common != 0; common &= common - 1) sign = -sign;
  return sign;
}

std::vector<float> hadamard(const std::vector<float>& x, std::size_t rows, std::size_t cols, std::size_t n,
                            HadamardSigns signs, HadamardOrder order, HadamardResult result, std::uint32_t seed) {
  if (n < 2 || n > 128 || (n & (n - 1)) != 0 || cols % n != 0) throw std::invalid_argument("hadamard size");
  if (signs == HadamardSigns::te_fixed && n != 16) throw std::invalid_argument("te_fixed signs are for 16");
  const float scale = inverse_root(n);
  std::vector<bool> minus(n, false);
  for (std::size_t k = 0; k < n; ++k) {
    if (signs == HadamardSigns::te_fixed) minus[k] = ((kTeMask >> k) & 1U) != 0;
    // Byte k/8 of a block is the 8-bit draw of element k/8.
    if (signs == HadamardSigns::seeded) minus[k] = ((element_draw(seed, 4, 0, 0, k / 8, 8) >> (k % 8)) & 1U) != 0;
  }
  std::vector<float> y(x.size());
  std::vector<float> in(n);
  std::vector<float> out(n);
  for (std::size_t start = 0; start < rows * cols; start += n) {
    for (std::size_t k = 0; k < n; ++k) {
      in[k] = f32_mul(minus[k] ? -x[start + k] : x[start + k], scale);
    }
    if (order == HadamardOrder::serial) {
      for (std::size_t j = 0; j < n; ++j) {
        float sum = in[0];  // H[0][j] = 1
        for (std::size_t k = 1; k < n; ++k) sum = f32_add(sum, sylvester(k, j) > 0 ? in[k] : -in[k]);
        out[j] = sum;
      }
    } else {
      out = in;
      for (std::size_t stride = 1; stride < n; stride *= 2) {
        for (std::size_t j = 0; j < n; ++j) {
          if ((j & stride) != 0) continue;
          const float a = out[j];
          const float b = out[j + stride];
          out[j] = f32_add(a, b);
          out[j + stride] = f32_sub(a, b);
        }
      }
    }
    for (std::size_t j = 0; j < n; ++j) {
      y[start + j] = result == HadamardResult::bf16 ? round_to_bf16(out[j]) : out[j];
    }
  }
  return y;
}

Words philox(Words c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * c[2];
    const auto high = [](std::uint64_t p) { return static_cast<std::uint32_t>(p >> 32); };
    const auto low = [](std::uint64_t p) { return static_cast<std::uint32_t>(p); };
    c = {high(b) ^ c[1] ^ key[0], low(b), high(a) ^ c[3] ^ key[1], low(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return c;
}

std::uint32_t element_draw(std::uint32_t seed, std::uint32_t purpose, std::uint32_t tensor, std::uint32_t step,
                           std::uint64_t element, int bits) {
  if (bits != 8 && bits != 16 && bits != 32) throw std::invalid_argument("8, 16 or 32 random bits");
  const std::uint64_t fields = 128U / static_cast<unsigned>(bits);
  const std::uint64_t block = element / fields;
  const std::uint64_t field = element % fields;
  const Words words = philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), tensor, step},
                             {seed, purpose});
  const std::uint64_t bit = field * static_cast<unsigned>(bits);
  const std::uint32_t word = words[bit / 32] >> (bit % 32);
  return bits == 32 ? word : word & ((1U << bits) - 1U);
}

}  // namespace ng_oracle
