// SPDX-License-Identifier: Apache-2.0
//
// Time on the GPU between two points of the default stream.
#pragma once

#include <functional>

namespace ng::cuda {

/// Median milliseconds of `work`, which launches on the default stream, over `repeats` runs after two unmeasured ones.
[[nodiscard]] double median_milliseconds(const std::function<void()>& work, int repeats);

}  // namespace ng::cuda
