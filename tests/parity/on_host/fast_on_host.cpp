// SPDX-License-Identifier: Apache-2.0
//
// No fast kernels without a GPU: none serves anything, so that every operation takes its plain one.
#include "fast/attention.hpp"
#include "fast/chain_matmul.hpp"
#include "fast/estimator.hpp"
#include "fast/outliers.hpp"
#include "fast/measure_errors.hpp"
#include "fast/quantize_rows.hpp"
#include "fast/quantize_tiles.hpp"
#include "fast/residual_product.hpp"
#include "fast/router.hpp"
#include "fast/routing.hpp"
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
bool estimator_serves(const EstimatorJob& /*job*/) {
  return false;
}
bool estimator_finds_scales(const EstimatorJob& /*job*/) {
  return false;
}
void multiply_by_estimator(const EstimatorJob& /*job*/, CUstream_st* /*stream*/) {
  none();
}
bool residual_product_serves(const TensorView& /*b*/, const TensorView& /*out*/) {
  return false;
}
std::size_t turned_bytes(const TensorView& /*b*/) {
  return 0;
}
void turn(const TensorView& /*b*/, void* /*turned*/, CUstream_st* /*stream*/) {
  none();
}
void add_residual_product(const ResidualView& /*a*/, std::int64_t /*row0*/, const TensorView& /*b*/,
                          const void* /*turned*/, const TensorView& /*out*/, CUstream_st* /*stream*/) {
  none();
}
bool outliers_serve(const OutlierJob& /*job*/) {
  return false;
}
void split_by_row(const OutlierJob& /*job*/, std::int64_t /*capacity*/, CUstream_st* /*stream*/) {
  none();
}
std::size_t tensor_bounds_bytes(const OutlierJob& /*job*/) {
  return 0;
}
void tensor_bounds(const OutlierJob& /*job*/, void* /*workspace*/, CUstream_st* /*stream*/) {
  none();
}
void count_outliers(const OutlierJob& /*job*/, CUstream_st* /*stream*/) {
  none();
}
void split_by_bounds(const OutlierJob& /*job*/, CUstream_st* /*stream*/) {
  none();
}
void sum_positions(const OutlierJob& /*job*/, CUstream_st* /*stream*/) {
  none();
}
void pack_residual(const OutlierJob& /*job*/, const OutlierJob& /*from*/, std::int64_t /*capacity*/,
                   CUstream_st* /*stream*/) {
  none();
}
bool serves_tensor_amax(const QuantizeJob& /*job*/, Dtype /*source*/) {
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
bool chain_matmul_serves(std::span<const ChainProduct> /*products*/) {
  return false;
}
void chain_matmul(std::span<const ChainProduct> /*products*/, Stream /*stream*/) {
  none();
}

bool routes(const RouterSpec& /*spec*/) {
  return false;
}
bool routes_back(const RouterSpec& /*spec*/) {
  return false;
}
void route_tokens(const RouterJob& /*job*/, Stream /*stream*/) {
  none();
}
void sum_pieces(const RouterJob& /*job*/, std::int64_t* /*totals*/, Stream /*stream*/) {
  none();
}
void drop_slots(const RouterJob& /*job*/, const DropLists& /*lists*/, Stream /*stream*/) {
  none();
}
void token_sums(const RouterJob& /*job*/, const RouterSums& /*sums*/, Stream /*stream*/) {
  none();
}
void share_sums(const RouterJob& /*job*/, const RouterSums& /*sums*/, std::int64_t /*scope*/, Stream /*stream*/) {
  none();
}
void route_backward(const plain::RouterGradientJob& /*job*/, Stream /*stream*/) {
  none();
}
bool moves_serve(std::initializer_list<TensorView> /*views*/) {
  return false;
}
void permute(const RowMoves& /*moves*/, const TensorView& /*x*/, const TensorView& /*y*/, Stream /*stream*/) {
  none();
}
void permute_backward(const RowMoves& /*moves*/, const TensorView& /*dy*/, const TensorView& /*dx*/,
                      bool /*accumulate*/, Stream /*stream*/) {
  none();
}
void combine(const RowMoves& /*moves*/, const TensorView& /*x*/, const TensorView& /*y*/, Stream /*stream*/) {
  none();
}
void combine_backward(const RowMoves& /*moves*/, const TensorView& /*x*/, const TensorView& /*dy*/,
                      const TensorView& /*dx*/, float* /*d_weight*/, Stream /*stream*/) {
  none();
}
bool attention_serves(const AttentionJob& /*job*/) {
  return false;
}
void attention(const AttentionJob& /*job*/, Stream /*stream*/) {
  none();
}
bool attention_backward_serves(const AttentionGradientJob& /*job*/) {
  return false;
}
std::size_t attention_backward_scratch(const AttentionJob& /*job*/) {
  return 0;
}
void attention_backward(const AttentionGradientJob& /*job*/, void* /*scratch*/, std::size_t /*bytes*/,
                        Stream /*stream*/) {
  none();
}

bool serves_measure_errors(const MeasureJob& /*job*/) {
  return false;
}
std::int64_t measure_error_nodes(const MeasureJob& /*job*/) {
  none();
}
void measure_errors(const MeasureJob& /*job*/, Stream /*stream*/) {
  none();
}
bool serves_count_codes(const CountJob& /*job*/) {
  return false;
}
void count_codes(const CountJob& /*job*/, Stream /*stream*/) {
  none();
}
bool serves_measure_scales() {
  return false;
}
void measure_scales(const ScaleJob& /*job*/, Stream /*stream*/) {
  none();
}

}  // namespace ng::cuda::fast
