// SPDX-License-Identifier: Apache-2.0
//
// library_probes.hpp: row p of A holds the probe of k = p, so one product asks about every k.
#include "library_probes.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "distributions.hpp"
#include "library_model.hpp"
#include "probes.hpp"
#include "subject_model.hpp"

namespace ng_silicon {

using namespace ng;
using cuda::LibraryCompute;
using cuda::LibraryOutput;
using cuda::LibraryProduct;

namespace {

std::vector<std::uint8_t> zeros(FormatId format, std::int64_t rows, std::int64_t k) {
  return std::vector<std::uint8_t>(static_cast<std::size_t>(rows * k * cuda::operand_bytes(format)), 0);
}

LibraryProduct product_of(FormatId a, FormatId b, LibraryOutput output, std::int64_t m, std::int64_t n,
                          std::int64_t k) {
  LibraryProduct p{};
  p.a = a;
  p.b = b;
  p.output = output;
  p.m = m;
  p.n = n;
  p.k = k;
  return p;
}

/// "lost 1-127 kept 128-511": runs of rows whose result has the small product, from row `first` on; '?' for other
/// results.
std::string runs(const std::vector<std::uint32_t>& d, const LibraryProduct& p, std::int64_t first, float lost,
                 float kept) {
  std::string text;
  std::int64_t begin = first;
  const auto kind = [&](std::int64_t row) {
    const float value = float_of(d[static_cast<std::size_t>(row * p.n)]);
    return value == kept ? "kept" : value == lost ? "lost" : "?";
  };
  for (std::int64_t row = first; row <= p.k; ++row) {
    if (row < p.k && std::string(kind(row)) == kind(begin)) continue;
    text += std::string(text.empty() ? "" : ", ") + kind(begin) + " " + std::to_string(begin) + "-" +
            std::to_string(row - 1);
    begin = row;
    if (row == p.k) break;
  }
  return text;
}

struct ChainProbe {
  FormatId a, b;
  bool fast;
  int large, small;  ///< exponents of the products
};

void probe_chain(std::ostream& out, const ChainProbe& probe, std::int64_t m, std::int64_t n, std::int64_t k) {
  const int size = cuda::operand_bytes(probe.a);
  LibraryProduct p = product_of(probe.a, probe.b, LibraryOutput::f32, std::max(m, k), n, k);
  p.fast = probe.fast;
  const auto code = [](FormatId f, int exponent) { return code_of(f, std::ldexp(1.0, exponent)); };
  const int large_b = probe.large / 2, small_b = probe.small / 2;
  std::vector<std::uint8_t> b = zeros(p.b, p.n, k), beside = zeros(p.a, p.m, k), pairs = beside;
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t i = 0; i < k; ++i)
      put_code(b, static_cast<std::size_t>(r * k + i), size, code(p.b, i < 1 ? large_b : small_b));
  std::vector<std::uint8_t> b_pairs = b;
  for (std::int64_t r = 0; r < n; ++r) put_code(b_pairs, static_cast<std::size_t>(r * k + 1), size, code(p.b, large_b));
  for (std::int64_t row = 0; row < k; ++row) {
    const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(row * k + i); };
    put_code(beside, at(0), size, code(p.a, probe.large - large_b));
    if (row > 0) put_code(beside, at(row), size, code(p.a, probe.small - small_b));
    put_code(pairs, at(0), size, code(p.a, probe.large - large_b));
    put_code(pairs, at(1), size, code_of(p.a, -std::ldexp(1.0, probe.large - large_b)));
    if (row > 1) put_code(pairs, at(row), size, code(p.a, probe.small - small_b));
  }
  const float large = std::ldexp(1.0f, probe.large), small = std::ldexp(1.0f, probe.small);
  std::set<std::string> seen;
  for (p.candidate = 0; p.candidate < 12; ++p.candidate) {
    const StoredScales none(p);
    const cuda::LibraryResult one = cuda::run_library_product(p, {beside, b, {}, none.a, none.b});
    if (!one.offered) break;
    const cuda::LibraryResult two = cuda::run_library_product(p, {pairs, b_pairs, {}, none.a, none.b});
    const std::string text = "chain\t" + described(p) + "\tM " + std::to_string(p.m) + " N " + std::to_string(n) +
                             " K " + std::to_string(k) + "\t" + one.algorithm + "\t2^" + std::to_string(probe.large) +
                             " at 0 and 2^" + std::to_string(probe.small) +
                             " at k: " + runs(one.d, p, 1, large, large + small) +
                             "\tpair at 0 and 1: " + runs(two.d, p, 2, 0.0f, small);
    if (seen.insert(text).second) out << text << "\n";
  }
}

std::string hex(std::uint32_t code, int bytes) {
  char text[16];
  std::snprintf(text, sizeof text, "%0*x", 2 * bytes, code);
  return text;
}

}  // namespace

void probe_chains(std::ostream& out) {
  using F = FormatId;
  const std::array<ChainProbe, 7> kinds = {{{F::e4m3, F::e4m3, false, 8, -6},
                                            {F::e4m3, F::e4m3, true, 8, -6},
                                            {F::e5m2, F::e4m3, false, 8, -6},
                                            {F::e4m3, F::e4m3, false, 16, -12},
                                            {F::bf16, F::bf16, false, 16, -11},
                                            {F::fp16, F::fp16, false, 16, -11},
                                            {F::tf32, F::tf32, false, 16, -11}}};
  for (const ChainProbe& probe : kinds)
    for (const auto& [m, n, k] :
         {std::array<std::int64_t, 3>{16, 16, 512}, {512, 256, 512}, {2048, 2048, 1024}, {16, 64, 2048}})
      probe_chain(out, probe, m, n, k);
}

void probe_library_specials(std::ostream& out) {
  using F = FormatId;
  std::vector<LibraryProduct> products;
  for (const LibraryOutput o : {LibraryOutput::f32, LibraryOutput::bf16})
    products.push_back(product_of(F::bf16, F::bf16, o, 0, 0, 128));
  for (const LibraryOutput o : {LibraryOutput::f32, LibraryOutput::fp16})
    products.push_back(product_of(F::fp16, F::fp16, o, 0, 0, 128));
  products.push_back(product_of(F::fp16, F::fp16, LibraryOutput::fp16, 0, 0, 128));
  products.back().compute = LibraryCompute::fp16;
  products.push_back(product_of(F::tf32, F::tf32, LibraryOutput::f32, 0, 0, 128));
  for (const LibraryOutput o : {LibraryOutput::f32, LibraryOutput::bf16, LibraryOutput::fp16})
    for (const bool fast : {false, true})
      for (const auto& [a, b] : {std::array<F, 2>{F::e4m3, F::e4m3}, {F::e5m2, F::e4m3}}) {
        products.push_back(product_of(a, b, o, 0, 0, 128));
        products.back().fast = fast;
      }
  for (LibraryProduct& p : products) {
    std::vector<NamedCode> x = special_codes(p.a), y = special_codes(p.b);
    const int size = cuda::operand_bytes(p.a);
    for (const int exponent : {-70, -75, -60, -12, 8, 63, 64}) {  // products at the ends of the outputs' ranges
      const double value = std::ldexp(1.0, exponent);
      const std::uint32_t ca = code_of(p.a, value), cb = code_of(p.b, value);
      if (static_cast<double>(operand_value(p.a, ca)) == value) x.push_back({"2^" + std::to_string(exponent), ca});
      if (static_cast<double>(operand_value(p.b, cb)) == value) y.push_back({"2^" + std::to_string(exponent), cb});
    }
    p.m = p.n = 32;
    std::vector<std::uint8_t> a = zeros(p.a, p.m, p.k), b = zeros(p.b, p.n, p.k);
    for (std::size_t i = 0; i < x.size(); ++i) put_code(a, i * static_cast<std::size_t>(p.k), size, x[i].code);
    for (std::size_t i = 0; i < y.size(); ++i) put_code(b, i * static_cast<std::size_t>(p.k), size, y[i].code);
    const StoredScales none(p);
    const cuda::LibraryResult subject = cuda::run_library_product(p, {a, b, {}, none.a, none.b});
    if (!subject.offered) {
      out << "library\t" << described(p) << "\tnot offered\n";
      continue;
    }
    const std::vector<std::uint32_t> model = library_model(p, a, b, none);
    const int bytes = p.output == LibraryOutput::f32 ? 4 : 2;
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t j = 0; j < y.size(); ++j) {
        const std::size_t at = i * static_cast<std::size_t>(p.n) + j;
        out << "library\t" << described(p) << "\t" << x[i].name << " * " << y[j].name << "\t" << hex(x[i].code, size)
            << "\t" << hex(y[j].code, size) << "\t" << hex(subject.d[at], bytes) << "\t" << hex(model[at], bytes)
            << "\t" << (subject.d[at] == model[at] ? "same" : "DIFFERENT") << "\n";
      }
  }
}

void probe_alpha_beta(std::ostream& out) {
  using F = FormatId;
  std::uint64_t seed = 77;
  for (const F type : {F::bf16, F::fp16, F::tf32, F::e4m3})
    for (const LibraryOutput output : {LibraryOutput::f32, LibraryOutput::bf16, LibraryOutput::fp16})
      for (const auto& [alpha, beta] :
           {std::array<float, 2>{1.0f, 1.0f}, {0.7f, 0.0f}, {0.7f, 1.0f}, {1.0f, 0.3f}, {0.7f, 0.3f}}) {
        LibraryProduct p = product_of(type, type, output, 256, 256, 256);
        p.alpha = alpha;
        p.beta = beta;
        ++seed;
        const int size = cuda::operand_bytes(type);
        std::vector<std::uint8_t> a = zeros(type, p.m, p.k), b = a;
        std::vector<std::uint32_t> codes(static_cast<std::size_t>(p.k));
        for (const Side side : {Side::a, Side::b})
          for (std::int64_t row = 0; row < p.m; ++row) {
            fill_row(Distribution::normal, type, StepResult::fp32_toward_zero, side, seed,
                     static_cast<std::uint64_t>(row), codes);
            for (std::size_t i = 0; i < codes.size(); ++i)
              put_code(side == Side::a ? a : b, static_cast<std::size_t>(row * p.k) + i, size, codes[i]);
          }
        const std::size_t count = static_cast<std::size_t>(p.m * p.n);
        std::vector<std::uint32_t> c_bits(count, 0);
        std::vector<float> c(count, 0.0f);
        if (beta != 0.0f) {
          fill_accumulators(Distribution::normal, StepResult::fp32_toward_zero, seed, 0, c_bits);
          for (std::size_t i = 0; i < count; ++i) {
            c_bits[i] = rounded_output(output, float_of(c_bits[i]));
            c[i] = output == LibraryOutput::f32    ? float_of(c_bits[i])
                   : output == LibraryOutput::bf16 ? float_of(c_bits[i] << 16)
                                                   : accumulator_value(StepResult::fp16_nearest_even, c_bits[i]);
          }
        }
        const StoredScales none(p);
        const std::span<const std::uint32_t> c_in =
            beta != 0.0f ? std::span<const std::uint32_t>(c_bits) : std::span<const std::uint32_t>();
        const cuda::LibraryResult subject = cuda::run_library_product(p, {a, b, c_in, none.a, none.b});
        if (!subject.offered) {
          out << "alpha beta\t" << described(p) << "\tnot offered\n";
          continue;
        }
        const std::vector<float> sums = library_sums(p, a, b, none);
        std::array<std::size_t, 4> equal{};
        for (std::size_t i = 0; i < count; ++i) {
          const float scaled = gpu_mul(alpha, sums[i]), own = gpu_mul(beta, c[i]);
          const float ways[] = {gpu_fma(beta, c[i], scaled), gpu_fma(alpha, sums[i], own), gpu_add(scaled, own),
                                gpu_add(float_of(bits_of(scaled)), 0.0f)};
          for (std::size_t w = 0; w < equal.size(); ++w)
            equal[w] += rounded_output(output, ways[w]) == subject.d[i] ? 1 : 0;
        }
        out << "alpha beta\t" << described(p) << "\talpha " << alpha << " beta " << beta << "\t" << subject.algorithm
            << "\tof " << count << ": fma(beta, c, alpha * sum) " << equal[0] << ", fma(alpha, sum, beta * c) "
            << equal[1] << ", alpha * sum + beta * c " << equal[2] << ", alpha * sum alone " << equal[3] << "\n";
      }
}

}  // namespace ng_silicon
