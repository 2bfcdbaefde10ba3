// SPDX-License-Identifier: Apache-2.0
//
// The search's side of each operation: which choices there are, and what the reference makes of a set of changes.
#include <algorithm>
#include <numeric>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/validate/conversions.hpp"
#include "narrowgauge/validate/reference_quantizer.hpp"
#include "narrowgauge/validate/specs.hpp"
#include "parts.hpp"
#include "quantizer_choices.hpp"
#include "transpose_choices.hpp"

namespace ng::validate {
namespace {

constexpr std::int64_t kSampledElements = 16384;
constexpr std::int64_t kSampledGroups = 8;  // at least: rows of tiles

const Part* find(const Answer& parts, const char* name) {
  for (const Part& part : parts)
    if (part.name == name) return &part;
  return nullptr;
}

/// A part with its rows as the quantizer sees them.
std::vector<std::uint32_t> as_quantized(const Part* part, bool column) {
  if (part == nullptr) return {};
  return column ? turned(part->bits, part->rows, part->cols) : part->bits;
}

class QuantizerEvaluation {
 public:
  QuantizerEvaluation(const Case& c, const Answer& got)
      : stated_(quantizer_of(c.spec)),
        reference_({c.x, c.rows, c.cols, c.axis, c.seed, c.tensor_id, c.step, c.draws, c.tensor_amax}),
        choices_(quantizer_choices(stated_, reference_.cols())) {
    const bool column = c.axis == Orientation::column;
    codes_ = as_quantized(find(got, "codes"), column);
    scales_ = as_quantized(find(got, "scales"), column);
    decoded_ = as_quantized(find(got, "dequantized"), column);
    if (const Part* scale = find(got, "tensor_scale")) tensor_scale_ = scale->bits.front();
    height_ = stated_.scale_format == ScaleFormat::none || stated_.tile_rows == 0
                  ? (stated_.tile_rows == 0 ? std::max<std::int64_t>(reference_.rows(), 1) : 1)
                  : stated_.tile_rows;
    all_.resize(static_cast<std::size_t>(reference_.rows()));
    std::iota(all_.begin(), all_.end(), 0);
    sample_rows();
    prepare_small();
  }

  const std::vector<Choice>& choices() const { return choices_; }

  std::optional<Match> operator()(const ChangeSet& set, Extent extent) {
    const std::optional<ChangedQuantizer> q = changed(stated_, choices_, set);
    if (!q || !reference_.possible(q->spec, q->deviation)) return std::nullopt;
    return match(*q, extent == Extent::sample ? sample_ : all_);
  }

 private:
  /// The sampled rows are prepared alone where nothing of the others enters but the tensor's amax.
  QuantizedRows evaluated(const ChangedQuantizer& q, const std::vector<std::int64_t>& rows) {
    const bool decoded = !decoded_.empty();
    const bool alone = small_ && &rows == &sample_ && q.spec.tile_rows == stated_.tile_rows &&
                       q.spec.cast.rounding != Rounding::stochastic && q.spec.outlier.scope == OutlierScope::row;
    if (!alone) return reference_.quantize(q.spec, q.deviation, rows, decoded);
    if (needs_tensor_amax(q.spec.rule)) small_->give_tensor_amax(reference_.tensor_amax(q.spec, q.deviation));
    return small_->quantize(q.spec, q.deviation, small_rows_, decoded);
  }

  void prepare_small() {
    if (stated_.tile_rows == 0 || sample_.size() == all_.size()) return;
    QuantizerInput in;
    in.cols = reference_.cols();
    in.rows = static_cast<std::int64_t>(sample_.size());
    const std::span<const float> x = reference_.turned_input();
    for (const std::int64_t r : sample_)
      in.x.insert(in.x.end(), x.begin() + r * in.cols, x.begin() + (r + 1) * in.cols);
    in.seed = reference_.input().seed;
    small_.emplace(std::move(in));
    small_rows_.resize(sample_.size());
    std::iota(small_rows_.begin(), small_rows_.end(), 0);
  }

  Match match(const ChangedQuantizer& q, const std::vector<std::int64_t>& rows) {
    const QuantizedRows is = evaluated(q, rows);
    const std::size_t cols = static_cast<std::size_t>(reference_.cols());
    Match match;
    match.reserve(rows.size() * cols * (codes_.empty() ? 1 : 2));
    std::size_t i = 0;
    for (const std::int64_t r : rows)
      for (std::size_t c = 0; c < cols; ++c, ++i) {
        const std::size_t at = static_cast<std::size_t>(r) * cols + c;
        if (!codes_.empty()) match.push_back(is.nothing[i] != 0 || codes_[at] == is.codes[i]);
        if (!decoded_.empty()) match.push_back(decoded_[at] == bits_of(is.decoded[i]));
      }
    if (!scales_.empty()) {
      // Scales of the stated tiles that these rows touch; other tiles have none that could be compared.
      const std::size_t across = scales_.size() / static_cast<std::size_t>(tile_count(reference_.rows(), height_));
      std::size_t at = 0;
      std::int64_t last = -1;
      std::vector<std::uint32_t> wanted;
      for (const std::int64_t r : rows) {
        if (r / height_ == last) continue;
        last = r / height_;
        at = static_cast<std::size_t>(last) * across;
        wanted.insert(wanted.end(), scales_.begin() + static_cast<std::ptrdiff_t>(at),
                      scales_.begin() + static_cast<std::ptrdiff_t>(at + across));
      }
      const bool same_tiles = wanted.size() == is.scales.size();
      for (std::size_t s = 0; s < wanted.size(); ++s) match.push_back(same_tiles && wanted[s] == is.scales[s]);
    }
    if (tensor_scale_) match.push_back(*tensor_scale_ == bits_of(is.tensor_scale));
    return match;
  }

  /// Whole rows of tiles: half of them with a difference, spread over the matrix.
  void sample_rows() {
    const std::int64_t groups = tile_count(reference_.rows(), height_);
    const std::int64_t wanted = std::max<std::int64_t>(
        kSampledGroups, kSampledElements / std::max<std::int64_t>(1, height_ * reference_.cols()));
    if (groups <= wanted) {
      sample_ = all_;
      return;
    }
    // One look at everything, in pieces that keep memory small.
    std::vector<std::int64_t> differing, equal;
    for (std::int64_t g = 0; g < groups; ++g) {
      const Match m = match({stated_, {}}, rows_of(g));
      const auto end = m.end() - (tensor_scale_ ? 1 : 0);  // which is no row's own
      (std::find(m.begin(), end, 0) != end ? differing : equal).push_back(g);
    }
    std::vector<std::int64_t> taken;
    const auto take = [&](const std::vector<std::int64_t>& from, std::int64_t count) {
      const std::int64_t n = static_cast<std::int64_t>(from.size());
      for (std::int64_t i = 0; i < std::min(count, n); ++i)
        taken.push_back(from[static_cast<std::size_t>(i * n / std::min(count, n))]);
    };
    const std::int64_t some = std::min<std::int64_t>(static_cast<std::int64_t>(equal.size()), wanted / 2);
    take(differing, wanted - some);
    take(equal, some);
    std::sort(taken.begin(), taken.end());
    for (const std::int64_t g : taken) {
      const std::vector<std::int64_t> rows = rows_of(g);
      sample_.insert(sample_.end(), rows.begin(), rows.end());
    }
  }

  std::vector<std::int64_t> rows_of(std::int64_t group) const {
    std::vector<std::int64_t> rows;
    for (std::int64_t r = group * height_; r < std::min(reference_.rows(), (group + 1) * height_); ++r)
      rows.push_back(r);
    return rows;
  }

  QuantizerSpec stated_;
  ReferenceQuantizer reference_;
  std::vector<Choice> choices_;
  std::vector<std::uint32_t> codes_, scales_, decoded_;
  std::optional<std::uint32_t> tensor_scale_;
  std::int64_t height_ = 1;
  std::vector<std::int64_t> all_, sample_;
  std::optional<ReferenceQuantizer> small_;  ///< of the sampled rows
  std::vector<std::int64_t> small_rows_;
};

Match match_of(const Answer& wanted, const Answer& is) {
  Match match;
  for (const Part& part : wanted) {
    const Part* mine = find(is, part.name.c_str());
    for (std::size_t i = 0; i < part.bits.size(); ++i) {
      const bool nothing = mine != nullptr && !mine->nothing.empty() && mine->nothing[i] != 0;
      match.push_back(mine != nullptr && mine->bits.size() == part.bits.size() &&
                      (nothing || mine->bits[i] == part.bits[i]));
    }
  }
  return match;
}

std::vector<Choice> recode_choices(const QuantizerSpec& stated) {
  std::vector<Choice> choices;
  for (Choice& choice : quantizer_choices(stated, 1)) {
    const bool shows = choice.name == "rule" || choice.name == "rounding" || choice.name == "overflow" ||
                       choice.name == "nan" || choice.name == "zero_sign" || choice.name == "element" ||
                       choice.name == "nibble_order";
    if (!shows) continue;
    // Draws are nobody's here: stochastic rounding of a recoding cannot be repeated.
    std::erase_if(choice.values, [](const std::string& value) { return value.starts_with("stochastic"); });
    choices.push_back(std::move(choice));
  }
  return choices;
}

Answer recode_answer(const Case& c, const ChangedQuantizer& q) {
  Case other = c;
  other.spec = to_text(q.spec);
  Answer is = answer(other, {});
  if (q.deviation.nibble_order == NibbleOrder::swapped)
    for (Part& part : is)
      for (std::size_t i = 0; part.name == "codes" && part.cols % 2 == 0 && i + 1 < part.bits.size(); i += 2)
        std::swap(part.bits[i], part.bits[i + 1]);
  return is;
}

template <NamedEnum E>
Choice enum_choice(const char* name, E stated) {
  const std::vector<std::string> values = names_of<E>();
  const std::size_t at =
      static_cast<std::size_t>(std::find(values.begin(), values.end(), std::string(name_of(stated))) - values.begin());
  return {name, values, at, false};
}

std::vector<Choice> hadamard_choices(const HadamardSpec& stated) {
  Choice size{"size", {}, 0, false};
  for (int n = 2; n <= kLargestHadamard; n *= 2) {
    if (n == stated.size) size.stated = size.values.size();
    size.values.push_back(std::to_string(n));
  }
  return {size,
          enum_choice("signs", stated.signs),
          enum_choice("order", stated.order),
          enum_choice("result", stated.result),
          {"applied", {"yes", "no"}, 0, true}};
}

std::optional<Answer> hadamard_answer(const Case& c, const std::vector<Choice>& choices, const ChangeSet& set) {
  std::vector<std::string> value;
  for (const Choice& choice : choices) value.push_back(choice.values[choice.stated]);
  for (const Change& change : set) value[change.choice] = choices[change.choice].values[change.value];
  if (value[4] == "no") {
    if (set.size() > 1) return std::nullopt;
    Part same{"result", FormatId::fp32, c.rows, c.cols, {}, {}};
    for (const float x : c.x) same.bits.push_back(bits_of(x));
    return Answer{same};
  }
  Case other = c;
  other.spec = value[0] + ":" + value[1] + ":" + value[3] + ":" + value[2];
  return answer(other, {});
}

/// The answer of a conversion or transform with the changes. Nothing when they contradict each other or the input.
std::optional<Answer> changed_answer(const Case& c, const std::vector<Choice>& choices, const ChangeSet& set) {
  try {
    if (c.operation == Operation::hadamard) return hadamard_answer(c, choices, set);
    if (c.operation == Operation::recode) {
      const std::optional<ChangedQuantizer> q = changed(quantizer_of(c.spec), choices, set);
      if (!q) return std::nullopt;
      return recode_answer(c, *q);
    }
    const std::optional<UnpackedTensor> t = changed_transpose(*c.source, transpose_of(c.spec), c.splits, choices, set);
    if (!t) return std::nullopt;
    return parts_of_tensor(*t);
  } catch (const UserError&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<Choice> choices_of(const Case& c) {
  switch (c.operation) {
    case Operation::quantize:
      return quantizer_choices(quantizer_of(c.spec), c.axis == Orientation::row ? c.cols : c.rows);
    case Operation::transpose:
      return transpose_choices(transpose_of(c.spec));
    case Operation::recode:
      return recode_choices(quantizer_of(c.spec));
    case Operation::hadamard:
      return hadamard_choices(hadamard_of(c.spec));
    case Operation::matmul:
      break;
  }
  return {};
}

std::vector<BlindChoice> blind_choices(const Case& c, const Answer& expected, const Answer& got,
                                       const VerifyOptions& options) {
  // The expected output as if the kernel had brought it, in the parts that it did bring.
  Answer right;
  for (const Part& part : got) right.push_back(*find(expected, part.name.c_str()));
  const std::vector<Choice> choices = choices_of(c);
  std::function<std::optional<Match>(const ChangeSet&)> evaluate;
  std::optional<QuantizerEvaluation> quantizer;
  if (c.operation == Operation::quantize) {
    quantizer.emplace(c, right);
    evaluate = [&](const ChangeSet& set) { return (*quantizer)(set, Extent::whole); };
  } else {
    evaluate = [&](const ChangeSet& set) -> std::optional<Match> {
      const std::optional<Answer> is = changed_answer(c, choices, set);
      if (!is) return std::nullopt;
      return match_of(right, *is);
    };
  }
  std::vector<BlindChoice> blind;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    BlindChoice row{choices[i].name + "=" + choices[i].values[choices[i].stated], {}, choices[i].is_bug};
    for (std::size_t v = 0; v < choices[i].values.size(); ++v) {
      if (v == choices[i].stated) continue;
      if (options.limits.between) options.limits.between();
      const std::optional<Match> match = evaluate({{i, v}});
      if (match && std::find(match->begin(), match->end(), 0) == match->end())
        row.values.push_back(choices[i].values[v]);
    }
    if (!row.values.empty()) blind.push_back(std::move(row));
  }
  return blind;
}

std::optional<Explanation> explain(const Case& c, const Answer& got, const VerifyOptions& options) {
  switch (c.operation) {
    case Operation::quantize: {
      QuantizerEvaluation evaluation(c, got);
      const Evaluate evaluate = [&](const ChangeSet& set, Extent extent) { return evaluation(set, extent); };
      SearchResult search = search_choices(evaluation.choices(), evaluate, options.limits);
      return Explanation{evaluation.choices(), std::move(search)};
    }
    case Operation::transpose:
    case Operation::recode:
    case Operation::hadamard: {
      std::vector<Choice> choices = choices_of(c);
      const Evaluate evaluate = [&](const ChangeSet& set, Extent) -> std::optional<Match> {
        const std::optional<Answer> is = changed_answer(c, choices, set);
        if (!is) return std::nullopt;
        return match_of(got, *is);
      };
      SearchResult search = search_choices(choices, evaluate, options.limits);
      return Explanation{std::move(choices), std::move(search)};
    }
    case Operation::matmul:
      if (options.explain_product) return options.explain_product(c, options.limits);
      break;
  }
  return std::nullopt;
}

}  // namespace ng::validate
