// SPDX-License-Identifier: Apache-2.0
//
// A quantization made ready: shapes checked, memory allocated, kernels chosen; then run any number of times. The
// result's layout is that of the CPU backend, byte for byte.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fast/quantize_patches.hpp"
#include "narrowgauge/observe/tap.hpp"
#include "narrowgauge/tensor/quantized_tensor.hpp"
#include "narrowgauge/tensor/step_context.hpp"
#include "plain/quantize_job.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// `fastest`: a fast kernel where one serves the job, else plain. `plain`: plain kernels only.
enum class KernelChoice : std::uint8_t { fastest, plain };

/// Group extents, and the tiles that start in them, of `rows` original rows with tiles `tile_height` high (0 = whole).
[[nodiscard]] std::vector<GroupExtent> group_extents(const RowGroups& groups, std::int64_t rows,
                                                     std::int64_t tile_height);

/// Shapes, placement and tile counts of a job, and of the result; all pointers still empty. LogicError for what no
/// kernel can do: another dtype than f32 and bf16, a Hadamard size that does not divide, four_over_six tiles above 16
/// lines.
[[nodiscard]] QuantizeJob describe_job(const StepContext& context, const TensorView& x, const RowGroups& groups,
                                       const QuantizerSpec& spec, Orientation orientation, const Site& site);
[[nodiscard]] QuantizedTensor describe_result(const QuantizeJob& job, const RowGroups& groups);

/// Which kernels a plan takes.
enum class KernelPath : std::uint8_t { plain, rows, tiles, patches };

class QuantizePlan {
 public:
  /// `known_amax`: device memory, FP32 magnitude bits of each group (the first alone where the spec's tensor scope is
  /// whole), for two-level formats; of each group, for quantizers whose tile is the whole tensor; nullptr: found from
  /// x. Read when the plan is made. A spec with an outlier split is a broken promise: see outliers.hpp.
  QuantizePlan(const StepContext& context, const TensorView& x, const RowGroups& groups, const QuantizerSpec& spec,
               Orientation orientation, const Site& site, KernelChoice choice,
               const std::uint32_t* known_amax = nullptr);

  /// Launches every kernel of the quantization; asynchronous on `stream`.
  void run(Stream stream);

  [[nodiscard]] KernelPath path() const { return path_; }

  /// The result of the last run; its codes and scales are there when the run is done. Waits for it only to count NaN.
  [[nodiscard]] QuantizedTensor result();

 private:
  friend class RowAndColumnPlan;
  /// What comes before the codes: zeroed workspaces, and for two-level formats the tensor scales.
  void prepare(Stream stream, bool find_amax);
  /// For tiles that are longer than a patch: their largest magnitudes, if not known, and their scales.
  void prepare_tiles(Stream stream, bool find_amax);
  void zero_what_patches_add_to(Stream stream);
  void allocate_tiles();

  QuantizeJob job_{};
  QuantizedTensor result_{};
  Dtype dtype_;
  std::vector<GroupExtent> extents_;
  KernelPath path_ = KernelPath::plain;
  bool tiles_serve_ = false;
  bool flat_amax_ = false;
  bool known_amax_ = false;
  std::optional<fast::PatchJob> patches_;
  Buffer groups_, bands_, transformed_, tile_amax_, known_tiles_, group_amax_, tensor_, tiles_, nan_inputs_;
};

/// Both forms of one tensor: from one read where a fast kernel serves the pair, otherwise one after the other.
class RowAndColumnPlan {
 public:
  /// Two plans on the same tensor, one of each orientation.
  RowAndColumnPlan(QuantizePlan row, QuantizePlan column);

  void run(Stream stream);
  [[nodiscard]] bool from_one_read() const { return together_; }
  [[nodiscard]] QuantizedTensor row() { return row_.result(); }
  [[nodiscard]] QuantizedTensor column() { return column_.result(); }

 private:
  void find_tensor_scales(Stream stream);
  void find_tile_scales(Stream stream);

  QuantizePlan row_, column_;
  bool together_;
  std::optional<fast::PatchJob> patches_;  ///< of both forms
  Buffer bands_;
};

}  // namespace ng::cuda
