// SPDX-License-Identifier: Apache-2.0
//
// random_products.hpp: operands of the instructions.
#include "random_products.hpp"

#include <cstdio>
#include <iostream>
#include <vector>

#include "distributions.hpp"
#include "subject_model.hpp"

namespace ng_silicon {

using namespace ng;

namespace {

constexpr int kChain = 2;       ///< instructions of one dot product
constexpr int kFirstShown = 2;  ///< differences that are written down, per instruction and distribution

void write_codes(std::ostream& out, std::span<const std::uint8_t> bytes, std::size_t row, std::size_t k, int size) {
  char text[16];
  for (std::size_t i = 0; i < k; ++i) {
    std::snprintf(text, sizeof text, " %0*x", 2 * size, code_at(bytes, row * k + i, size));
    out << text;
  }
}

Comparison compare_instruction(std::size_t number, Distribution distribution, std::int64_t products,
                               std::ostream& differences) {
  const cuda::Instruction& i = cuda::instructions()[number];
  const int size = cuda::operand_bytes(i.a);
  const auto k = static_cast<std::size_t>(kChain * i.k);
  const std::int64_t tiles = (products + i.m * i.n - 1) / (i.m * i.n);
  const auto count = static_cast<std::size_t>(tiles);
  const auto m = static_cast<std::size_t>(i.m), n = static_cast<std::size_t>(i.n);
  std::vector<std::uint8_t> a(count * m * k * static_cast<std::size_t>(size));
  std::vector<std::uint8_t> b(count * n * k * static_cast<std::size_t>(size));
  std::vector<std::uint32_t> c(count * m * n);
  in_parallel(tiles, [&](std::int64_t tile) {
    const auto t = static_cast<std::size_t>(tile);
    std::vector<std::uint32_t> codes(k);
    const auto fill = [&](std::vector<std::uint8_t>& to, std::size_t row, FormatId format, Side side) {
      fill_row(distribution, format, i.result, side, number, row, codes);
      for (std::size_t e = 0; e < k; ++e) put_code(to, row * k + e, size, codes[e]);
    };
    for (std::size_t r = 0; r < m; ++r) fill(a, t * m + r, i.a, Side::a);
    for (std::size_t r = 0; r < n; ++r) fill(b, t * n + r, i.b, Side::b);
    fill_accumulators(distribution, i.result, number, t, std::span(c).subspan(t * m * n, m * n));
  });
  const std::vector<std::uint32_t> subject = cuda::run_instruction(number, tiles, kChain, a, b, c);
  const std::vector<std::uint32_t> model = model_answers(i, tiles, kChain, a, b, c);
  const ResultType type = i.result == StepResult::fp32_toward_zero ? ResultType::f32 : ResultType::fp16;
  Comparison comparison;
  int shown = 0;
  for (std::size_t at = 0; at < subject.size(); ++at) {
    if (comparison.add(type, subject[at], model[at]) || shown >= kFirstShown) continue;
    ++shown;
    char text[160];
    std::snprintf(text, sizeof text, "%s, %s, element %zu: c %08x, subject %08x, model %08x\n  a", i.name,
                  name_of(distribution), at, c[at], subject[at], model[at]);
    differences << text;
    write_codes(differences, a, at / n, k, size);
    differences << "\n  b";
    write_codes(differences, b, at / (m * n) * n + at % n, k, size);
    differences << "\n";
  }
  return comparison;
}

void add_to(Comparison& total, const Comparison& part) {
  total.compared += part.compared;
  total.different += part.different;
  total.nan_bits += part.nan_bits;
  total.zero_sign += part.zero_sign;
  total.nans += part.nans;
  total.infinities += part.infinities;
  total.zeros += part.zeros;
}

}  // namespace

Json random_instruction_products(std::int64_t products, std::ostream& differences, Comparison& total) {
  Json report = Json::object();
  for (std::size_t number = 0; number < cuda::instructions().size(); ++number) {
    const cuda::Instruction& i = cuda::instructions()[number];
    Json entry = Json::object({{"k", kChain * i.k}});
    for (int d = 0; d < kDistributions; ++d) {
      const auto distribution = static_cast<Distribution>(d);
      const Comparison comparison = compare_instruction(number, distribution, products, differences);
      add_to(total, comparison);
      std::cout << i.name << ", " << name_of(distribution) << ": " << comparison.text() << "\n";
      entry[name_of(distribution)] = comparison.json();
    }
    report[i.name] = entry;
  }
  return report;
}

}  // namespace ng_silicon
