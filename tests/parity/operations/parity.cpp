// SPDX-License-Identifier: Apache-2.0
//
// Backends, inputs and comparison of the operation tests.
#include "operations/parity.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>

#include "backend/cuda_backend.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "runtime/device.hpp"

namespace ng_test {

using namespace ng;

namespace {

std::uint64_t element_bits(const std::vector<std::byte>& bytes, std::size_t width, std::size_t i) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, bytes.data() + i * width, width);
  return bits;
}

bool is_nan(Dtype dtype, std::uint64_t bits) {
  if (dtype == Dtype::f32) return (bits & 0x7fffffffu) > 0x7f800000u;
  if (dtype == Dtype::bf16) return (bits & 0x7fffu) > 0x7f80u;
  return false;
}

}  // namespace

void Outputs::add(const Backend& backend, const std::string& name, const TensorView& view) {
  Entry entry{name, view.dtype, view.cols, {}};
  entry.bytes.resize(static_cast<std::size_t>(view.count()) * size_of(view.dtype));
  backend.download(entry.bytes.data(), view);
  entries_.push_back(std::move(entry));
}

void Outputs::add(Backend& backend, const std::string& name, const Buffer& buffer, Dtype dtype, std::int64_t count) {
  add(backend, name, TensorView{buffer.data.get(), dtype, 1, count, count, {}});
}

void Outputs::add(const std::string& name, double value) {
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();  // one NaN is as good as another
  Entry entry{name, Dtype::i64, 1, std::vector<std::byte>(sizeof value)};
  const double kept = std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;  // any NaN is the same
  std::memcpy(entry.bytes.data(), &kept, sizeof kept);
  entries_.push_back(std::move(entry));
}

void Outputs::add(const std::string& name, const std::vector<std::int64_t>& list) {
  Entry entry{name, Dtype::i64, static_cast<std::int64_t>(list.size()), {}};
  entry.bytes.resize(list.size() * sizeof(std::int64_t));
  if (!list.empty()) std::memcpy(entry.bytes.data(), list.data(), entry.bytes.size());
  entries_.push_back(std::move(entry));
}

void Outputs::append(const Outputs& other) {
  entries_.insert(entries_.end(), other.entries_.begin(), other.entries_.end());
}

std::string Outputs::difference(const Outputs& got) const {
  if (entries_.size() != got.entries_.size()) return "another number of outputs";
  std::ostringstream out;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const Entry& a = entries_[e];
    const Entry& b = got.entries_[e];
    if (a.name != b.name || a.dtype != b.dtype || a.bytes.size() != b.bytes.size())
      return "output " + a.name + ": another shape";
    const std::size_t width = size_of(a.dtype);
    const std::size_t count = a.bytes.size() / width;
    std::size_t differing = 0;
    std::size_t first = 0;
    for (std::size_t i = count; i-- > 0;) {
      const std::uint64_t x = element_bits(a.bytes, width, i);
      const std::uint64_t y = element_bits(b.bytes, width, i);
      if (x == y || (is_nan(a.dtype, x) && is_nan(b.dtype, y))) continue;
      ++differing;
      first = i;
    }
    if (differing == 0) continue;
    const std::size_t cols = a.cols > 0 ? static_cast<std::size_t>(a.cols) : 1;
    out << a.name << ": " << differing << " of " << count << " differ, first (" << first / cols << ", " << first % cols
        << "): 0x" << std::hex << element_bits(a.bytes, width, first) << " on the CPU, 0x"
        << element_bits(b.bytes, width, first) << std::dec << "; ";
  }
  return out.str();
}

void OperationParity::SetUp() {
  if (const auto problem = cuda::device_problem()) GTEST_SKIP() << "NOT TESTED, no GPU: " << *problem;
}

void OperationParity::expect_parity(const std::string& name, const OperationCase& run, Arithmetic arithmetic) {
  BackendOptions options;
  options.threads = 2;
  options.arithmetic = arithmetic;
  const auto cpu = make_cpu_backend(options);
  const Outputs expected = run(*cpu);
  for (const cuda::KernelChoice choice : {cuda::KernelChoice::plain, cuda::KernelChoice::fastest}) {
    const auto backend = cuda::make_backend_of(options, choice);
    EXPECT_EQ(expected.difference(run(*backend)), "")
        << name << ", " << (choice == cuda::KernelChoice::plain ? "plain" : "fastest") << " kernels";
  }
}

std::vector<float> values(Values kind, std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed * 2654435761u + 12345u);
  std::vector<float> result(static_cast<std::size_t>(count));
  const auto normal = [&] {  // sum of uniform numbers: the same on every machine, unlike std::normal_distribution
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random()) / 4294967296.0;
    return static_cast<float>(sum);
  };
  for (float& x : result) {
    x = normal();
    if (kind == Values::normal) continue;
    const std::uint32_t dice = random();
    if (kind == Values::wide) {
      x = dice % 16 == 0 ? (dice & 16 ? -0.0f : 0.0f) : std::ldexp(x, static_cast<int>(dice >> 8) % 41 - 20);
      continue;
    }
    switch (dice % 40) {
      case 0:
        x = 0.0f;
        break;
      case 1:
        x = -0.0f;
        break;
      case 2:
        x = 1e-40f;
        break;
      case 3:
        x = -3e38f;
        break;
      case 4:
        x = HUGE_VALF;
        break;
      case 5:
        x = -HUGE_VALF;
        break;
      case 6:
        x = std::nanf("");
        break;
      default:
        break;
    }
  }
  return result;
}

Tensor tensor_of(Backend& backend, Dtype dtype, std::int64_t rows, std::int64_t cols, Values kind, std::uint32_t seed,
                 std::int64_t padding) {
  const std::vector<float> list = values(kind, rows * cols, seed);
  Tensor tensor = backend.tensor(dtype, rows, cols + padding);
  const std::int64_t stride = cols + padding;
  const auto at = [&](std::int64_t r, std::int64_t c) {
    return c < cols ? list[static_cast<std::size_t>(r * cols + c)] : std::nanf("");
  };
  if (dtype == Dtype::f32) {
    std::vector<float> host(static_cast<std::size_t>(rows * stride));
    for (std::int64_t i = 0; i < rows * stride; ++i) host[static_cast<std::size_t>(i)] = at(i / stride, i % stride);
    backend.upload(tensor.view, host.data());
  } else {
    std::vector<std::uint16_t> host(static_cast<std::size_t>(rows * stride));
    for (std::int64_t i = 0; i < rows * stride; ++i)
      host[static_cast<std::size_t>(i)] =
          static_cast<std::uint16_t>(bits_of(round_to_bf16(at(i / stride, i % stride))) >> 16);
    backend.upload(tensor.view, host.data());
  }
  tensor.view.cols = cols;
  tensor.view.placement = Placement{rows, cols, 0, 0, nullptr};
  return tensor;
}

Tensor integers_of(Backend& backend, Dtype dtype, std::int64_t rows, std::int64_t cols, std::int64_t below,
                   std::uint32_t seed) {
  std::mt19937 random(seed * 2246822519u + 7u);
  const std::size_t width = size_of(dtype);
  std::vector<std::byte> host(static_cast<std::size_t>(rows * cols) * width);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const std::int64_t value = static_cast<std::int64_t>(random()) % below;
    std::memcpy(host.data() + static_cast<std::size_t>(i) * width, &value, width);  // little-endian
  }
  Tensor tensor = backend.tensor(dtype, rows, cols);
  backend.upload(tensor.view, host.data());
  return tensor;
}

}  // namespace ng_test
