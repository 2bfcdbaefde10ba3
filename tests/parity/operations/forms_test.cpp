// SPDX-License-Identifier: Apache-2.0
//
// Claim: quantize, tensor_amax, quantize_known_amax, dequantize and produce of the CUDA backend leave the CPU backend's
// bytes in every part of a quantized tensor, show a tap the same events, note the same amaxes and stop with the same
// words. Alone: build/release/bin/operations_on_host --gtest_filter='OperationParity.Forms*'
#include <algorithm>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "operations/quantized.hpp"

namespace ng_test {
namespace {

using namespace ng;

constexpr std::int64_t kRows = 80;
constexpr std::int64_t kCols = 96;
const Site kSite{"layer.1/fc1/activation/fprop", 3, 77};
const Site kOtherSite{"layer.1/fc1/activation/wgrad", 4, 78};

StepContext context_of(Phase phase) {
  StepContext context;
  context.step = 11;
  context.phase = phase;
  context.seed = 5;
  return context;
}

TEST_F(OperationParity, FormsQuantizeAndDequantize) {
  std::uint32_t seed = 0;
  for (const NamedSpec& named : training_specs())
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
        for (const bool grouped : {false, true}) {
          ++seed;
          const bool odd = named.spec.hadamard.size == 0 && seed % 3 == 0;
          const std::int64_t rows = odd ? kRows - 3 : kRows;
          const std::int64_t cols = odd ? kCols + 5 : kCols;
          const Values kind = seed % 4 == 0 ? Values::special : seed % 4 == 1 ? Values::wide : Values::normal;
          expect_parity(named.name + (orientation == Orientation::row ? " row" : " column"), [&](Backend& b) {
            Tensor x = tensor_of(b, dtype, rows, cols, kind, seed, odd ? 3 : 0);
            x.view.placement = Placement{4 * rows, cols + 16, 7, 16, nullptr};
            const RowGroups groups = grouped ? ragged_groups(rows, odd ? 1 : 16) : RowGroups{};
            const StepContext context = context_of(Phase::train);
            const QuantizedTensor q = b.quantize(context, x.view, groups, named.spec, orientation, kSite);
            Outputs out;
            add_quantized(out, b, "q", q);
            for (const Dtype to : {Dtype::f32, Dtype::bf16}) {
              const Tensor decoded = b.zeros(to, q.rows, q.cols + 3);
              b.dequantize(q, col_slice(decoded.view, 1, q.cols));
              out.add(b, "decoded", decoded.view);
            }
            return out;
          });
        }
}

// Row ids of permuted expert rows: draws follow them, padding rows have ids of their own or negative ones.
TEST_F(OperationParity, FormsRowIds) {
  for (const Orientation orientation : {Orientation::row, Orientation::column})
    expect_parity("row ids", [&](Backend& b) {
      Tensor x = tensor_of(b, Dtype::bf16, kRows, kCols, Values::normal, 9);
      std::vector<std::int64_t> ids(kRows);
      for (std::int64_t r = 0; r < kRows; ++r) ids[static_cast<std::size_t>(r)] = r % 7 == 3 ? -1 : (r * 37) % 301;
      const Tensor device_ids = b.tensor(Dtype::i64, 1, kRows);
      b.upload(device_ids.view, ids.data());
      x.view.placement = Placement{200, kCols, 0, 0, device_ids.view.as<std::int64_t>()};
      QuantizerSpec spec = preset("mxfp4");
      spec.cast.rounding = Rounding::stochastic;
      spec.cast.random_bits = 8;
      Outputs out;
      add_quantized(out, b, "q", b.quantize(context_of(Phase::train), x.view, {}, spec, orientation, kSite));
      return out;
    });
}

TEST_F(OperationParity, FormsKnownAmax) {
  std::uint32_t seed = 100;
  for (const NamedSpec& named : training_specs()) {
    const QuantizerSpec& spec = named.spec;
    const bool takes_amax = needs_tensor_amax(spec.rule) || (spec.tile_rows == 0 && spec.tile_cols == 0);
    for (const Orientation orientation : {Orientation::row, Orientation::column})
      for (const Values kind : {Values::normal, Values::special})
        for (const bool grouped : {false, true}) {
          ++seed;
          expect_parity(named.name, [&](Backend& b) {
            const Tensor x = tensor_of(b, seed % 2 == 0 ? Dtype::f32 : Dtype::bf16, kRows, kCols, kind, seed);
            const RowGroups groups = grouped ? ragged_groups(kRows, 16) : RowGroups{};
            const StepContext context = context_of(Phase::train);
            const Buffer amax = b.tensor_amax(context, x.view, groups, spec, orientation);
            Outputs out;
            out.add(b, "amax", amax, Dtype::f32, static_cast<std::int64_t>(amax.bytes / sizeof(float)));
            if (!takes_amax) return out;
            // Of another tensor: smaller than what is there in some groups, 0 in one.
            const std::int64_t count = static_cast<std::int64_t>(amax.bytes / sizeof(float));
            std::vector<float> known;
            for (std::int64_t g = 0; g < count; ++g) known.push_back(g == 2 ? 0.0f : 0.75f + static_cast<float>(g));
            Buffer given = b.allocate(amax.bytes);
            b.upload(TensorView{given.data.get(), Dtype::f32, 1, count, count, {}}, known.data());
            const bool bare = spec.scale_format == ScaleFormat::none;
            if (!bare)
              add_quantized(out, b, "q",
                            b.quantize_known_amax(context, x.view, groups, spec, orientation, kSite, given));
            return out;
          });
        }
  }
}

/// What a tap was shown, by site.
class Seen final : public Tap {
 public:
  Seen(Backend& backend, Outputs& out) : backend_(backend), out_(out) {}
  bool wants(const StepContext&, const Site&) const override { return true; }
  bool wants_original(const StepContext&, const Site& site) const override { return site.index == kSite.index; }
  void quantized(const QuantizationEvent& event) override {
    out_.add(backend_, event.site.name + " original", event.original);
    add_quantized(out_, backend_, event.site.name, event.quantized);
  }

 private:
  Backend& backend_;
  Outputs& out_;
};

FormRequest request_of(Gemm gemm, const QuantizerSpec& spec, const Site& site, FormSource source = FormSource::original,
                       AmaxHistory* history = nullptr) {
  FormRequest request;
  request.gemm = gemm;
  request.spec.kind = OperandKind::quantized;
  request.spec.quantizer = spec;
  request.spec.source = source;
  request.site = &site;
  request.history = history;
  return request;
}

FormRequest plain_request(Gemm gemm, OperandKind kind, FormSource source, DecodedResidual residual) {
  FormRequest request;
  request.gemm = gemm;
  request.spec.kind = kind;
  request.spec.source = source;
  request.spec.residual = residual;
  request.site = &kOtherSite;
  return request;
}

/// All forms of one call, and what the tap saw.
Outputs produced(Backend& b, const Tensor& x, const RowGroups& groups, const std::vector<FormRequest>& requests,
                 Phase phase = Phase::train) {
  Outputs out;
  Seen seen(b, out);
  b.set_tap(&seen);
  const TensorForms forms = b.produce(context_of(phase), x, groups, requests);
  b.set_tap(nullptr);
  for (const Form& form : forms.forms) {
    out.add("form",
            std::vector<std::int64_t>{static_cast<std::int64_t>(form.gemm), static_cast<std::int64_t>(form.orientation),
                                      static_cast<std::int64_t>(form.kind), form.original ? 1 : 0,
                                      form.plain.view.data == x.view.data ? 1 : 0});
    if (form.quantized != nullptr) add_quantized(out, b, "form", *form.quantized);
    if (form.plain) out.add(b, "form", form.plain.view);
  }
  return out;
}

// Both forms of one tensor with every pair of quantizers that recipes have: shared reads change no byte.
TEST_F(OperationParity, FormsBothOrientations) {
  std::uint32_t seed = 300;
  QuantizerSpec turned = preset("nvfp4");
  turned.hadamard = HadamardSpec{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  std::vector<std::pair<QuantizerSpec, QuantizerSpec>> pairs{
      {preset("nvfp4"), turned}, {preset("fp8_1x128"), preset("fp8_128x128")}, {preset("mxfp4"), preset("mxfp8_e4m3")}};
  for (const NamedSpec& named : training_specs()) pairs.emplace_back(named.spec, named.spec);
  for (const auto& [row, column] : pairs)
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
      for (const bool grouped : {false, true}) {
        ++seed;
        expect_parity("both orientations", [&](Backend& b) {
          const Tensor x = tensor_of(b, dtype, 128, 128, Values::normal, seed);
          const RowGroups groups = grouped ? ragged_groups(128, 32) : RowGroups{};
          return produced(b, x, groups,
                          {request_of(Gemm::wgrad, column, kOtherSite), request_of(Gemm::fprop, row, kSite)});
        });
      }
}

TEST_F(OperationParity, FormsFromFpropAndPlain) {
  std::uint32_t seed = 500;
  for (const NamedSpec& named : training_specs())
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      ++seed;
      expect_parity(named.name, [&](Backend& b) {
        const Tensor x = tensor_of(b, dtype, kRows, kCols, Values::normal, seed);
        const DecodedResidual residual = DecodedResidual::dropped;
        return produced(b, x, ragged_groups(kRows, 16),
                        {request_of(Gemm::fprop, named.spec, kSite),
                         request_of(Gemm::wgrad, named.spec, kOtherSite, FormSource::fprop),
                         plain_request(Gemm::dgrad, OperandKind::bf16, FormSource::fprop, residual),
                         plain_request(Gemm::dgrad, OperandKind::f32, FormSource::fprop, residual),
                         plain_request(Gemm::dgrad, OperandKind::bf16, FormSource::original, residual),
                         plain_request(Gemm::wgrad, OperandKind::bf16, FormSource::original, residual),
                         plain_request(Gemm::wgrad, OperandKind::f32, FormSource::original, residual)});
      });
    }
}

// Three steps, two micro-batches each, of delayed scaling: what is noted, and by what each step is scaled.
TEST_F(OperationParity, FormsDelayedScaling) {
  QuantizerSpec whole = preset("nvfp4");
  whole.tensor_scope = TensorScope::whole;
  for (const QuantizerSpec& spec : {preset("fp8_tensor"), preset("nvfp4"), whole})
    for (const bool grouped : {false, true})
      expect_parity("delayed", [&](Backend& b) {
        AmaxHistory row;
        row.spec = AmaxHistorySpec{2, AmaxReduce::max};
        AmaxHistory column = row;
        Outputs out;
        for (std::uint32_t pass = 0; pass < 6; ++pass) {
          const Tensor x = tensor_of(b, Dtype::bf16, kRows, kCols, Values::wide, 700 + pass);
          const RowGroups groups = grouped ? ragged_groups(kRows, 16) : RowGroups{};
          const Phase phase = pass == 4 ? Phase::eval : Phase::train;
          const Outputs forms = produced(b, x, groups,
                                         {request_of(Gemm::fprop, spec, kSite, FormSource::original, &row),
                                          request_of(Gemm::wgrad, spec, kOtherSite, FormSource::original, &column)},
                                         phase);
          out.append(forms);
          for (AmaxHistory* history : {&row, &column}) {
            if (pass % 2 == 1) history->advance();
            for (const std::vector<float>& list : {history->past, history->current})
              for (const float value : list) out.add("history", static_cast<double>(value));
          }
        }
        return out;
      });
}

TEST_F(OperationParity, FormsForbiddenNan) {
  QuantizerSpec spec = preset("mxfp4");
  spec.cast.nan = NanChoice::error;
  for (const bool finite_first : {false, true})
    expect_parity("forbidden NaN", [&](Backend& b) {
      Tensor x = tensor_of(b, Dtype::bf16, kRows, kCols, Values::special, 900);
      Outputs out;
      std::string words;
      try {
        (void)b.produce(context_of(Phase::train), x, {},
                        std::vector<FormRequest>{request_of(Gemm::wgrad, finite_first ? preset("mxfp4") : spec, kSite),
                                                 request_of(Gemm::fprop, spec, kOtherSite)});
      } catch (const DivergedError& error) {
        words = error.what();
      }
      EXPECT_NE(words, "");
      out.add("words", std::vector<std::int64_t>(words.begin(), words.end()));
      return out;
    });
}

}  // namespace
}  // namespace ng_test
