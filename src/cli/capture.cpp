// SPDX-License-Identifier: Apache-2.0
//
// `capture`: tensors of a training step, for kernels and tests. Every quantized tensor is a case of a kernel dump, so
// that `validate` reads the file; its original is an input of `quantize`.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "commands.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/training/replay.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

/// Rows [begin, end) of the original, one group of a quantized tensor.
struct Part {
  std::int64_t group, begin, end;
};

// One group as a tensor of its own, in the axes of the original.
UnpackedTensor unpack_group(const QuantizedTensor& q, const Part& part) {
  const bool turned = q.orientation == Orientation::column;
  const std::int64_t count = part.end - part.begin;
  UnpackedTensor t;
  t.element = q.spec.element_id;
  t.scale_format = q.spec.scale_format;
  t.axis = q.orientation;
  t.rows = count;
  t.cols = turned ? q.rows : q.cols;
  // As quantized: height x width tiles over a height_all x width_all matrix.
  const std::int64_t height_all = turned ? q.rows : count, width_all = turned ? count : q.cols;
  const std::int64_t height = q.spec.tile_rows == 0 ? std::max<std::int64_t>(height_all, 1) : q.spec.tile_rows;
  const std::int64_t width = q.spec.tile_cols == 0 ? std::max<std::int64_t>(width_all, 1) : q.spec.tile_cols;
  t.tile_rows = turned ? width : height;
  t.tile_cols = turned ? height : width;
  for (std::int64_t r = part.begin; r < part.end; ++r) {
    for (std::int64_t c = 0; c < t.cols; ++c) {
      const std::uint8_t* row = q.codes.as<std::uint8_t>() + (turned ? c : r) * q.row_bytes;
      t.codes.push_back(
          static_cast<std::uint16_t>(load_code(row, q.storage, static_cast<std::size_t>(turned ? r : c))));
    }
  }
  if (q.has_tensor_scale()) t.tensor_scale = q.tensor_scales.as<float>()[part.group];
  if (q.spec.decode == DecodeOrder::te) t.tensor_amax = q.tensor_amaxes.as<float>()[part.group];
  if (q.spec.scale_format == ScaleFormat::none) return t;
  const std::int64_t offset = q.tile_offsets[static_cast<std::size_t>(part.group)];
  for (std::int64_t i = 0; i < t.scale_rows(); ++i) {
    for (std::int64_t j = 0; j < t.scale_cols(); ++j) {
      const std::int64_t at = turned ? j * q.scale_cols + offset + i : (offset + i) * q.scale_cols + j;
      if (q.spec.scale_format == ScaleFormat::f32)
        t.scale_values.push_back(q.scales.as<float>()[at]);
      else
        t.scale_codes.push_back(q.scales.as<std::uint8_t>()[at]);
    }
  }
  return t;
}

std::vector<float> rows_as_f32(const TensorView& x, std::int64_t begin, std::int64_t end) {
  std::vector<float> values;
  for (std::int64_t r = begin; r < end; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const std::byte* row = x.row(r);
      values.push_back(x.dtype == Dtype::bf16
                           ? float_of(std::uint32_t{reinterpret_cast<const std::uint16_t*>(row)[c]} << 16)
                           : reinterpret_cast<const float*>(row)[c]);
    }
  }
  return values;
}

class CaptureTap final : public Tap {
 public:
  CaptureTap(Backend& backend, hdf5::Group root, std::string pattern, std::int64_t micro_batches)
      : backend_(backend), root_(std::move(root)), pattern_(std::move(pattern)), micro_batches_(micro_batches) {}

  bool wants(const StepContext& context, const Site& site) const override {
    return context.phase == Phase::train && matches_pattern(pattern_, site.name);
  }
  bool wants_product(const StepContext& context, const Site& site) const override { return wants(context, site); }

  void quantized(const QuantizationEvent& event) override {
    const QuantizedTensor& q = event.quantized;
    const TensorView& x = event.original;
    Tensor decoded = backend_.tensor(Dtype::f32, q.rows, q.cols);
    backend_.dequantize(q, decoded.view);
    const bool given_amax = needs_tensor_amax(q.spec.rule);
    Buffer amax;
    if (given_amax) amax = backend_.tensor_amax(event.context, x, event.groups, q.spec, q.orientation);
    for (std::int64_t g = 0; g < q.groups.count(); ++g) {
      const Part part{g, q.groups.begin(g, x.rows), q.groups.end(g, x.rows)};
      if (part.begin == part.end) continue;  // an expert without tokens
      hdf5::Group group = root_.create_group(name(event.context, event.site) +
                                             (q.groups.count() > 1 ? fmt::format(".expert.{}", g) : ""));
      describe(group, event.context, event.site);
      group.set_attribute("operation", "quantize");
      group.set_attribute("spec", to_json(q.spec).canonical());
      group.set_attribute("made_by", "narrowgauge capture");
      group.set_attribute("axis", name_of(q.orientation));

      const std::int64_t rows = part.end - part.begin;
      hdf5::Group in = group.create_group("in");
      (void)in.create("x", Array::from<float>({rows, x.cols}, rows_as_f32(x, part.begin, part.end)));
      std::vector<std::int64_t> logical;
      for (std::int64_t r = part.begin; r < part.end; ++r) logical.push_back(logical_row(x.placement, r));
      (void)in.create("logical_row", Array::from<std::int64_t>({rows}, logical));
      if (q.spec.cast.rounding == Rounding::stochastic)
        (void)in.create("random", Array::from<std::uint32_t>({rows, x.cols}, draws(event, logical)));
      if (given_amax) {
        const std::int64_t at = q.spec.tensor_scope == TensorScope::whole ? 0 : g;
        (void)in.create("tensor_amax", Array::from<float>({}, std::span(amax.as<float>() + at, 1)));
      }

      hdf5::Group out = group.create_group("out");
      const UnpackedTensor t = unpack_group(q, part);
      std::vector<float> values;
      for (std::int64_t r = part.begin; r < part.end; ++r)
        for (std::int64_t c = 0; c < x.cols; ++c)
          values.push_back(
              decoded.view.as<float>()[q.orientation == Orientation::row ? r * q.cols + c : c * q.cols + r]);
      write_quantized(out, t, to_json(q.spec).canonical(), values, false);
      ++tensors_;
    }
  }

  void multiplied(const ProductEvent& event) override {
    hdf5::Group group = root_.create_group(name(event.context, event.site));
    describe(group, event.context, event.site);
    const TensorView& out = event.out;
    (void)group.create("output", Array::from<float>({out.rows, out.cols}, rows_as_f32(out, 0, out.rows)));
    group.set_attribute("dtype", name_of(out.dtype));
    group.set_attribute("meaning",
                        event.gemm == Gemm::wgrad ? "the gradient so far, this product added" : "the product");
    ++products_;
  }

  [[nodiscard]] std::int64_t tensors() const { return tensors_; }
  [[nodiscard]] std::int64_t products() const { return products_; }

 private:
  // One level, so that every tensor is a case: "layer.0.fc1.activation.fprop".
  [[nodiscard]] std::string name(const StepContext& context, const Site& site) const {
    std::string name = site.name;
    std::replace(name.begin(), name.end(), '/', '.');
    return micro_batches_ > 1 ? fmt::format("{}.micro_batch.{}", name, context.micro_batch) : name;
  }
  static void describe(hdf5::Group& group, const StepContext& context, const Site& site) {
    group.set_attribute("site", site.name);
    group.set_attribute("seed", context.seed);
    group.set_attribute("step", context.step);
    group.set_attribute("tensor_id", site.tensor_id);
  }
  static std::vector<std::uint32_t> draws(const QuantizationEvent& event, const std::vector<std::int64_t>& logical) {
    const Placement& place = event.original.placement;
    const RandomStream stream{event.context.seed, RandomPurpose::stochastic_rounding, event.site.tensor_id,
                              static_cast<std::uint32_t>(event.context.step)};
    std::vector<std::uint32_t> draws;
    for (const std::int64_t row : logical) {
      for (std::int64_t c = 0; c < event.original.cols; ++c) {
        const std::uint64_t element = static_cast<std::uint64_t>(row) * static_cast<std::uint64_t>(place.cols) +
                                      static_cast<std::uint64_t>(place.col0 + c);
        draws.push_back(row < 0 ? 0u : random_draw(stream, element, event.quantized.spec.cast.random_bits));
      }
    }
    return draws;
  }

  Backend& backend_;
  hdf5::Group root_;
  std::string pattern_;
  std::int64_t micro_batches_;
  std::int64_t tensors_ = 0, products_ = 0;
};

struct RunStep {
  std::string file;
  std::int64_t step = 0;
};

RunStep parse_run_step(const std::string& text) {
  const std::size_t at = text.rfind('@');
  RunStep result;
  if (at != std::string::npos) {
    const char* first = text.data() + at + 1;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(first, last, result.step);
    if (first != last && end == last && error == std::errc{}) {
      result.file = text.substr(0, at);
      return result;
    }
  }
  throw UserError(fmt::format("'{}' is not RUN.h5@STEP, such as runs/a.h5@120", text));
}

// A pattern that finds nothing: what there is instead.
void require_site(const Replay& replay, const std::string& pattern) {
  std::vector<std::string> names;
  for (const auto& sites : {replay.quantized_sites(), replay.products()})
    for (const Site& site : sites) names.push_back(site.name);
  const auto fits = [&](const std::string& name) { return matches_pattern(pattern, name); };
  if (std::any_of(names.begin(), names.end(), fits)) return;
  for (const Site& site : replay.all_sites())
    if (fits(site.name))
      throw UserError(fmt::format("'{}' is not quantized in this run: there are no codes", site.name));
  const auto nearest = nearest_key(pattern, names);
  throw UserError(
      fmt::format("no site of this run fits '{}'; {} '{}' (inspect --site '*' lists those that are recorded)", pattern,
                  nearest ? "did you mean" : "one is for example", nearest ? *nearest : names.front()));
}

int run(const Arguments& arguments) {
  const RunStep from = parse_run_step(*arguments.operand("RUN.h5@STEP"));
  const std::string pattern = arguments.get("site"), out = arguments.get("out");
  StatusLine status(stderr, StatusLine::detect(stderr, arguments.flag("quiet")));
  ReplayOptions options;
  options.backend.threads = static_cast<int>(arguments.integer("threads", 1, 4096));
  options.from_start = arguments.flag("from-start");
  options.interrupted = [] { return interrupt_requested(); };
  options.progress = [&](std::int64_t step, std::int64_t last) { status.update({"replay", step, last, "", "", ""}); };
  Replay replay(from.file, from.step, std::move(options));
  require_site(replay, pattern);

  const std::filesystem::path part = out + ".part";
  UnfinishedFile unfinished(part);
  hdf5::File file(part.string(), hdf5::Mode::create);
  hdf5::Group root = file.root();
  root.set_attribute("source", fmt::format("{}@{}", from.file, from.step));
  root.set_attribute("site", pattern);
  CaptureTap tap(replay.backend(), root, pattern, replay.micro_batches());
  replay.run(tap);
  file.close();
  publish_file(part, out);
  unfinished.done();
  status.finish();
  write_stdout(
      fmt::format("{}: {} quantized tensors and {} products of step {}, replayed from the state after {} steps\n", out,
                  tap.tensors(), tap.products(), from.step, replay.begins_at()));
  return kExitDone;
}

}  // namespace

Command capture_command() {
  return {
      "capture",
      "tensors of a training step: originals, codes, scales, decoded values, outputs of products. Replays the step "
      "from the checkpoint at or before it; validate reads the file",
      {{"RUN.h5@STEP", Occurs::required, "run file and index of a step, from 0"}},
      {{"site", "PATTERN", Occurs::required, "",
        "operands or products, such as 'layer.0/fc1/*'; '*' any text, '?' one character"},
       {"out", "OUT.h5", Occurs::required, "", "the file to write"},
       {"from-start", "", Occurs::optional, "", "where no checkpoint is old enough, replay from the initial weights"},
       {"threads", "N", Occurs::optional, "1", "CPU threads; changes no byte"},
       {"quiet", "", Occurs::optional, "", "no progress"}},
      run};
}

}  // namespace ng::cli
