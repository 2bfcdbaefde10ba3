// SPDX-License-Identifier: Apache-2.0
//
// Everything goes through host memory: this is an instrument, not a fast path.
#include "mirrors.hpp"

#include <cstring>
#include <sstream>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"

namespace ng {

namespace {

std::vector<std::byte> bytes_of(const Backend& backend, const TensorView& view) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(view.count()) * size_of(view.dtype));
  if (!bytes.empty()) backend.download(bytes.data(), view);
  return bytes;
}

TensorView byte_view(const void* data, std::size_t bytes) {
  const auto count = static_cast<std::int64_t>(bytes);
  return TensorView{const_cast<void*>(data), Dtype::u8, 1, count, count, {}};
}

std::uint64_t element_at(const std::vector<std::byte>& bytes, std::size_t width, std::size_t i) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, bytes.data() + i * width, width);
  return bits;
}

bool is_nan(Dtype dtype, std::uint64_t bits) {
  if (dtype == Dtype::f32) return (bits & 0x7fffffffu) > 0x7f800000u;
  if (dtype == Dtype::bf16) return (bits & 0x7fffu) > 0x7f80u;
  return false;
}

std::string value_text(Dtype dtype, std::uint64_t bits) {
  std::ostringstream text;
  text << "0x" << std::hex << bits << std::dec;
  text.precision(9);
  if (dtype == Dtype::f32) text << " (" << float_of(static_cast<std::uint32_t>(bits)) << ")";
  if (dtype == Dtype::bf16) text << " (" << float_of(static_cast<std::uint32_t>(bits) << 16) << ")";
  return text.str();
}

}  // namespace

void Comparison::differ(const std::string& text) const {
  throw LogicError("backends " + first_.name() + " and " + second_.name() + " differ in " + operation_ + ": " + text);
}

void Comparison::equal(const std::string& what, const TensorView& a, const TensorView& b) const {
  if (a.rows != b.rows || a.cols != b.cols || a.dtype != b.dtype) differ(what + " has another shape or dtype");
  const std::vector<std::byte> x = bytes_of(first_, a);
  const std::vector<std::byte> y = bytes_of(second_, b);
  if (x == y) return;
  const std::size_t width = size_of(a.dtype);
  const std::size_t count = x.size() / width;
  std::size_t differing = 0;
  std::size_t at = 0;
  for (std::size_t i = count; i-- > 0;) {
    const std::uint64_t p = element_at(x, width, i);
    const std::uint64_t q = element_at(y, width, i);
    if (p == q || (is_nan(a.dtype, p) && is_nan(b.dtype, q))) continue;
    ++differing;
    at = i;
  }
  if (differing == 0) return;
  const auto cols = static_cast<std::size_t>(a.cols);
  differ(what + ", " + std::to_string(differing) + " of " + std::to_string(count) + " elements, first (" +
         std::to_string(at / cols) + ", " + std::to_string(at % cols) + "): " +
         value_text(a.dtype, element_at(x, width, at)) + " and " + value_text(a.dtype, element_at(y, width, at)));
}

void Comparison::equal(const std::string& what, const Buffer& a, const Buffer& b) const {
  if (a.bytes != b.bytes || (a.data == nullptr) != (b.data == nullptr)) differ(what + " has another size");
  if (a.data != nullptr && a.bytes > 0) equal(what, byte_view(a.data.get(), a.bytes), byte_view(b.data.get(), b.bytes));
}

void Comparison::equal(const std::string& what, const QuantizedTensor& a, const QuantizedTensor& b) const {
  if (a.rows != b.rows || a.cols != b.cols || a.row_bytes != b.row_bytes || a.scale_rows != b.scale_rows ||
      a.scale_cols != b.scale_cols || a.tile_offsets != b.tile_offsets || a.orientation != b.orientation)
    differ(what + " has another layout");
  if (a.nan_inputs != b.nan_inputs)
    differ(what + " counted " + std::to_string(a.nan_inputs) + " and " + std::to_string(b.nan_inputs) + " NaN");
  equal(what + " tensor scales", a.tensor_scales, b.tensor_scales);
  equal(what + " tensor amaxes", a.tensor_amaxes, b.tensor_amaxes);
  equal(what + " scales", a.scales, b.scales);
  equal(what + " codes", a.codes, b.codes);
  if ((a.residual == nullptr) != (b.residual == nullptr)) differ(what + ": one residual alone");
  if (a.residual == nullptr) return;
  if (a.residual->count != b.residual->count)
    differ(what + " residual has " + std::to_string(a.residual->count) + " and " + std::to_string(b.residual->count) +
           " entries");
  equal(what + " residual rows", a.residual->row_pointers, b.residual->row_pointers);
  equal(what + " residual columns", a.residual->columns, b.residual->columns);
  equal(what + " residual values", a.residual->values, b.residual->values);
}

void Comparison::equal(const std::string& what, const TensorForms& a, const TensorForms& b) const {
  if (a.forms.size() != b.forms.size()) differ(what + " has another number of forms");
  for (std::size_t i = 0; i < a.forms.size(); ++i) {
    const Form& x = a.forms[i];
    const Form& y = b.forms[i];
    const std::string name = what + " form " + std::to_string(i);
    if (x.kind != y.kind || x.orientation != y.orientation) differ(name + " is of another kind");
    if (x.quantized != nullptr)
      equal(name, *x.quantized, *y.quantized);
    else
      equal(name, x.plain.view, y.plain.view);
  }
}

void Comparison::equal(const std::string& what, const Routing& a, const Routing& b) const {
  equal_counts(what + " counts", a.counts, b.counts);
  equal_counts(what + " sequence counts", a.sequence_counts, b.sequence_counts);
  equal_counts(what + " groups", a.groups.offsets, b.groups.offsets);
  equal_counts(what + " rows and dropped slots", {a.rows, a.dropped}, {b.rows, b.dropped});
  equal(what + " probabilities", a.probabilities.view, b.probabilities.view);
  equal(what + " scores", a.scores.view, b.scores.view);
  equal(what + " shares", a.shares.view, b.shares.view);
  equal(what + " experts", a.expert.view, b.expert.view);
  equal(what + " full weights", a.full_weight.view, b.full_weight.view);
  equal(what + " weights", a.weight.view, b.weight.view);
  equal(what + " rows of slots", a.row_of_slot.view, b.row_of_slot.view);
  equal(what + " tokens of rows", a.token_of_row.view, b.token_of_row.view);
  equal(what + " slots of rows", a.slot_of_row.view, b.slot_of_row.view);
  equal(what + " log sum exp", a.log_sum_exp.view, b.log_sum_exp.view);
  for (const auto& [name, x, y] : {std::tuple{"aux loss", a.aux_loss, b.aux_loss},
                                   {"z loss", a.z_loss, b.z_loss},
                                   {"entropy", a.entropy, b.entropy}})
    equal_values(what + " " + name, &x, &y, sizeof x);
}

void Comparison::equal_values(const std::string& what, const void* a, const void* b, std::size_t bytes) const {
  if (std::memcmp(a, b, bytes) == 0) return;
  if (bytes == sizeof(double)) {
    double x = 0.0, y = 0.0;
    std::memcpy(&x, a, bytes);
    std::memcpy(&y, b, bytes);
    std::ostringstream text;
    text.precision(17);
    text << what << ": " << x << " and " << y;
    differ(text.str());
  }
  differ(what);
}

void Comparison::equal_counts(const std::string& what, const std::vector<std::int64_t>& a,
                              const std::vector<std::int64_t>& b) const {
  if (a.size() != b.size()) differ(what + " have another length");
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i])
      differ(what + " at " + std::to_string(i) + ": " + std::to_string(a[i]) + " and " + std::to_string(b[i]));
}

Buffer Mirrors::copied(const void* data, std::size_t bytes) {
  Buffer buffer = second_.allocate(bytes);
  if (bytes == 0) return buffer;
  const std::vector<std::byte> host = bytes_of(first_, byte_view(data, bytes));
  second_.upload(byte_view(buffer.data.get(), bytes), host.data());
  return buffer;
}

const TensorView& Mirrors::operator()(const TensorView& view) {
  for (const View& known : views_)
    if (known.original.data == view.data && known.original.dtype == view.dtype && known.original.rows == view.rows &&
        known.original.cols == view.cols && known.original.stride == view.stride &&
        known.original.placement.row_ids == view.placement.row_ids &&
        known.original.placement.row0 == view.placement.row0 && known.original.placement.col0 == view.placement.col0)
      return known.copy;
  View made{view, view, {}, {}};
  if (view.data != nullptr) {
    const std::vector<std::byte> host = bytes_of(first_, view);
    made.memory = second_.allocate(host.size());
    made.copy.data = made.memory.data.get();
    made.copy.stride = view.cols;
    if (!host.empty()) second_.upload(made.copy, host.data());
  }
  if (view.placement.row_ids != nullptr) {
    made.row_ids = copied(view.placement.row_ids, static_cast<std::size_t>(view.rows) * sizeof(std::int64_t));
    made.copy.placement.row_ids = made.row_ids.as<std::int64_t>();
  }
  views_.push_back(std::move(made));
  return views_.back().copy;
}

const Tensor& Mirrors::operator()(const Tensor& tensor) {
  if (!tensor) {
    tensors_.push_back(tensor);
    return tensors_.back();
  }
  const TensorView& copy = (*this)(tensor.view);
  Buffer memory;
  for (const View& known : views_)
    if (&known.copy == &copy) memory = known.memory;
  tensors_.push_back(Tensor{memory, copy});
  return tensors_.back();
}

const Buffer& Mirrors::operator()(const Buffer& buffer) {
  buffers_.push_back(buffer.data == nullptr ? Buffer{} : copied(buffer.data.get(), buffer.bytes));
  return buffers_.back();
}

const SparseResidual& Mirrors::operator()(const SparseResidual& residual) {
  SparseResidual copy = residual;
  copy.row_pointers = (*this)(residual.row_pointers);
  copy.columns = (*this)(residual.columns);
  copy.values = (*this)(residual.values);
  residuals_.push_back(std::move(copy));
  return residuals_.back();
}

const QuantizedTensor& Mirrors::operator()(const QuantizedTensor& q) {
  QuantizedTensor copy = q;
  copy.codes = (*this)(q.codes);
  copy.scales = (*this)(q.scales);
  copy.tensor_scales = (*this)(q.tensor_scales);
  copy.tensor_amaxes = (*this)(q.tensor_amaxes);
  if (q.residual != nullptr) copy.residual = std::make_shared<SparseResidual>((*this)(*q.residual));
  quantized_.push_back(std::move(copy));
  return quantized_.back();
}

const Form& Mirrors::operator()(const Form& form) {
  Form copy = form;
  if (form.plain) copy.plain = (*this)(form.plain);
  if (form.quantized != nullptr) copy.quantized = std::make_shared<QuantizedTensor>((*this)(*form.quantized));
  if (form.original) copy.original = (*this)(form.original);
  forms_.push_back(std::move(copy));
  return forms_.back();
}

const Product& Mirrors::operator()(const Product& product) {
  Product copy = product;
  copy.a = &(*this)(*product.a);
  copy.b = &(*this)(*product.b);
  copy.out = (*this)(product.out);
  if (product.weight != nullptr) copy.weight = &(*this)(*product.weight);
  products_.push_back(copy);
  return products_.back();
}

const Routing& Mirrors::operator()(const Routing& routing) {
  Routing copy = routing;
  for (Tensor Routing::*member :
       {&Routing::probabilities, &Routing::scores, &Routing::shares, &Routing::expert, &Routing::full_weight,
        &Routing::weight, &Routing::row_of_slot, &Routing::token_of_row, &Routing::slot_of_row, &Routing::log_sum_exp})
    copy.*member = (*this)(routing.*member);
  routings_.push_back(std::move(copy));
  return routings_.back();
}

const ParameterUpdate& Mirrors::operator()(const ParameterUpdate& update) {
  ParameterUpdate copy = update;
  for (TensorView ParameterUpdate::*member :
       {&ParameterUpdate::master, &ParameterUpdate::gradient, &ParameterUpdate::first, &ParameterUpdate::second})
    copy.*member = (*this)(update.*member);
  updates_.push_back(copy);
  return updates_.back();
}

void Mirrors::compare(const Comparison& comparison) const {
  for (std::size_t i = 0; i < views_.size(); ++i)
    if (views_[i].original.data != nullptr)
      comparison.equal("argument " + std::to_string(i + 1), views_[i].original, views_[i].copy);
}

}  // namespace ng
