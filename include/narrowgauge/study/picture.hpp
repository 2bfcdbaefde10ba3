// SPDX-License-Identifier: Apache-2.0
//
// The pictures of a study as SVG text, written here without a library: dark on white, readable without
// colour vision (every arm has a colour and a marker of its own), the same bytes for the same input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "narrowgauge/study/statistics.hpp"

namespace ng {

/// A picture and what a reader has to know to read it: what is shown, what is left out, what it can't tell.
struct Picture {
  std::string name;  // file name without extension
  std::string title;
  std::string svg;      // one <svg> element, no external reference
  std::string caption;  // plain text, not escaped
};

// Each of these is nothing where the study holds nothing to draw.

/// Relative MSE of the quantized operands (log axis, right axis in dB SQNR) over layers: a panel for each
/// operand and linear, a line for each arm; the mean over records and seeds. From the measure rel_mse, else
/// from sqnr_db. Reads sites named layer.L/LINEAR/OPERAND[/GEMM].
[[nodiscard]] std::optional<Picture> picture_error_by_layer(const StudyResult& study);
/// Held-out loss differences to the baseline: a point for each seed, mean, intervals, verdict in words, the
/// baseline's seed spread as grey band, the tolerance as dashed lines.
[[nodiscard]] std::optional<Picture> picture_paired_differences(const StudyResult& study, const Judgement& judgement);
/// Loss over steps: training smoothed (mean over seeds), held-out as points; beside it the end, enlarged.
[[nodiscard]] std::optional<Picture> picture_loss_curves(const StudyResult& study);
/// Training-loss difference at equal steps, smoothed after the subtraction, a panel for each arm.
[[nodiscard]] std::optional<Picture> picture_matched_differences(const StudyResult& study, const Judgement& judgement);

/// Relative MSE, and the mean log2 of the scales, of the quantized operands over steps: a panel for each operand and
/// linear, a line for each arm, the mean over layers and seeds.
[[nodiscard]] std::optional<Picture> picture_error_over_steps(const StudyResult& study);
[[nodiscard]] std::optional<Picture> picture_scales_over_steps(const StudyResult& study);
/// Overload, entropy and (where there are any) dropped slots of the routers over steps, for up to six layers.
[[nodiscard]] std::optional<Picture> picture_routers(const StudyResult& study);

/// All pictures for which the study holds data, in the order above.
[[nodiscard]] std::vector<Picture> make_pictures(const StudyResult& study, const Judgement& judgement);
/// Writes them as NAME.svg into an existing folder and returns the paths. MachineError if that fails.
std::vector<std::string> write_pictures(const StudyResult& study, const std::string& folder);

}  // namespace ng
