// SPDX-License-Identifier: Apache-2.0
//
// random_products.hpp: products of cuBLASLt against the fast path of the model.
#include <array>
#include <cstdio>
#include <iostream>
#include <thread>
#include <vector>

#include "distributions.hpp"
#include "library_model.hpp"
#include "random_products.hpp"
#include "subject_model.hpp"

namespace ng_silicon {

using namespace ng;
using cuda::LibraryCompute;
using cuda::LibraryOutput;
using cuda::LibraryProduct;

namespace {

constexpr int kFirstShown = 2;
constexpr std::int64_t kNarrowK = 384;  ///< three promoted chains
constexpr std::int64_t kWideK = 256;

/// Every product of this chip that the model has an answer to.
std::vector<LibraryProduct> products(std::int64_t size) {
  using F = FormatId;
  std::vector<LibraryProduct> list;
  const auto add = [&](F a, F b, LibraryOutput output, bool fast = false, ScaleMode scales = ScaleMode::none,
                       LibraryCompute compute = LibraryCompute::fp32) {
    LibraryProduct p{};
    p.a = a;
    p.b = b;
    p.output = output;
    p.compute = compute;
    p.fast = fast;
    p.scales = scales;
    p.m = p.n = size;
    p.k = cuda::operand_bytes(a) == 1 ? kNarrowK : kWideK;
    list.push_back(p);
  };
  for (const LibraryOutput output : {LibraryOutput::f32, LibraryOutput::bf16}) add(F::bf16, F::bf16, output);
  for (const LibraryOutput output : {LibraryOutput::f32, LibraryOutput::fp16}) add(F::fp16, F::fp16, output);
  add(F::fp16, F::fp16, LibraryOutput::fp16, false, ScaleMode::none, LibraryCompute::fp16);
  add(F::tf32, F::tf32, LibraryOutput::f32);
  const std::array<std::array<F, 2>, 3> types = {{{F::e4m3, F::e4m3}, {F::e4m3, F::e5m2}, {F::e5m2, F::e4m3}}};
  for (const auto& [a, b] : types) {
    for (const bool fast : {false, true})
      for (const LibraryOutput output : {LibraryOutput::f32, LibraryOutput::bf16, LibraryOutput::fp16})
        add(a, b, output, fast);
    for (const bool fast : {false, true})
      for (const ScaleMode mode : {ScaleMode::tensor, ScaleMode::outer}) add(a, b, LibraryOutput::f32, fast, mode);
    for (const ScaleMode mode : {ScaleMode::block_1x128, ScaleMode::block_128x128})
      for (const LibraryOutput output : {LibraryOutput::f32, LibraryOutput::bf16}) add(a, b, output, false, mode);
  }
  return list;
}

std::vector<std::uint8_t> operand(Distribution distribution, const LibraryProduct& p, Side side, std::uint64_t seed) {
  const FormatId format = side == Side::a ? p.a : p.b;
  const StepResult result =
      p.compute == LibraryCompute::fp16 ? StepResult::fp16_nearest_even : StepResult::fp32_toward_zero;
  const int size = cuda::operand_bytes(format);
  const std::int64_t rows = side == Side::a ? p.m : p.n;
  const auto k = static_cast<std::size_t>(p.k);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows) * k * static_cast<std::size_t>(size));
  in_parallel(rows, [&](std::int64_t row) {
    std::vector<std::uint32_t> codes(k);
    fill_row(distribution, format, result, side, seed, static_cast<std::uint64_t>(row), codes);
    for (std::size_t i = 0; i < k; ++i) {
      // The library takes FP32 and rounds it itself: bits below TF32's must matter.
      if (format == FormatId::tf32) codes[i] |= (codes[i] * 2654435761u >> 16) & 0x1fffu;
      put_code(bytes, static_cast<std::size_t>(row) * k + i, size, codes[i]);
    }
  });
  return bytes;
}

}  // namespace

Json random_library_products(std::int64_t size, std::ostream& differences, Comparison& total) {
  Json report = Json::object();
  std::uint64_t seed = 1000;
  for (const LibraryProduct& p : products(size)) {
    const std::string name = described(p);
    Json entry = Json::object({{"k", p.k}});
    for (int d = 0; d < kDistributions; ++d) {
      const auto distribution = static_cast<Distribution>(d);
      ++seed;
      const std::vector<std::uint8_t> a = operand(distribution, p, Side::a, seed),
                                      b = operand(distribution, p, Side::b, seed);
      StoredScales scales(p);
      fill_scales(distribution, seed, scales.a);
      fill_scales(distribution, seed + 500, scales.b);
      const cuda::LibraryResult subject = cuda::run_library_product(p, {a, b, {}, scales.a, scales.b});
      if (!subject.offered) {
        entry["not offered"] = true;
        std::cout << "cuBLASLt " << name << ": not offered\n";
        break;
      }
      entry["algorithm"] = subject.algorithm;
      const std::vector<std::uint32_t> model = library_model(p, a, b, scales);
      Comparison comparison;
      int shown = 0;
      for (std::size_t at = 0; at < model.size(); ++at) {
        if (comparison.add(result_type(p.output), subject.d[at], model[at]) || shown >= kFirstShown) continue;
        ++shown;
        char text[200];
        std::snprintf(text, sizeof text, "cuBLASLt %s, %s, element %zu: subject %08x, model %08x\n  a", name.c_str(),
                      name_of(distribution), at, subject.d[at], model[at]);
        differences << text;
        const auto k = static_cast<std::size_t>(p.k), n = static_cast<std::size_t>(p.n);
        for (const bool is_b : {false, true}) {
          const std::size_t row = is_b ? at % n : at / n;
          if (is_b) differences << "\n  b";
          for (std::size_t i = 0; i < k; ++i) {
            std::snprintf(text, sizeof text, " %x", code_at(is_b ? b : a, row * k + i, cuda::operand_bytes(p.a)));
            differences << text;
          }
        }
        differences << "\n";
      }
      total.compared += comparison.compared;
      total.different += comparison.different;
      total.nan_bits += comparison.nan_bits;
      total.zero_sign += comparison.zero_sign;
      std::cout << "cuBLASLt " << name << ", " << name_of(distribution) << ": " << comparison.text() << "\n";
      entry[name_of(distribution)] = comparison.json();
    }
    report[name] = entry;
  }
  return report;
}

}  // namespace ng_silicon
