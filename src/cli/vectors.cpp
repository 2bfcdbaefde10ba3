// SPDX-License-Identifier: Apache-2.0
//
// `vectors`: inputs and expected outputs for other people's kernels and RTL.
#include <fmt/format.h>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/version.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/validate/reference_product.hpp"
#include "narrowgauge/validate/vectors.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

int run(const Arguments& arguments) {
  if (arguments.has("as") == arguments.has("matmul")) arguments.fail("give either --as or --matmul");
  const auto cases = *find_enum<validate::VectorCases>(arguments.get("cases"));
  const auto form = *find_enum<validate::VectorForm>(arguments.get("form"));
  const auto seed = static_cast<std::uint32_t>(arguments.integer("seed", 0, 0xffffffff));
  const std::vector<validate::VectorCase> vectors =
      arguments.has("as")
          ? validate::quantizer_vectors(to_text(parse_quantizer_with_recipes(arguments.get("as"))), cases, seed)
          : validate::product_vectors(arguments.get("matmul"), cases, seed, validate::reference_product);
  validate::write_vectors(vectors, form, arguments.get("out"), fmt::format("narrowgauge {}", program_version()));
  std::int64_t elements = 0;
  for (const validate::VectorCase& v : vectors)
    for (const auto& [name, array] : v.expected) elements += array.count();
  write_stderr(fmt::format("{}: {} cases, {} expected elements\n", arguments.get("out"), vectors.size(), elements));
  return kExitDone;
}

}  // namespace

Command vectors_command() {
  return {"vectors",
          "test vectors for other people's kernels and RTL: inputs, expected outputs, a manifest",
          {},
          {{"as", "QUANTIZER", Occurs::optional, "", "of a quantizer or cast, for example nvfp4"},
           {"matmul", "SPEC", Occurs::optional, "", "of a product: a_format=e4m3,b_format=e4m3,arithmetic=hopper"},
           {"cases", "WHICH", Occurs::optional, "all",
            "places where quantizers part, random numbers, or both (casts: and every BF16)",
            names_of<validate::VectorCases>()},
           {"seed", "S", Occurs::optional, "0", "of everything random"},
           {"form", "FORM", Occurs::optional, "hdf5", "a dump without outputs, npy files, or hex for $readmemh",
            names_of<validate::VectorForm>()},
           {"out", "DIR", Occurs::required, "", "folder for the files and manifest.json"}},
          run};
}

}  // namespace ng::cli
