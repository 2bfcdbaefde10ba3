// SPDX-License-Identifier: Apache-2.0
//
// What transpose and recode share: a quantized tensor in, one out.
#pragma once

#include <string>

#include "command.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng::cli {

struct QuantizedInput {
  UnpackedTensor tensor;
  std::string quantizer;  ///< canonical JSON, "" when the file does not say
  std::string origin;     ///< "FILE.h5:/group"
};

/// FILE.h5 or FILE.h5:/group. UserError.
[[nodiscard]] QuantizedInput read_quantized_input(const std::string& in);

/// Errors of `work` with the name of the input in front.
template <class Work>
auto about(const QuantizedInput& in, const Work& work) {
  try {
    return work();
  } catch (const UserError& error) {
    throw UserError(in.origin + ": " + error.what());
  }
}

/// Writes `out` to --out, whole or not at all, and says how many values changed on the way.
void write_converted(const Arguments& arguments, const QuantizedInput& in, const UnpackedTensor& out,
                     const std::string& quantizer, const std::string& what);

}  // namespace ng::cli
