// SPDX-License-Identifier: Apache-2.0
//
// What a run file says of a run before its first step.
#include "run_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <set>

#include "narrowgauge/base/version.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recording/recorder.hpp"

namespace ng {

namespace {

std::string scales_text(const OperandSpec& operand) {
  if (operand.kind != OperandKind::quantized) return "none";
  return to_text(operand.quantizer);
}

std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

struct HowExecuted {
  std::string carrier, arithmetic, accumulate;
};

/// The words for what a backend does with a product.
HowExecuted how_executed(const GemmSpec& spec, Arithmetic arithmetic) {
  const HopperProduct how = hopper_product(spec);
  if (arithmetic == Arithmetic::ieee || how.steps == HopperSteps::fp32_chain)
    return {"f32", std::string(name_of(Arithmetic::ieee)), "f32 fma chain, ascending k"};
  const bool fp8 = how.steps == HopperSteps::fp8;
  const bool emulated =
      fp8 && (spec.a.quantizer.element_id == FormatId::e2m1 || spec.b.quantizer.element_id == FormatId::e2m1);
  static constexpr const char* kScales[] = {"", ", one scale", ", scales by row", ", scales 1x128 inside",
                                            ", scales 128x128 inside"};
  const AccumulatorSpec& core = how.core.accumulator;
  return {fp8 ? (emulated ? "e4m3" : "none") : "bf16", std::string(name_of(arithmetic)),
          fmt::format("{} steps of {}, {} fraction bits, {}{}", fp8 ? "fp8" : "bf16", core.terms, core.fraction_bits,
                      how.core.promotion != 0 ? fmt::format("f32 sum per {} of k", how.core.promotion) : "one chain",
                      kScales[static_cast<std::size_t>(how.scales)])};
}

/// "layer.3/fc1" -> 3; outside the layers -1.
std::int64_t layer_of(const std::string& name) {
  if (name.rfind("layer.", 0) != 0) return kOutsideLayers;
  return std::stoll(name.substr(6));
}

}  // namespace

std::vector<GemmRow> gemm_rows(Edges& edges, Arithmetic arithmetic, const std::string& algorithm) {
  double total = 0.0;
  for (const LinearEdges& linear : edges.all())
    total += linear.uses_per_token * static_cast<double>(linear.out * linear.in) * kGemmCount;
  std::vector<GemmRow> rows;
  for (const LinearEdges& linear : edges.all()) {
    for (int g = 0; g < kGemmCount; ++g) {
      const GemmSpec& spec = linear.spec.gemm[g];
      GemmRow row;
      row.site = linear.product_sites[g].name;
      row.a_format = format_label(spec.a);
      row.b_format = format_label(spec.b);
      row.a_scales = scales_text(spec.a);
      row.b_scales = scales_text(spec.b);
      const HowExecuted how = how_executed(spec, arithmetic);
      row.carrier = how.carrier;
      row.arithmetic = how.arithmetic;
      row.accumulate = how.accumulate;
      const bool logits = linear.name == "head" || linear.name.ends_with("/router");
      const OperandKind out = static_cast<Gemm>(g) == Gemm::wgrad             ? OperandKind::f32
                              : static_cast<Gemm>(g) == Gemm::fprop && logits ? edges.tensors().logits
                                                                              : edges.tensors().gemm_output;
      row.output = out == OperandKind::f32 ? "f32" : "bf16";
      row.algorithm = algorithm;
      row.flops_share = linear.uses_per_token * static_cast<double>(linear.out * linear.in) / total;
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::vector<CastRow> cast_rows(Edges& edges) {
  std::vector<CastRow> rows;
  for (const LinearEdges& linear : edges.all()) {
    for (int o = 0; o < kOperandCount; ++o) {
      for (const FormRequest& request : linear.requests[o]) {
        if (request.spec.source == FormSource::fprop)
          rows.push_back({layer_of(linear.name), "dequantize " + request.site->name});
        if (request.spec.kind != OperandKind::quantized) continue;
        rows.push_back(
            {layer_of(linear.name), "quantize " + request.site->name + " " + to_text(request.spec.quantizer)});
      }
    }
  }
  return rows;
}

std::vector<FormatId> formats_in_use(const Stages& stages) {
  std::set<FormatId> formats;
  for (const auto& edges : stages)
    for (const LinearEdges& linear : edges->all())
      for (const GemmSpec& gemm : linear.spec.gemm)
        for (const OperandSpec* operand : {&gemm.a, &gemm.b}) {
          if (operand->kind != OperandKind::quantized) continue;
          formats.insert(operand->quantizer.element_id);
          if (operand->quantizer.scale_format == ScaleFormat::e8m0) formats.insert(FormatId::e8m0);
          if (operand->quantizer.scale_format == ScaleFormat::e4m3) formats.insert(FormatId::e4m3);
        }
  return {formats.begin(), formats.end()};
}

std::vector<std::string> memory_kinds(const Stages& stages) {
  std::vector<std::string> kinds = {"weights", "gradients", "optimizer"};
  std::set<std::string> saved = {"bf16", "f32", "index"};
  for (const auto& edges : stages)
    for (const LinearEdges& linear : edges->all()) {
      const OperandSpec& wgrad = operand_spec(linear.spec, Operand::activation, Gemm::wgrad);
      if (wgrad.kind == OperandKind::quantized) saved.insert(std::string(name_of(wgrad.quantizer.element_id)));
      if (linear.spec.saved.kind != SavedKind::original)
        saved.insert(std::string(name_of(linear.spec.saved.quantizer.element_id)));
    }
  for (const std::string& storage : saved) kinds.push_back("saved_" + storage);
  return kinds;
}

RunSetup run_setup(const RunPlanned& plan, const Stages& stages, const std::vector<BoundEntry>& recording,
                   Backend& backend, const std::string& checkpoint_folder) {
  RunSetup setup;
  setup.identity = RunIdentity{std::string(program_version()),
                               std::string(git_revision()),
                               plan.run_id,
                               plan.request.backend,
                               plan.request.arithmetic,
                               backend.device(),
                               now_text()};
  Json resolved = Json::object();
  resolved["request"] = plan.request.to_json();
  resolved["model"] = plan.model.to_json();
  resolved["model_name"] = plan.model.name;
  resolved["training"] = plan.training.to_json();
  resolved["recording"] = plan.recording.json();
  resolved["identity"] = plan.identity;
  setup.resolved = resolved.canonical();
  Json recipe = plan.resolved.to_json();
  recipe["name"] = plan.resolved.name;
  setup.recipe = recipe.canonical();
  setup.digests = {{"run", plan.run_id},
                   {"recipe", plan.resolved.digest()},
                   {"data", plan.data_digest},
                   {"source", std::string(source_digest())}};
  setup.files = {{"model", plan.request.model_path, plan.request.model_text},
                 {"recipe", plan.request.recipe_path, plan.request.recipe_text}};
  for (const auto& [path, text] : plan.request.switch_texts)
    setup.files.push_back({fmt::format("switch{}", setup.files.size() - 1), path, text});
  if (!plan.request.record_text.empty())
    setup.files.push_back({"record", plan.request.record_path, plan.request.record_text});
  setup.formats = formats_in_use(stages);
  for (std::int64_t layer = plan.model.dense_layers; layer < plan.model.layers; ++layer)
    setup.moe_layers.push_back(layer);
  setup.experts = plan.model.experts;
  setup.record = record_layouts(recording);
  setup.gemms = gemm_rows(*stages.front(), plan.arithmetic, backend.product_kernels());
  if (stages.size() > 1)
    setup.gemm_note =
        fmt::format("products before step {}; later ones: key switch of /config/recipe", plan.first_steps[1]);
  setup.casts = cast_rows(*stages.front());
  setup.memory_kinds = memory_kinds(stages);
  setup.checkpoint_folder = checkpoint_folder;
  return setup;
}

}  // namespace ng
