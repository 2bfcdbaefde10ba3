// SPDX-License-Identifier: Apache-2.0
//
// No fast kernels without a GPU: none serves anything, so that every operation takes its plain one.
#include "fast/quantize_rows.hpp"
#include "fast/quantize_tiles.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng::cuda::fast {

namespace {
[[noreturn]] void none() {
  throw LogicError("a fast kernel without a GPU");
}
}  // namespace

bool serves(const QuantizeJob& /*job*/, Dtype /*source*/) {
  return false;
}
void quantize_rows(const QuantizeJob& /*job*/, Dtype /*source*/, CUstream_st* /*stream*/) {
  none();
}
bool serves_tensor_amax(const QuantizeJob& /*job*/) {
  return false;
}
void tensor_amax(const QuantizeJob& /*job*/, Dtype /*source*/, CUstream_st* /*stream*/) {
  none();
}
bool tiles_serve(const QuantizeJob& /*job*/, Dtype /*source*/, std::span<const GroupExtent> /*extents*/) {
  return false;
}
bool tiles_serve_together(const QuantizeJob& /*row*/, const QuantizeJob& /*column*/) {
  return false;
}
void quantize_tiles(const QuantizeJob* /*row*/, const QuantizeJob* /*column*/, Dtype /*source*/,
                    CUstream_st* /*stream*/) {
  none();
}
void tiles_amax(const QuantizeJob* /*row*/, const QuantizeJob* /*column*/, Dtype /*source*/, CUstream_st* /*stream*/) {
  none();
}

}  // namespace ng::cuda::fast
