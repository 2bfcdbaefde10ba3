// SPDX-License-Identifier: Apache-2.0
//
// Claim: over the CPU backend a recorded site gives the measures of its definition, micro-batch by micro-batch or
// whole, and looking changes no code and no scale. Alone: unit_recording_backend
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/recording/recorder.hpp"

namespace ng {
namespace {

constexpr std::int64_t kRows = 256, kCols = 128;

class RecordingBackend : public testing::Test {
 protected:
  RecordingBackend() : x_(backend_->tensor(Dtype::f32, kRows, kCols)) {
    backend_->fill_normal(x_.view, RandomStream{7, RandomPurpose::test_vectors, 0, 0}, 1.0);
  }

  Recorder recorder(std::vector<Measure> measures) {
    return Recorder({{{"a", {"*"}, std::move(measures), 1, {}}, {site_}}}, 10, measurer_of(*backend_));
  }

  // As the model does: a form for a product, which the tap may see. fprop takes the row form, wgrad the column form.
  QuantizedTensor quantize(std::int64_t first, std::int64_t count, int micro_batch, Orientation orientation) {
    const FormRequest request{orientation == Orientation::column ? Gemm::wgrad : Gemm::fprop,
                              Operand::activation,
                              {OperandKind::quantized, FormSource::original, spec_},
                              &site_};
    const Tensor part{x_.buffer, row_slice(x_.view, first, count)};
    const TensorForms forms = backend_->produce({1, 0, micro_batch, Phase::train}, part, {}, {&request, 1});
    return *forms.find(request.gemm)->quantized;
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend({});
  Tensor x_;
  Site site_{"layer.0/fc1/activation/wgrad", 0, 17};
  QuantizerSpec spec_ = quantizer_presets()[4].spec;  // mxfp4
};

TEST_F(RecordingBackend, RecordsTheDefinition) {
  for (const Orientation orientation : {Orientation::row, Orientation::column}) {
    Recorder recorder = this->recorder(
        {Measure::rel_mse, Measure::underflow_rate, Measure::max_abs_error, Measure::double_quant_error});
    ASSERT_TRUE(recorder.begin_step(0));
    backend_->set_tap(&recorder);
    const QuantizedTensor quantized = quantize(0, kRows, 0, orientation);
    backend_->set_tap(nullptr);
    const auto rows = recorder.finish_step();
    ASSERT_EQ(rows.size(), 1u);

    const bool column = orientation == Orientation::column;
    Tensor decoded = backend_->tensor(Dtype::f32, column ? kCols : kRows, column ? kRows : kCols);
    backend_->dequantize(quantized, decoded.view);
    std::vector<float> x(kRows * kCols), d(kRows * kCols);
    backend_->download(x.data(), x_.view);
    backend_->download(d.data(), decoded.view);
    long double error = 0, square = 0, nonzero = 0, underflow = 0;
    double largest = 0;
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kCols; ++c) {
        const double a = x[static_cast<std::size_t>(r * kCols + c)];
        const double b = d[static_cast<std::size_t>(column ? c * kRows + r : r * kCols + c)];
        error += (b - a) * (b - a);
        square += a * a;
        nonzero += a != 0;
        underflow += a != 0 && b == 0;
        largest = std::max(largest, std::fabs(b - a));
      }
    }
    // Sums in double over at most 2^15 terms: far below half a unit of the float that is stored.
    EXPECT_FLOAT_EQ(rows[0].values[0], static_cast<float>(error / square));
    EXPECT_GT(rows[0].values[0], 0.005f);
    EXPECT_EQ(rows[0].values[1], static_cast<float>(underflow / nonzero));
    EXPECT_EQ(rows[0].values[2], static_cast<float>(largest));
    EXPECT_EQ(std::isnan(rows[0].values[3]), !column);
    if (column) {
      EXPECT_GT(rows[0].values[3], 0.0f);
    }
  }
}

TEST_F(RecordingBackend, MicroBatchesMergeToTheWhole) {
  const std::vector<Measure> measures = {Measure::rel_mse,        Measure::bias,           Measure::saturation_rate,
                                         Measure::scale_log2_min, Measure::scale_log2_max, Measure::scale_log2_mean};
  Recorder whole = recorder(measures), parts = recorder(measures);
  (void)whole.begin_step(0);
  backend_->set_tap(&whole);
  (void)quantize(0, kRows, 0, Orientation::row);
  (void)parts.begin_step(0);
  backend_->set_tap(&parts);
  (void)quantize(0, 64, 0, Orientation::row);
  (void)quantize(64, kRows - 64, 1, Orientation::row);
  backend_->set_tap(nullptr);
  const auto a = whole.finish_step()[0].values, b = parts.finish_step()[0].values;
  // Rows of 128 are whole tiles, so codes are equal; sums are grouped otherwise, in double.
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_FLOAT_EQ(a[i], b[i]) << i;
}

TEST_F(RecordingBackend, LookingChangesNoByte) {
  spec_.cast.rounding = Rounding::stochastic;
  spec_.cast.random_bits = 8;
  for (const Orientation orientation : {Orientation::row, Orientation::column}) {
    const QuantizedTensor alone = quantize(0, kRows, 0, orientation);
    Recorder recorder = this->recorder({Measure::rel_mse, Measure::double_quant_error});
    (void)recorder.begin_step(0);
    backend_->set_tap(&recorder);
    const QuantizedTensor seen = quantize(0, kRows, 0, orientation);
    const QuantizedTensor again = quantize(0, kRows, 0, orientation);
    backend_->set_tap(nullptr);
    EXPECT_FALSE(std::isnan(recorder.finish_step()[0].values[0]));
    for (const QuantizedTensor* q : {&seen, &again}) {
      ASSERT_EQ(q->codes.bytes, alone.codes.bytes);
      EXPECT_EQ(std::memcmp(q->codes.data.get(), alone.codes.data.get(), alone.codes.bytes), 0);
      ASSERT_EQ(q->scales.bytes, alone.scales.bytes);
      EXPECT_EQ(std::memcmp(q->scales.data.get(), alone.scales.data.get(), alone.scales.bytes), 0);
    }
  }
}

}  // namespace
}  // namespace ng
