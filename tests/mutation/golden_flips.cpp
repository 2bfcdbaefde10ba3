// SPDX-License-Identifier: Apache-2.0
//
// The choices that golden files fix, flipped in the program: how many golden numbers go wrong.
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "flips.hpp"
#include "golden/golden_cases.hpp"
#include "golden/program_subject.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng_mutation {
namespace {

using ng_golden::GoldenFile;
using ng_golden::Tally;

struct Change {
  std::string key, from, to;
};

std::string value_of(const ng::QuantizerSpec& spec, const std::string& key) {
  return ng::to_json(spec).find(key)->as_string();
}

/// The program, which remembers what it answered and quantizes with one choice changed.
class FlippedProgram {
 public:
  std::optional<Change> change;
  std::map<std::string, std::set<std::string>> used;  ///< values by key

  ng_golden::Subject subject() {
    ng_golden::Subject s = ng_golden::program_subject(backend_);
    s.quantize = [this](const std::vector<float>& x, std::size_t rows, std::size_t cols,
                        const ng_oracle::BlockSpec& block, bool column) {
      ng::QuantizerSpec spec = ng_golden::program_spec(block);
      if (!change) {
        for (const ng::QuantizerKey& key : ng::quantizer_keys()) used[key.name].insert(value_of(spec, key.name));
      } else if (value_of(spec, change->key) == change->from) {
        ng::set_choice(spec, change->key, change->to);
      }
      const std::string name = ng::to_text(spec) + (column ? " column " : " row ") + std::to_string(rows) + "x" +
                               std::to_string(cols) + " " + digest(x);
      if (const auto known = answers_.find(name); known != answers_.end()) return known->second;
      const ng::Tensor input = ng_golden::uploaded(*backend_, x, rows, cols);
      return answers_[name] = ng_golden::read_back(
                 *backend_, backend_->quantize({}, input.view, {}, spec,
                                               column ? ng::Orientation::column : ng::Orientation::row, {}));
    };
    return s;
  }

 private:
  static std::string digest(const std::vector<float>& x) {
    std::uint64_t hash = 14695981039346656037ULL;
    for (const float v : x) hash = (hash ^ ng_oracle::bits_of(v)) * 1099511628211ULL;
    return std::to_string(hash);
  }

  std::shared_ptr<ng::Backend> backend_ = ng::make_cpu_backend({1, ng::Arithmetic::ieee, false});
  std::map<std::string, ng_oracle::Quantized> answers_;
};

bool is_valid(const ng::QuantizerSpec& spec) {
  try {
    ng::check_quantizer(spec);
    return true;
  } catch (const ng::UserError&) {
    return false;
  }
}

void flip_file(const char* name, void (*compare)(const ng_golden::Subject&, GoldenFile&, Tally&),
               std::vector<Flip>& flips) {
  FlippedProgram program;
  const ng_golden::Subject subject = program.subject();
  GoldenFile file(name);
  {
    Tally tally;
    compare(subject, file, tally);
    if (!tally.all_equal()) throw std::runtime_error(std::string(name) + " differs unflipped");
  }
  for (const Axis& axis : quantizer_axes()) {
    // What these files can tell: their inputs are finite, their tiles and elements stand in their names.
    const bool told = axis.choice == "rule" || axis.choice == "rounding" || axis.choice == "zero sign" ||
                      axis.choice == "hadamard signs" || axis.choice == "hadamard result";
    if (!told) continue;
    for (const std::string& from : axis.values) {
      if (program.used[axis.key].count(from) == 0) continue;
      for (const std::string& to : axis.values) {
        if (to == from || to.starts_with("stochastic")) continue;  // draws are judged by the oracle
        ng::QuantizerSpec probe = ng::parse_quantizer(std::strcmp(name, "te_nvfp4.h5") == 0 ? "nvfp4" : "mxfp4");
        if (axis.key == "rule") {  // the other rule must make the same kind of scale
          ng::set_choice(probe, "rule", from);
          const bool e8m0 = ng::is_e8m0_rule(probe.rule);
          probe = ng::parse_quantizer(e8m0 ? "mxfp4" : "nvfp4");
        }
        ng::set_choice(probe, axis.key, to);
        if (!is_valid(probe)) continue;
        program.change = Change{axis.key, from, to};
        Tally tally;
        compare(subject, file, tally);
        const std::size_t differ = tally.compared() - tally.equal();
        if (differ > 0) flips.push_back({axis.choice, from, to, name, tally.compared(), differ, Outcome::seen});
      }
    }
  }
}

/// Every BF16 number of ml_dtypes' casts under other choices.
void flip_casts(std::vector<Flip>& flips) {
  GoldenFile file("ml_dtypes_casts.h5");
  struct Format {
    const char* theirs;
    ng::FormatId ours;
  };
  const Format formats[] = {{"float4_e2m1fn", ng::FormatId::e2m1},
                            {"float6_e3m2fn", ng::FormatId::e3m2},
                            {"float8_e4m3fn", ng::FormatId::e4m3},
                            {"float8_e5m2", ng::FormatId::e5m2},
                            {"float8_e4m3fnuz", ng::FormatId::e4m3fnuz}};
  std::map<std::string, std::vector<std::uint32_t>> golden;
  for (const Format& f : formats) golden[f.theirs] = file.integers(std::string(f.theirs) + "/encode_all_bf16");
  for (const Axis& axis : quantizer_axes()) {
    if (axis.key != "rounding" && axis.key != "overflow" && axis.key != "nan" && axis.key != "zero_sign") continue;
    for (const std::string& from : axis.values) {
      for (const std::string& to : axis.values) {
        Flip flip{axis.choice, from, to, "ml_dtypes_casts.h5", 0, 0, Outcome::seen};
        for (const Format& f : formats) {
          ng::QuantizerSpec spec = ng::bare_cast(f.ours);
          spec.cast.overflow = ng::Overflow::nonfinite;
          if (spec.element.nan == ng::NanCodes::none) spec.cast.nan = ng::NanChoice::negated_zero;
          if (to == from || to.starts_with("stochastic") || value_of(spec, axis.key) != from) continue;
          ng::set_choice(spec, axis.key, to);
          if (!is_valid(spec)) continue;
          const std::vector<std::uint32_t>& expected = golden[f.theirs];
          for (std::uint32_t i = 0; i < 65536; ++i)
            flip.differ += ng::encode(spec.element, spec.cast, ng::float_of(i << 16)) != expected[i];
          flip.compared += 65536;
        }
        if (flip.differ > 0) flips.push_back(flip);
      }
    }
  }
}

}  // namespace

std::vector<Flip> golden_flips() {
  std::vector<Flip> flips;
  flip_casts(flips);
  flip_file("torchao_mx.h5", ng_golden::compare_torchao, flips);
  flip_file("te_nvfp4.h5", ng_golden::compare_te, flips);
  flip_file("microxcaling_mx.h5", ng_golden::compare_microxcaling, flips);
  return flips;
}

std::vector<Flip> packing_flips() {
  // Two 4-bit codes in a byte: the program's bytes before Transformer Engine's, nibbles as they lie and exchanged.
  const auto backend = ng::make_cpu_backend({1, ng::Arithmetic::ieee, false});
  GoldenFile file("te_nvfp4.h5");
  const std::string at = "normal_64x128/";
  const auto shape = file.shape(at + "x");
  const ng::Tensor x = ng_golden::uploaded(*backend, file.floats(at + "x"), shape[0], shape[1]);
  const ng::QuantizedTensor q =
      backend->quantize({}, x.view, {}, ng::parse_quantizer("nvfp4"), ng::Orientation::row, {});
  const auto expected = file.integers(at + "1d/row_codes_packed");
  Flip flip{"nibble order", "even_low", "even_high", "te_nvfp4.h5", expected.size(), 0, Outcome::seen};
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::uint32_t byte = q.codes.as<std::uint8_t>()[i];
    wrong += byte != expected[i];
    flip.differ += (byte >> 4 | (byte & 15) << 4) != expected[i];
  }
  if (wrong != 0) throw std::runtime_error("packed codes differ unflipped");
  return {flip};
}

}  // namespace ng_mutation
