// SPDX-License-Identifier: Apache-2.0
//
// The differentiable gradient estimator of the oracle: equations 7 and 8 of arXiv 2501.17116 on a format's table of
// values, in long double with the C library's powl.
#pragma once

#include "formats.hpp"

namespace ng_oracle {

enum class Beyond { zero, last_interval, one };

struct EstimatorChoices {
  long double k = 5;
  long double clip = 3;
  Beyond beyond = Beyond::zero;
  bool normalize = false;
};

/// Mean of min((1/k) u^(1/k-1), clip) over u uniform in (0, 1).
long double dge_mean(const EstimatorChoices& choices);

/// Factor of the gradient of a weight whose scaled value is x, not rounded. NaN for NaN.
long double dge_factor(const Format& f, const EstimatorChoices& choices, float x);

}  // namespace ng_oracle
