// SPDX-License-Identifier: Apache-2.0
//
// The layers, lowest first, and which ones each may include. The table of the architecture, once.
#pragma once

#include <string_view>
#include <vector>

namespace ng::hygiene {

struct LayerRow {
  std::string_view name;                   // folder under include/narrowgauge and src; backend_cuda is cuda/
  std::vector<std::string_view> may_use;   // beside itself
};

inline const std::vector<LayerRow>& layer_table() {
  static const std::vector<LayerRow> table = {
      {"numerics", {}},
      {"base", {"numerics"}},
      {"tensor", {"numerics", "base"}},
      {"io", {"numerics", "base", "tensor"}},
      {"quantize", {"numerics", "tensor"}},
      {"recipe", {"numerics", "base"}},
      {"observe", {"tensor"}},
      {"backend", {"numerics", "base", "tensor", "quantize", "observe"}},
      {"backend_cpu", {"numerics", "base", "tensor", "quantize", "observe", "backend"}},
      {"backend_cuda", {"numerics", "base", "tensor", "quantize", "observe", "backend"}},
      {"backend_cuda_absent", {"numerics", "base", "tensor", "quantize", "observe", "backend"}},
      {"parallel", {"tensor", "backend"}},
      {"model", {"numerics", "base", "tensor", "recipe", "observe", "backend", "parallel"}},
      {"recording", {"numerics", "base", "tensor", "io", "observe", "backend"}},
      {"training",
       {"numerics", "base", "tensor", "io", "quantize", "recipe", "observe", "backend", "backend_cpu", "backend_cuda",
        "backend_cuda_absent", "parallel", "model", "recording"}},
      {"study",
       {"numerics", "base", "tensor", "io", "quantize", "recipe", "observe", "backend", "backend_cpu", "backend_cuda",
        "backend_cuda_absent", "parallel", "model", "recording", "training"}},
      {"validate", {"numerics", "base", "tensor", "io", "quantize", "recipe", "backend"}},
      {"cli",
       {"numerics", "base", "tensor", "io", "quantize", "recipe", "observe", "backend", "backend_cpu", "backend_cuda",
        "backend_cuda_absent", "parallel", "model", "recording", "training", "study", "validate"}},
  };
  return table;
}

}  // namespace ng::hygiene
