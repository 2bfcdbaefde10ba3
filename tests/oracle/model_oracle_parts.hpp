// SPDX-License-Identifier: Apache-2.0
//
// The small pieces of the model oracle, over a scalar type (double or Var): product, norm, softmax, SwiGLU, rotation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "scalar_tape.hpp"

namespace ng_oracle::model_parts {

using std::exp;
using std::log;
using std::sqrt;
using Index = std::int64_t;

inline std::size_t at(Index i) {
  return static_cast<std::size_t>(i);
}

template <class Real>
using Values = std::vector<Real>;

/// y[M] = W x, W[M, N] starting at entry `first` of `w`.
template <class Real>
Values<Real> product(const Values<Real>& w, Index first, Index M, Index N, const Values<Real>& x) {
  Values<Real> y(at(M));
  for (Index m = 0; m < M; ++m) {
    Real sum(0.0);
    for (Index n = 0; n < N; ++n) sum = sum + w[at(first + m * N + n)] * x[at(n)];
    y[at(m)] = sum;
  }
  return y;
}

template <class Real>
Values<Real> rms_norm(const Values<Real>& x, const Values<Real>& gain, double epsilon) {
  Real sum(0.0);
  for (const Real& v : x) sum = sum + v * v;
  const Real root = sqrt(sum / Real(static_cast<double>(x.size())) + Real(epsilon));
  Values<Real> y(x.size());
  for (std::size_t c = 0; c < x.size(); ++c) y[c] = x[c] / root * gain[c];
  return y;
}

/// log of the sum of exponentials; the largest term is taken out as a constant, which leaves value and derivative.
template <class Real>
Real log_sum_exp(const Values<Real>& x) {
  double largest = value_of(x[0]);
  for (const Real& v : x) largest = std::max(largest, value_of(v));
  Real sum(0.0);
  for (const Real& v : x) sum = sum + exp(v - Real(largest));
  return log(sum) + Real(largest);
}

template <class Real>
Values<Real> softmax(const Values<Real>& x) {
  const Real total = log_sum_exp(x);
  Values<Real> p(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) p[i] = exp(x[i] - total);
  return p;
}

/// fc1 [2F, C] from entry first1 on, fc2 [C, F] from entry first2 on.
template <class Real>
Values<Real> swiglu(const Values<Real>& h, const Values<Real>& fc1, Index first1, const Values<Real>& fc2, Index first2,
                    Index F) {
  const Index C = static_cast<Index>(h.size());
  const Values<Real> u = product(fc1, first1, 2 * F, C, h);
  Values<Real> y(at(F));
  for (Index f = 0; f < F; ++f) {
    const Real gate = u[at(f)];
    const Real silu = gate / (Real(1.0) + exp(Real(0.0) - gate));
    y[at(f)] = silu * u[at(F + f)];
  }
  return product(fc2, first2, C, F, y);
}

template <class Real>
void rotate_head(Values<Real>& head, Index first, Index D, Index position, double theta) {
  for (Index i = 0; i < D / 2; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
    const Real c(std::cos(angle));
    const Real s(std::sin(angle));
    const Real low = head[at(first + i)];
    const Real high = head[at(first + i + D / 2)];
    head[at(first + i)] = low * c - high * s;
    head[at(first + i + D / 2)] = high * c + low * s;
  }
}

template <class Real>
void add_to(Values<Real>& x, const Values<Real>& y) {
  for (std::size_t c = 0; c < x.size(); ++c) x[c] = x[c] + y[c];
}

}  // namespace ng_oracle::model_parts
