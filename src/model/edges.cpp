// SPDX-License-Identifier: Apache-2.0
//
// Names and requests of every edge.
#include "narrowgauge/model/edges.hpp"

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/sha256.hpp"

namespace ng {

namespace {

constexpr const char* kGemmNames[kGemmCount] = {"fprop", "dgrad", "wgrad"};
constexpr const char* kOperandNames[kOperandCount] = {"activation", "weight", "grad_output"};

}  // namespace

Edges::Edges(const ModelConfig& config, const ResolvedRecipe& recipe)
    : tensors_(recipe.tensors), embedding_(recipe.embedding), layers_(config.layers) {
  const ModelShape shape = config.shape();
  position_.assign(static_cast<std::size_t>((layers_ + 1) * kLinearCount), -1);
  std::vector<std::pair<std::int64_t, Linear>> present;
  for (std::int64_t layer = 0; layer < layers_; ++layer)
    for (int i = 0; i < kLinearCount; ++i)
      if (shape.has(layer, static_cast<Linear>(i))) present.emplace_back(layer, static_cast<Linear>(i));
  present.emplace_back(kOutsideLayers, Linear::head);

  linears_.resize(present.size());
  for (std::size_t n = 0; n < present.size(); ++n) {
    const auto [layer, which] = present[n];
    LinearEdges& edges = linears_[n];
    const std::int64_t row = layer == kOutsideLayers ? layers_ : layer;
    position_[static_cast<std::size_t>(row * kLinearCount + static_cast<int>(which))] = static_cast<int>(n);
    edges.name = linear_name(layer, which);
    edges.spec = recipe.linear(layer, which);
    const std::string saved = edges.name + "/activation/saved";
    edges.saved_site = Site{saved, 0, sha256_first32(saved)};
    edges.out = shape.shape(which).out;
    edges.in = shape.shape(which).in;
    edges.uses_per_token = shape.shape(which).uses_per_token;
    for (int g = 0; g < kGemmCount; ++g) {
      const Gemm gemm = static_cast<Gemm>(g);
      const std::string product = edges.name + "/" + kGemmNames[g];
      edges.product_sites[g] = Site{product, static_cast<std::uint32_t>(n * kGemmCount) + static_cast<std::uint32_t>(g),
                                    sha256_first32(product)};
      for (int o = 0; o < kOperandCount; ++o) {
        const Operand operand = static_cast<Operand>(o);
        if (!takes_part(operand, gemm)) continue;
        const std::string name = edges.name + "/" + kOperandNames[o] + "/" + kGemmNames[g];
        Site& site = edges.operand_sites[g][o];
        site = Site{name, static_cast<std::uint32_t>(sites_.size()), sha256_first32(name)};
        sites_.push_back(site);
        const OperandSpec& spec = operand_spec(edges.spec, operand, gemm);
        site_specs_.push_back(&spec);
        edges.requests[o].push_back(FormRequest{gemm, operand, spec, &site});
        const OperandSpec* row_form = nullptr;
        for (int other = 0; other < kGemmCount; ++other) {
          const Gemm candidate = static_cast<Gemm>(other);
          if (takes_part(operand, candidate) && orientation_of(operand, candidate) == Orientation::row)
            row_form = &operand_spec(edges.spec, operand, candidate);
        }
        site_row_specs_.push_back(orientation_of(operand, gemm) == Orientation::column ? row_form : nullptr);
      }
    }
  }
}

LinearEdges& Edges::linear(std::int64_t layer, Linear which) {
  const std::int64_t row = layer == kOutsideLayers ? layers_ : layer;
  const int position = position_[static_cast<std::size_t>(row * kLinearCount + static_cast<int>(which))];
  NG_CHECK(position >= 0, "the model has no ", linear_name(layer, which));
  return linears_[static_cast<std::size_t>(position)];
}

std::vector<Site> Edges::quantized_sites() const {
  std::vector<Site> quantized;
  for (const Site& site : sites_)
    if (site_specs_[site.index]->kind == OperandKind::quantized) quantized.push_back(site);
  return quantized;
}

std::vector<Site> Edges::products() const {
  std::vector<Site> products;
  for (const LinearEdges& edges : linears_)
    products.insert(products.end(), std::begin(edges.product_sites), std::end(edges.product_sites));
  return products;
}

const QuantizerSpec* Edges::row_spec(std::uint32_t site_index) const {
  const OperandSpec* spec = site_row_specs_[site_index];
  return spec != nullptr && spec->kind == OperandKind::quantized ? &spec->quantizer : nullptr;
}

void Edges::bind(QuantizerState& state) {
  for (LinearEdges& edges : linears_)
    for (std::vector<FormRequest>& requests : edges.requests)
      for (FormRequest& request : requests) {
        if (request.spec.amax.history == 0) continue;
        AmaxHistory& history = state.amax[request.site->name];
        history.spec = request.spec.amax;
        request.history = &history;
      }
}

void Edges::forget_weights() {
  for (LinearEdges& edges : linears_) {
    edges.weight = TensorForms{};
    edges.weight_step = -1;
  }
}

}  // namespace ng
