// SPDX-License-Identifier: Apache-2.0
//
// What ranks say to each other. The model calls it from the beginning; one rank answers itself. Sums over ranks run in
// rank order, so that the number of messages never decides a bit.
#pragma once

#include <memory>

#include "narrowgauge/backend/operations.hpp"
#include "narrowgauge/tensor/storage.hpp"

namespace ng {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Sum over all ranks, in rank order, in place. f32.
  virtual void all_reduce(const TensorView& values) = 0;
  /// Rows of all ranks, in rank order.
  virtual Tensor all_gather(const Tensor& rows) = 0;
  /// This rank's rows of the sum over all ranks, in rank order.
  virtual Tensor reduce_scatter(const Tensor& rows) = 0;
  /// Permuted rows [R, C] to the ranks that hold their experts.
  virtual Tensor dispatch(const Routing& routing, const Tensor& rows) = 0;
  /// Rows of this rank's experts back to the ranks of their tokens.
  virtual Tensor combine(const Routing& routing, const Tensor& rows) = 0;
};

/// One rank: every exchange returns what it was given, without a copy.
std::unique_ptr<Communicator> make_single_rank();

}  // namespace ng
