// SPDX-License-Identifier: Apache-2.0
//
// validate_probe.hpp: operands as npy files and a page of JSON that says what to do with them; the fit reads that page.
#include "validate_probe.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/validate/accumulator_fit.hpp"
#include "narrowgauge/validate/product_spec.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

constexpr const char* kPage = "probes.json";

int generate(const Arguments& arguments) {
  if (!arguments.has("types") || !arguments.has("out"))
    arguments.fail("--probe generate needs --types A,B (as in e4m3,e5m2) and --out DIR");
  const validate::ProbeTypes types =
      validate::probe_types(arguments.get("types"), arguments.get("block-scales"), arguments.get("out-format"));
  const validate::ProbeSet probes = validate::make_probes(types);
  const std::filesystem::path folder = arguments.get("out");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::is_directory(folder)) throw UserError(folder.string() + " is no folder and cannot be made one");
  write_npy((folder / "a.npy").string(), probes.codes(false));
  write_npy((folder / "b.npy").string(), probes.codes(true));
  const bool scaled = types.scales != OperandScales::none;
  if (scaled) {
    write_npy((folder / "block_scales_a.npy").string(), probes.scale_codes(false));
    write_npy((folder / "block_scales_b.npy").string(), probes.scale_codes(true));
  }
  Json::Array names;
  for (const std::string& name : probes.names) names.emplace_back(name);
  const Json page = Json::object(
      {{"a_format", name_of(types.a)},
       {"b_format", name_of(types.b)},
       {"block_scales", arguments.get("block-scales")},
       {"out_format", arguments.get("out-format")},
       {"rows", probes.count},
       {"k", probes.k},
       {"how",
        fmt::format("D = A B^T with A = a.npy and B = b.npy, both [{0}, {1}] codes, alpha 1, beta 0{2}; save D, [{0}, "
                    "{0}] {3}, or its diagonal, as npy; then: validate --probe fit --in {4} --out-result D.npy",
                    probes.count, probes.k, scaled ? ", with the block scales beside them" : "",
                    arguments.get("out-format"), folder.string())},
       {"probes", Json(std::move(names))}});
  write_file((folder / kPage).string(), page.pretty() + "\n");
  write_stdout(page.at("how").as_string() + "\n");
  return kExitDone;
}

std::string text_of_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw UserError(fmt::format("cannot read {}; --in is the folder that --probe generate wrote", path.string()));
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

int fit(const Arguments& arguments) {
  if (!arguments.has("in") || !arguments.has("out-result"))
    arguments.fail("--probe fit needs --in DIR, the folder of --probe generate, and --out-result D.npy");
  const std::filesystem::path page_path = std::filesystem::path(arguments.get("in")) / kPage;
  const Json page = Json::parse(text_of_file(page_path), page_path.string());
  const auto member = [&](const char* key) {
    const Json* value = page.find(key);
    if (value == nullptr || !value->is_string())
      throw UserError(
          fmt::format("{}: has no text '{}'; write it again with --probe generate", page_path.string(), key));
    return value->as_string();
  };
  const validate::ProbeTypes types = validate::probe_types(member("a_format") + "," + member("b_format"),
                                                           member("block_scales"), member("out_format"));
  const validate::ProbeSet probes = validate::make_probes(types);
  const Json* rows = page.find("rows");
  if (rows == nullptr || !rows->is_integer() || rows->as_int() != probes.count)
    throw UserError(page_path.string() + ": written by another version; write it again with --probe generate");
  const validate::Fit fit =
      validate::fit_accumulator(probes, validate::probe_results(probes, read_tensor(arguments.get("out-result"))));
  write_stdout(fit.text(types));
  return fit.machines.empty() && fit.also.empty() ? kExitDifference : kExitDone;
}

}  // namespace

std::vector<Option> probe_options() {
  return {{"probe",
           "WHAT",
           Occurs::optional,
           "",
           "an unknown GEMM's accumulator: its operands, or the fit of its result",
           {"generate", "fit"}},
          {"types", "A,B", Occurs::optional, "", "of --probe generate: operand formats"},
          {"block-scales",
           "TYPE",
           Occurs::optional,
           "none",
           "of --probe generate: per 32 or per 16 of K",
           {"none", "e8m0", "e4m3"}},
          {"out-format",
           "TYPE",
           Occurs::optional,
           "f32",
           "of --probe generate: what the GEMM writes",
           {"f32", "bf16", "f16"}},
          {"out", "DIR", Occurs::optional, "", "of --probe generate"}};
}

int run_probe(const Arguments& arguments) {
  return arguments.get("probe") == "generate" ? generate(arguments) : fit(arguments);
}

}  // namespace ng::cli
