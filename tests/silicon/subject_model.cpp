// SPDX-License-Identifier: Apache-2.0
//
// subject_model.hpp: codes decoded once per tile, then numerics/accumulator.hpp element by element.
#include "subject_model.hpp"

#include <atomic>
#include <thread>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng_silicon {

using namespace ng;

float operand_value(FormatId format, std::uint32_t code) {
  return format == FormatId::tf32 ? float_of(code & 0xffffe000u) : decode(format_of(format), code);
}

float accumulator_value(StepResult result, std::uint32_t bits) {
  return result == StepResult::fp32_toward_zero ? float_of(bits) : decode(format_of(FormatId::fp16), bits);
}

std::uint32_t accumulator_bits(StepResult result, float value) {
  if (result == StepResult::fp32_toward_zero) return bits_of(value);
  if (is_nan_bits(bits_of(value))) return 0x7fffu;
  CastChoices choices;
  choices.overflow = Overflow::nonfinite;
  return encode(format_of(FormatId::fp16), choices, value);
}

AccumulatorSpec accumulator_of(const cuda::Instruction& i) {
  const bool narrow = cuda::operand_bytes(i.a) == 1;
  const char* const name = narrow && i.family == InstructionFamily::mma ? "hopper_mma_fp8" : "hopper";
  const AccumulatorRow* row = find_accumulator(name, i.a, i.b, i.result);
  if (row == nullptr) throw LogicError(std::string("no row of the catalogue for ") + i.name);
  AccumulatorSpec spec = row->spec;
  spec.instruction_k = static_cast<std::int16_t>(i.k);
  if (spec.terms > i.k) spec.terms = spec.instruction_k;
  return spec;
}

namespace {

StepOperands operands(const cuda::Instruction& i, const float* a, const float* b) {
  return {a, b, nullptr, nullptr, smallest_exponent(format_of(i.a)), smallest_exponent(format_of(i.b)), 0};
}

}  // namespace

std::uint32_t model_answer(const cuda::Instruction& i, std::span<const std::uint32_t> a,
                           std::span<const std::uint32_t> b, std::uint32_t c) {
  std::vector<float> x, y;
  for (const std::uint32_t code : a) x.push_back(operand_value(i.a, code));
  for (const std::uint32_t code : b) y.push_back(operand_value(i.b, code));
  const float d = accumulate(accumulator_of(i), operands(i, x.data(), y.data()), 0, static_cast<std::int64_t>(a.size()),
                             accumulator_value(i.result, c));
  return accumulator_bits(i.result, d);
}

std::uint32_t code_at(std::span<const std::uint8_t> bytes, std::size_t index, int size) {
  std::uint32_t code = 0;
  for (int byte = 0; byte < size; ++byte)
    code |= static_cast<std::uint32_t>(bytes[index * static_cast<std::size_t>(size) + static_cast<std::size_t>(byte)])
            << (8 * byte);
  return code;
}

void put_code(std::span<std::uint8_t> bytes, std::size_t index, int size, std::uint32_t code) {
  for (int byte = 0; byte < size; ++byte)
    bytes[index * static_cast<std::size_t>(size) + static_cast<std::size_t>(byte)] =
        static_cast<std::uint8_t>(code >> (8 * byte));
}

void in_parallel(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  std::atomic<std::int64_t> next{0};
  const auto run = [&] {
    for (std::int64_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::uint32_t> model_answers(const cuda::Instruction& i, std::int64_t tiles, int chain,
                                         std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                                         std::span<const std::uint32_t> c) {
  const AccumulatorSpec spec = accumulator_of(i);
  const int size = cuda::operand_bytes(i.a);
  const auto k = static_cast<std::size_t>(chain * i.k);
  const auto rows = static_cast<std::size_t>(i.m), cols = static_cast<std::size_t>(i.n);
  std::vector<std::uint32_t> d(c.size());
  in_parallel(tiles, [&](std::int64_t tile) {
    const auto t = static_cast<std::size_t>(tile);
    std::vector<float> x(rows * k), y(cols * k);
    for (std::size_t e = 0; e < x.size(); ++e) x[e] = operand_value(i.a, code_at(a, t * x.size() + e, size));
    for (std::size_t e = 0; e < y.size(); ++e) y[e] = operand_value(i.b, code_at(b, t * y.size() + e, size));
    for (std::size_t row = 0; row < rows; ++row)
      for (std::size_t col = 0; col < cols; ++col) {
        const std::size_t at = (t * rows + row) * cols + col;
        const float sum = accumulate(spec, operands(i, x.data() + row * k, y.data() + col * k), 0,
                                     static_cast<std::int64_t>(k), accumulator_value(i.result, c[at]));
        d[at] = accumulator_bits(i.result, sum);
      }
  });
  return d;
}

}  // namespace ng_silicon
