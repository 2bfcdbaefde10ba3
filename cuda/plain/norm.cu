// SPDX-License-Identifier: Apache-2.0
//
// RMS norms: one thread the sum over one part of a row, then one thread one element; the gradient of a gain one thread
// one column.
#include "plain/norm.hpp"

#include "narrowgauge/numerics/rms_norm.hpp"
#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

/// Part `part` of row `row` of a view.
struct Part {
  TensorView view;
  std::int64_t row, first;
  NG_HD float operator[](std::int64_t i) const { return load_real(view, row, first + i); }
};

struct Rstd {
  TensorView x, rstd;
  float epsilon;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t width = x.cols / rstd.cols;
    const std::int64_t r = i / rstd.cols;
    const std::int64_t part = i % rstd.cols;
    store_real(rstd, r, part, rms_norm_rstd_of(Part{x, r, part * width}, epsilon, width));
  }
};

struct Values {
  TensorView x, y, rstd;
  const float* gain;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t width = x.cols / rstd.cols;
    const std::int64_t r = i / x.cols;
    const std::int64_t c = i % x.cols;
    store_real(y, r, c, rms_norm_value(load_real(x, r, c), load_real(rstd, r, c / width), gain[c % width]));
  }
};

struct Means {
  TensorView x, rstd, dy, means;
  const float* gain;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t width = x.cols / rstd.cols;
    const std::int64_t r = i / rstd.cols;
    const std::int64_t part = i % rstd.cols;
    const Part x_part{x, r, part * width};
    const Part dy_part{dy, r, part * width};
    store_real(means, r, part, rms_norm_mean_of(x_part, gain, load_real(rstd, r, part), dy_part, width));
  }
};

struct Gradients {
  TensorView x, rstd, dy, dx, means;
  const float* gain;
  bool accumulate;
  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t width = x.cols / rstd.cols;
    const std::int64_t r = i / x.cols;
    const std::int64_t c = i % x.cols;
    const std::int64_t part = c / width;
    const float gradient = rms_norm_gradient(load_real(x, r, c), gain[c % width], load_real(rstd, r, part),
                                             load_real(dy, r, c), load_real(means, r, part));
    store_real(dx, r, c, accumulate ? add_rn(load_real(dx, r, c), gradient) : gradient);
  }
};

struct GainGradient {
  TensorView x, rstd, dy;
  float* d_gain;
  NG_HD void operator()(std::int64_t c) const {
    const std::int64_t width = x.cols / rstd.cols;
    float sum = d_gain[c];
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t part = 0; part < rstd.cols; ++part) {
        const std::int64_t col = part * width + c;
        sum = rms_norm_gain_step(sum, load_real(x, r, col), load_real(rstd, r, part), load_real(dy, r, col));
      }
    d_gain[c] = sum;
  }
};

}  // namespace

void rms_norm(const TensorView& x, const float* gain, float epsilon, const TensorView& y, const TensorView& rstd,
              Stream stream) {
  for_each("rms_norm, sums", rstd.rows * rstd.cols, stream, Rstd{x, rstd, epsilon});
  for_each("rms_norm", x.rows * x.cols, stream, Values{x, y, rstd, gain});
}

void rms_norm_backward(const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                       const TensorView& dx, bool accumulate, const TensorView& means, Stream stream) {
  for_each("rms_norm_backward, sums", rstd.rows * rstd.cols, stream, Means{x, rstd, dy, means, gain});
  for_each("rms_norm_backward", x.rows * x.cols, stream, Gradients{x, rstd, dy, dx, means, gain, accumulate});
}

void gain_gradient(const TensorView& x, const TensorView& rstd, const TensorView& dy, float* d_gain, Stream stream) {
  for_each("gain_gradient", rstd.cols == 0 ? 0 : x.cols / rstd.cols, stream, GainGradient{x, rstd, dy, d_gain});
}

}  // namespace ng::cuda::plain
