// SPDX-License-Identifier: Apache-2.0
//
// Inside the verifier: expected and given outputs as equal-sized lists of bits, and how to read them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "narrowgauge/numerics/element_format.hpp"
#include "narrowgauge/validate/case.hpp"
#include "narrowgauge/validate/verdict.hpp"
#include "narrowgauge/validate/verifier.hpp"

namespace ng::validate {

/// One output of the reference: rows x cols elements of a format, as bits.
struct Part {
  std::string name;
  FormatId format = FormatId::fp32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::uint32_t> bits;
  std::vector<std::uint8_t> nothing;  ///< empty, or 1 where an element means nothing
};
using Answer = std::vector<Part>;

/// What the reference says of a case: every part that an output could have. Throws UserError.
[[nodiscard]] Answer answer(const Case& c, const VerifyOptions& options);

/// Codes, scales, tensor scale and decoded values of a quantized tensor.
[[nodiscard]] Answer parts_of_tensor(const UnpackedTensor& t, DecodeOrder order = DecodeOrder::standard);

/// The parts of the answer that the case brings, as bits in the shape of the answer. Notes say what was taken otherwise
/// than its shape says.
[[nodiscard]] Answer given_parts(const Case& c, const Answer& expected, std::vector<std::string>& notes);

[[nodiscard]] PartVerdict compare(const Part& expected, const Part& got, std::span<const float> input,
                                  std::size_t first);
/// What a wrong part looks like.
[[nodiscard]] std::vector<Finding> recognise(const Part& expected, const Part& got);
/// Wrong kernels, and what of `expected` they change; `names` are the parts that the case brings.
[[nodiscard]] std::vector<PowerRow> power_of(const Case& c, const Answer& expected, const Answer& got,
                                             const VerifyOptions& options);
[[nodiscard]] std::optional<Explanation> explain(const Case& c, const Answer& got, const VerifyOptions& options);

/// Single changes that leave every part of `expected` that the case brings (`got`) as it is.
[[nodiscard]] std::vector<BlindChoice> blind_choices(const Case& c, const Answer& expected, const Answer& got,
                                                     const VerifyOptions& options);

/// FP32 value of an element.
[[nodiscard]] float value_of(FormatId format, std::uint32_t bits);
/// Steps from one number of a format to another; a NaN counts as one step beyond infinity.
[[nodiscard]] std::int64_t distance(FormatId format, std::uint32_t from, std::uint32_t to);

/// x's transposed values.
template <class T>
std::vector<T> turned(const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
  return copied_matrix<T>(x.data(), rows, cols, true);
}

}  // namespace ng::validate
