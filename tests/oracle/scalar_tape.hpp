// SPDX-License-Identifier: Apache-2.0
//
// Reverse-mode differentiation of scalars: every arithmetic operation on a `Var` is written to a tape with its two
// partial derivatives, and one backward sweep multiplies them out. Knows six operations and no tensor, so that a
// gradient derived by hand for a layer shares nothing with it. Slow on purpose (48 bytes per multiply-add).
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace ng_oracle {

/// The record of one computation. While a Tape is alive it receives every operation on Vars of its thread.
class Tape {
 public:
  Tape() : outer_(current_) { current_ = this; }
  ~Tape() { current_ = outer_; }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  static Tape& current() {
    if (current_ == nullptr) throw std::logic_error("a Var was used without a Tape");
    return *current_;
  }

  /// Adds a result whose derivatives with respect to results `a` and `b` are `da`, `db`; an index of -1 is a constant.
  std::int32_t add(std::int32_t a, double da, std::int32_t b, double db) {
    nodes_.push_back({da, db, a, b});
    return static_cast<std::int32_t>(nodes_.size()) - 1;
  }

  /// d result / d every node, in tape order.
  std::vector<double> backward(std::int32_t result) const {
    std::vector<double> adjoint(nodes_.size(), 0.0);
    adjoint.at(static_cast<std::size_t>(result)) = 1.0;
    for (std::size_t n = nodes_.size(); n-- > 0;) {
      const Node& node = nodes_[n];
      if (adjoint[n] == 0.0) continue;
      if (node.a >= 0) adjoint[static_cast<std::size_t>(node.a)] += adjoint[n] * node.da;
      if (node.b >= 0) adjoint[static_cast<std::size_t>(node.b)] += adjoint[n] * node.db;
    }
    return adjoint;
  }

 private:
  struct Node {
    double da, db;
    std::int32_t a, b;
  };
  std::vector<Node> nodes_;
  Tape* outer_;
  inline static thread_local Tape* current_ = nullptr;
};

/// A double that remembers where it came from. Constants (from double) have index -1.
struct Var {
  double value = 0.0;
  std::int32_t index = -1;

  Var() = default;
  Var(double constant) : value(constant) {}  // NOLINT: constants mix freely with variables
  Var(double v, std::int32_t i) : value(v), index(i) {}

  /// A leaf: something to differentiate with respect to.
  static Var leaf(double v) { return {v, Tape::current().add(-1, 0.0, -1, 0.0)}; }
};

inline Var record(double value, const Var& a, double da, const Var& b, double db) {
  if (a.index < 0 && b.index < 0) return Var(value);
  return {value, Tape::current().add(a.index, da, b.index, db)};
}

inline Var operator+(const Var& a, const Var& b) {
  return record(a.value + b.value, a, 1.0, b, 1.0);
}
inline Var operator-(const Var& a, const Var& b) {
  return record(a.value - b.value, a, 1.0, b, -1.0);
}
inline Var operator*(const Var& a, const Var& b) {
  return record(a.value * b.value, a, b.value, b, a.value);
}
inline Var operator/(const Var& a, const Var& b) {
  return record(a.value / b.value, a, 1.0 / b.value, b, -a.value / (b.value * b.value));
}
inline Var exp(const Var& a) {
  const double y = std::exp(a.value);
  return record(y, a, y, Var(), 0.0);
}
inline Var log(const Var& a) {
  return record(std::log(a.value), a, 1.0 / a.value, Var(), 0.0);
}
inline Var sqrt(const Var& a) {
  const double y = std::sqrt(a.value);
  return record(y, a, 0.5 / y, Var(), 0.0);
}

inline double value_of(double x) {
  return x;
}
inline double value_of(const Var& x) {
  return x.value;
}

}  // namespace ng_oracle
