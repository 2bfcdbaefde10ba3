// SPDX-License-Identifier: Apache-2.0
//
// `recode`: FP8 to MXFP4 and back, from codes to codes.
#include <fmt/format.h>

#include "commands.hpp"
#include "conversion_output.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/validate/conversions.hpp"

namespace ng::cli {
namespace {

int run(const Arguments& arguments) {
  const QuantizedInput in = read_quantized_input(*arguments.operand("IN.h5"));
  const QuantizerSpec spec = parse_quantizer_with_recipes(arguments.get("as"));
  const Orientation axis = *find_enum<Orientation>(arguments.get("axis"));
  const UnpackedTensor out = about(in, [&] { return validate::recoded_reference(in.tensor, spec, axis); });
  write_converted(arguments, in, out, to_json(spec).canonical(), fmt::format("recode to {}", to_text(spec)));
  return kExitDone;
}

}  // namespace

Command recode_command() {
  return {"recode",
          "a quantized tensor in another format with power-of-two scales, without decoding it",
          {{"IN.h5", Occurs::required, "a quantized tensor: FILE.h5 or FILE.h5:/group; power-of-two scales"}},
          {{"as", "QUANTIZER", Occurs::required, "", "for example mxfp4,rule=rceil or fp8_1x128,rule=absmax_pow2"},
           {"axis", "AXIS", Occurs::optional, "row", "tiles run along rows, or down columns", {"row", "column"}},
           {"out", "OUT.h5", Occurs::required, "", "the file to write"}},
          run};
}

}  // namespace ng::cli
