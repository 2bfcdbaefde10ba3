// SPDX-License-Identifier: Apache-2.0
//
// Tensor-core products through cuBLASLt: operands where they lie, or copied where they are emulated, turned or not
// aligned; one pinned product for each group, on a few streams; results straight into the output, or as FP32 sums that
// a kernel of ours scales, adds and rounds.
//
// Copies are padded with zeros, which change no bit: a step of zeros leaves an accumulator as it is, and zeros beside
// other products neither raise the largest exponent nor add anything.
#include <algorithm>

#include "backend/cuda_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "runtime/device.hpp"
#include "runtime/stream_fan.hpp"

namespace ng::cuda {

namespace {

static_assert(kFanStreams == TensorCoreLibrary::kLanes);

constexpr std::int64_t kAlignedBytes = 16;

std::int64_t rounded_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % kAlignedBytes == 0;
}

/// An operand of all groups in the library's terms.
struct LibrarySource {
  const std::byte* data = nullptr;
  FormatId format = FormatId::bf16;
  OperandOrder order = OperandOrder::along_k;
  std::int64_t stride = 0;
  bool copied = false;
  CarriedOperand copy;
  CarriedScales scales;

  [[nodiscard]] LibraryOperand of_group(std::int64_t g, std::int64_t row, std::int64_t k) const {
    const std::int64_t width = format == FormatId::bf16 ? 2 : 1;
    const std::int64_t at = copied                           ? copy.place(g, row, k)
                            : order == OperandOrder::along_k ? row * stride + k
                                                             : k * stride + row;
    return {data + at * width, format, order, stride, scales.values.data == nullptr ? nullptr : scales.of_group(g)};
  }
};

struct ProductNeeds {
  HopperSteps steps;
  Padding padding;        ///< of copies
  bool ragged_k = false;  ///< k of some group is no multiple of padding.depth
};

/// Where the operand can be used as it lies, if every group is aligned.
bool describe_in_place(const Form& form, const ProductNeeds& needs, const CarriedOperandSpec& spec,
                       LibrarySource& source) {
  if (needs.steps == HopperSteps::bf16) {
    if (form.kind == OperandKind::quantized) return false;
    const TensorView& x = form.plain.view;
    source.data = static_cast<const std::byte*>(x.data);
    source.stride = x.stride;
    source.order = form.orientation == Orientation::column ? OperandOrder::along_rows : OperandOrder::along_k;
    // Along the rows any k will do; the rows themselves are then what has to be aligned.
    return is_aligned(x.data) && x.stride % 8 == 0 &&
           (source.order == OperandOrder::along_k ? !needs.ragged_k : x.cols % 8 == 0);
  }
  const QuantizedTensor& q = *form.quantized;
  NG_CHECK(spec.fp8);
  source.format = q.spec.element_id == FormatId::e5m2 ? FormatId::e5m2 : FormatId::e4m3;
  source.data = q.codes.as<std::byte>();
  source.stride = q.row_bytes;
  if (q.spec.element_id == FormatId::e2m1 || needs.ragged_k) return false;
  if (!is_aligned(source.data) || q.row_bytes % kAlignedBytes != 0) return false;
  const std::int64_t grouped = form.orientation == Orientation::row ? needs.padding.rows : needs.padding.depth;
  const std::int64_t extent = form.orientation == Orientation::row ? q.rows : q.cols;
  for (std::int64_t g = 0; g < q.groups.count(); ++g)
    if (q.groups.begin(g, extent) % grouped != 0 || q.groups.end(g, extent) % grouped != 0) return false;
  return q.rows % needs.padding.rows == 0 && q.cols % needs.padding.depth == 0;
}

void copy_operand(const Form& form, const Product& product, const ProductNeeds& needs, const CarriedOperandSpec& spec,
                  unsigned long long* losses, LibrarySource& source) {
  source.copy = carry_operand(form, product, needs.steps == HopperSteps::fp8 ? CarrierType::fp8 : CarrierType::bf16,
                              spec.rides, needs.padding, losses, KernelChoice::fastest);
  source.copied = true;
  source.data = source.copy.numbers.as<std::byte>();
  source.stride = source.copy.stride;
  source.order = OperandOrder::along_k;
}

}  // namespace

std::vector<LibraryAlgorithm> CudaBackend::library_algorithms() const {
  return library_ == nullptr ? std::vector<LibraryAlgorithm>{} : library_->algorithms();
}

std::string CudaBackend::product_kernels() const {
  if (options_.arithmetic == Arithmetic::ieee) return "cuda chains in tiles";
  return fast() ? "cuBLASLt, pinned, without split K" : "cuda model";
}

std::string CudaBackend::library_kernels() const {
  // Ragged groups ask for many heights: one line for all that were answered alike.
  struct Heights {
    std::int64_t least, most, count;
  };
  std::vector<std::pair<std::string, Heights>> lines;
  for (LibraryAlgorithm algorithm : library_algorithms()) {
    const std::int64_t m = algorithm.m;
    algorithm.m = 0;
    const std::string text = algorithm.text();
    const auto known = std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.first == text; });
    if (known == lines.end()) {
      lines.emplace_back(text, Heights{m, m, 1});
    } else {
      Heights& heights = known->second;
      heights = {std::min(heights.least, m), std::max(heights.most, m), heights.count + 1};
    }
  }
  std::string result;
  for (const auto& [text, heights] : lines)
    result += "cuBLASLt " + library_->version() + " " + text + "; " + std::to_string(heights.count) +
              " values of M from " + std::to_string(heights.least) + " to " + std::to_string(heights.most) + "\n";
  return result;
}

bool CudaBackend::library_product(const Product& product, const HopperProduct& how,
                                  const std::vector<ProductPart>& parts) {
  const bool fp8 = how.steps == HopperSteps::fp8;
  // 1. The operands.
  ProductNeeds needs{how.steps, {fp8 ? 16 : 1, is_blockwise(how.scales) ? kScaleBlock : fp8 ? 16 : 8}};
  for (const ProductPart& part : parts) needs.ragged_k = needs.ragged_k || part.k % needs.padding.depth != 0;
  LibrarySource a, b;
  bool a_in_place = describe_in_place(*product.a, needs, how.a, a);
  bool b_in_place = describe_in_place(*product.b, needs, how.b, b);
  // Where one is padded along k, the other has to be: a zero times what lies behind a group could be NaN.
  if (needs.ragged_k && !(a_in_place && b_in_place)) a_in_place = b_in_place = false;
  if (!a_in_place) copy_operand(*product.a, product, needs, how.a, loss_counter(), a);
  if (!b_in_place) copy_operand(*product.b, product, needs, how.b, loss_counter(), b);
  const bool padded_k = needs.ragged_k && !a_in_place;

  // 2. Their scales: FP8 kernels apply them, of BF16 ones we do it.
  CarriedScales own_a, own_b;
  const bool own_scales = !fp8 && how.scales != ScaleMode::none;
  if (own_scales) {
    own_a = model_scales(*product.a, product, how.a.outside, how.scales);
    own_b = model_scales(*product.b, product, how.b.outside, how.scales);
  } else if (how.scales != ScaleMode::none) {
    a.scales = library_scales(*product.a, product, how.a.outside, how.scales, needs.padding);
    b.scales = library_scales(*product.b, product, how.b.outside, how.scales, needs.padding);
  }

  // 3. The products, and whether their results go straight into the output.
  const TensorView& out = product.out;
  const std::int64_t out_width = static_cast<std::int64_t>(size_of(out.dtype));
  bool straight =
      !own_scales && !product.accumulate && is_aligned(out.data) && out.stride * out_width % kAlignedBytes == 0;
  std::int64_t sum_rows = 0;
  for (const ProductPart& part : parts) {
    straight = straight && part.m % needs.padding.rows == 0 && part.n % needs.padding.rows == 0;
    sum_rows += rounded_up(part.m, needs.padding.rows);
  }
  const std::int64_t sum_stride = parts.empty() ? 0 : rounded_up(parts[0].n, 16);
  Buffer sums;
  if (!straight) sums = cuda::allocate(static_cast<std::size_t>(sum_rows * sum_stride) * sizeof(float));
  std::vector<LibraryMatmul> matmuls;
  std::int64_t sum_row = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const ProductPart& part = parts[i];
    const auto g = static_cast<std::int64_t>(i);
    LibraryMatmul matmul;
    matmul.m = rounded_up(part.m, needs.padding.rows);
    matmul.n = rounded_up(part.n, needs.padding.rows);
    matmul.k = padded_k ? rounded_up(part.k, needs.padding.depth) : part.k;
    matmul.a = a.of_group(g, part.a_row, part.a_k);
    matmul.b = b.of_group(g, part.b_row, part.b_k);
    matmul.scales = own_scales ? ScaleMode::none : how.scales;
    matmul.fast_accumulation = fp8 && product.accumulation == Accumulate::fast;
    matmul.output = straight && out.dtype == Dtype::bf16 ? ProductOutput::bf16 : ProductOutput::f32;
    matmul.out = straight ? static_cast<void*>(out.row(part.out_row)) : sums.as<float>() + sum_row * sum_stride;
    matmul.out_stride = straight ? out.stride : sum_stride;
    matmuls.push_back(matmul);
    sum_row += matmul.m;
    const bool empty = part.m == 0 || part.n == 0 || part.k == 0;
    if (!empty && !library_->serves(matmul)) return false;
  }

  // 4. All groups.
  const StreamFan fan;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const ProductPart& part = parts[i];
    const LibraryMatmul& matmul = matmuls[i];
    if (part.m == 0 || part.n == 0) continue;
    const int lane = static_cast<int>(i % kFanStreams);
    const Stream stream = fan.stream(lane);
    if (part.k == 0) {
      const std::size_t width = matmul.output == ProductOutput::bf16 ? 2 : 4;
      fill_rows(matmul.out, static_cast<std::size_t>(matmul.out_stride) * width, 0,
                static_cast<std::size_t>(part.n) * width, static_cast<std::size_t>(part.m), stream);
    } else {
      library_->run(matmul, lane, stream);
    }
    if (straight) continue;
    FinishProduct finish;
    finish.sums = static_cast<const float*>(matmul.out);
    finish.stride = matmul.out_stride;
    finish.scales = own_scales ? how.scales : ScaleMode::none;
    if (own_scales) {
      finish.scales_a = own_a.of_group(static_cast<std::int64_t>(i));
      finish.scales_b = own_b.of_group(static_cast<std::int64_t>(i));
    }
    finish.out = row_slice(out, part.out_row, part.m);
    finish.accumulate = product.accumulate;
    plain::finish_product(finish, stream);
  }
  return true;
}

}  // namespace ng::cuda
