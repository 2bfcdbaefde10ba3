// SPDX-License-Identifier: Apache-2.0
//
// Running a case on the CPU backend, and saying where two outcomes differ.
#include <cstring>
#include <sstream>

#include "cases.hpp"
#include "narrowgauge/backend/registry.hpp"

namespace ng_test {

using namespace ng;

Outcome run_on_cpu(const ParityCase& c, int threads) {
  BackendOptions options;
  options.threads = threads;
  const auto backend = make_cpu_backend(options);
  const std::vector<std::byte> data = c.data();
  std::vector<std::byte> copy = data;
  TensorView x{copy.data(), c.dtype, c.rows, c.cols, c.stride, c.placement};
  if (!c.row_ids.empty()) x.placement.row_ids = c.row_ids.data();
  const QuantizedTensor q = backend->quantize(c.context, x, c.groups, c.spec, c.orientation, c.site);
  Outcome outcome;
  const auto bytes = [](const Buffer& b) {
    return std::vector<std::uint8_t>(b.as<std::uint8_t>(), b.as<std::uint8_t>() + b.bytes);
  };
  outcome.codes = bytes(q.codes);
  if (q.scales.data != nullptr) outcome.scales = bytes(q.scales);
  if (q.has_tensor_scale()) {
    const float* scales = q.tensor_scales.as<float>();
    outcome.tensor_scales.assign(scales, scales + q.groups.count());
  }
  outcome.nan_inputs = q.nan_inputs;
  outcome.decoded.resize(static_cast<std::size_t>(q.rows * q.cols));
  outcome.decoded_bf16.resize(outcome.decoded.size());
  backend->dequantize(q, TensorView{outcome.decoded.data(), Dtype::f32, q.rows, q.cols, q.cols, {}});
  backend->dequantize(q, TensorView{outcome.decoded_bf16.data(), Dtype::bf16, q.rows, q.cols, q.cols, {}});
  return outcome;
}

namespace {

template <class T>
bool compare(const char* what, const std::vector<T>& expected, const std::vector<T>& got, std::ostringstream& out) {
  if (expected.size() != got.size()) {
    out << what << ": " << expected.size() << " entries expected, got " << got.size() << "; ";
    return false;
  }
  if (expected.empty() || std::memcmp(expected.data(), got.data(), expected.size() * sizeof(T)) == 0) return true;
  std::size_t count = 0;
  std::size_t first = 0;
  for (std::size_t i = expected.size(); i-- > 0;)
    if (std::memcmp(&expected[i], &got[i], sizeof(T)) != 0) {
      ++count;
      first = i;
    }
  std::uint32_t e = 0;
  std::uint32_t g = 0;
  std::memcpy(&e, &expected[first], sizeof(T));
  std::memcpy(&g, &got[first], sizeof(T));
  out << what << ": " << count << " of " << expected.size() << " differ, first at " << first << " expected 0x"
      << std::hex << e << " got 0x" << g << std::dec << "; ";
  return false;
}

}  // namespace

std::string difference(const ParityCase& c, const Outcome& expected, const Outcome& got) {
  std::ostringstream out;
  bool equal = compare("codes", expected.codes, got.codes, out);
  equal = compare("scales", expected.scales, got.scales, out) && equal;
  equal = compare("tensor scales", expected.tensor_scales, got.tensor_scales, out) && equal;
  equal = compare("decoded", expected.decoded, got.decoded, out) && equal;
  equal = compare("decoded bf16", expected.decoded_bf16, got.decoded_bf16, out) && equal;
  if (expected.nan_inputs != got.nan_inputs) {
    out << "NaN inputs: " << expected.nan_inputs << " expected, got " << got.nan_inputs << "; ";
    equal = false;
  }
  if (equal) return {};
  std::ostringstream head;
  head << c.name << "\n  " << (c.orientation == Orientation::row ? "row" : "column") << " form of " << c.rows << "x"
       << c.cols << " stride " << c.stride << " " << name_of(c.dtype) << " fill " << int(c.fill) << " groups";
  for (const std::int64_t offset : c.groups.offsets) head << " " << offset;
  // The original element under the first differing code.
  for (std::size_t i = 0; i < expected.decoded.size() && i < got.decoded.size(); ++i) {
    if (std::memcmp(&expected.decoded[i], &got.decoded[i], sizeof(float)) == 0) continue;
    const std::int64_t q_cols = c.orientation == Orientation::row ? c.cols : c.rows;
    const std::int64_t line = static_cast<std::int64_t>(i) / q_cols;
    const std::int64_t at = static_cast<std::int64_t>(i) % q_cols;
    const std::int64_t row = c.orientation == Orientation::row ? line : at;
    const std::int64_t col = c.orientation == Orientation::row ? at : line;
    std::uint32_t input = 0;
    std::memcpy(&input, c.data().data() + static_cast<std::size_t>(row * c.stride + col) * size_of(c.dtype),
                size_of(c.dtype));
    head << "; first element that differs is (" << row << ", " << col << "), input 0x" << std::hex << input << std::dec;
    break;
  }
  return head.str() + "\n  " + out.str();
}

}  // namespace ng_test
