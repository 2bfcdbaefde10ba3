// SPDX-License-Identifier: Apache-2.0
//
// The .npy format (numpy.lib.format): magic, version, header length, a Python dict literal, raw data. The dict is
// read by a parser that knows exactly the three keys NumPy writes.
#include "narrowgauge/io/npy.hpp"

#include <algorithm>
#include <optional>

#include "io_common.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

namespace {

constexpr std::size_t kMaxHeader = 1 << 20;
constexpr std::size_t kMaxRank = 32;

struct TypeName {
  std::string_view descr;
  Dtype dtype;
};
constexpr TypeName kTypes[] = {
    {"<f4", Dtype::f32}, {"<f2", Dtype::f16}, {"<f8", Dtype::f64}, {"|u1", Dtype::u8},
    {"|i1", Dtype::i8},  {"<u2", Dtype::u16}, {"<i2", Dtype::i16}, {"<u4", Dtype::u32},
    {"<i4", Dtype::i32}, {"<u8", Dtype::u64}, {"<i8", Dtype::i64},
};

// Reads {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, keys in any order, each once.
class DictParser {
 public:
  DictParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  void parse() {
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !descr) {
        if (peek() == '[') fail("a structured type");
        descr = string();
      } else if (key == "fortran_order" && !fortran) {
        fortran = boolean();
      } else if (key == "shape" && !shape) {
        shape = tuple();
      } else {
        fail("unexpected or repeated key '" + key + "'");
      }
      if (!take(',') && peek() != '}') fail("no ',' or '}' after a value");
    }
    skip_space();
    if (at_ != text_.size()) fail("text after the dict");
    if (!descr || !fortran || !shape) fail("a key is missing");
  }

  std::optional<std::string> descr;
  std::optional<bool> fortran;
  std::optional<std::vector<std::int64_t>> shape;

 private:
  [[noreturn]] void fail(const std::string& what) const { throw UserError(path_ + ": malformed npy header: " + what); }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("'") + c + "' expected at byte " + std::to_string(at_));
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("a string expected at byte " + std::to_string(at_));
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a string does not end");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    fail("True or False expected");
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const std::size_t first = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (value > (std::int64_t{1} << 58)) fail("an extent is too large");
      value = value * 10 + (text_[at_] - '0');
    }
    if (at_ == first) fail("an extent expected at byte " + std::to_string(at_));
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // written by Python 2
    return value;
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    expect('(');
    while (!take(')')) {
      if (values.size() == kMaxRank) fail("more than 32 dimensions");
      values.push_back(integer());
      if (!take(',') && peek() != ')') fail("no ',' or ')' in the shape");
    }
    return values;
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

enum class Direction { column_to_row_major, row_to_column_major };

// Reorders the elements of `size` bytes: walks in row-major order beside the position in column-major order.
void reorder(Direction direction, std::span<const std::int64_t> shape, std::size_t size, const std::byte* from,
             std::byte* to) {
  const std::size_t rank = shape.size();
  std::vector<std::int64_t> stride(rank), index(rank, 0);
  std::int64_t count = 1;
  for (std::size_t d = 0; d < rank; ++d) {
    stride[d] = count;
    count *= shape[d];
  }
  std::int64_t column = 0;  // position in column-major order
  for (std::int64_t row = 0; row < count; ++row) {
    const std::size_t a = static_cast<std::size_t>(row) * size, b = static_cast<std::size_t>(column) * size;
    if (direction == Direction::row_to_column_major) {
      std::memcpy(to + b, from + a, size);
    } else {
      std::memcpy(to + a, from + b, size);
    }
    for (std::size_t d = rank; d-- > 0;) {
      column += stride[d];
      if (++index[d] < shape[d]) break;
      column -= stride[d] * shape[d];
      index[d] = 0;
    }
  }
}

}  // namespace

NpyHeader parse_npy_header(std::span<const std::byte> head, std::uint64_t file_bytes, const std::string& path) {
  static constexpr std::string_view kMagic = "\x93NUMPY";
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (!text.starts_with(kMagic)) {
    if (kMagic.starts_with(text)) throw UserError(path + ": truncated: " + std::to_string(head.size()) + " bytes");
    throw UserError(path + " is not an npy file");
  }
  if (head.size() < 10) throw UserError(path + ": truncated: " + std::to_string(head.size()) + " bytes");
  const int major = static_cast<int>(head[6]);
  if (major < 1 || major > 3 || head[7] != std::byte{0}) {
    throw UserError(path + ": npy version " + std::to_string(major) + "." + std::to_string(static_cast<int>(head[7])) +
                    "; valid are 1.0, 2.0 and 3.0");
  }
  const std::size_t start = major == 1 ? 10 : 12;
  if (head.size() < start) throw UserError(path + ": truncated in the header");
  const std::size_t length = major == 1 ? io::load<std::uint16_t>(&head[8]) : io::load<std::uint32_t>(&head[8]);
  if (length > kMaxHeader) throw UserError(path + ": npy header of " + std::to_string(length) + " bytes");
  if (head.size() < start + length) throw UserError(path + ": truncated in the header");

  DictParser dict(text.substr(start, length), path);
  dict.parse();
  std::string descr = *dict.descr;
  if (descr == "<u1" || descr == "<i1") descr[0] = '|';
  const auto* type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.descr == descr; });
  if (type == std::end(kTypes)) {
    std::string why;
    if (descr.starts_with('>')) why = " is big endian";
    if (descr == "<V2" || descr == "|V2")
      why = " (an opaque type, as ml_dtypes writes bfloat16; save it as safetensors)";
    throw UserError(path + ": npy type '" + descr + "'" + why +
                    "; valid are <f4 <f2 <f8 |u1 |i1 <u2 <i2 <u4 <i4 <u8 <i8");
  }

  NpyHeader header;
  header.dtype = type->dtype;
  header.order = *dict.fortran ? NpyOrder::fortran : NpyOrder::c;
  header.shape = std::move(*dict.shape);
  header.data_offset = start + length;
  const std::int64_t bytes = checked_bytes(header.shape, size_of(header.dtype));
  const std::uint64_t present = file_bytes - std::min<std::uint64_t>(file_bytes, header.data_offset);
  if (bytes < 0 || static_cast<std::uint64_t>(bytes) > present) {
    throw UserError(path + ": truncated: shape " + shape_text(header.shape) + " of " +
                    std::string(name_of(header.dtype)) + " needs more than the " + std::to_string(present) +
                    " bytes of data in the file");
  }
  if (static_cast<std::uint64_t>(bytes) < present) {
    throw UserError(path + ": " + std::to_string(present - static_cast<std::uint64_t>(bytes)) +
                    " bytes after the data of shape " + shape_text(header.shape));
  }
  return header;
}

Array read_npy(const std::string& path) {
  const io::MappedFile file(path);
  const auto bytes = file.bytes();
  NpyHeader header = parse_npy_header(bytes, bytes.size(), path);
  const auto values = bytes.subspan(header.data_offset);
  Array array = Array::from_bytes(header.dtype, std::move(header.shape), values);
  array.origin = path;
  if (header.order == NpyOrder::fortran && array.shape.size() > 1) {
    reorder(Direction::column_to_row_major, array.shape, size_of(array.dtype), values.data(), array.data.data());
  }
  return array;
}

void write_npy(const std::string& path, const Array& array, NpyOrder order) {
  const auto* type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.dtype == array.dtype; });
  if (type == std::end(kTypes)) {
    throw UserError(path + ": npy has no " + std::string(name_of(array.dtype)) + "; write safetensors or HDF5");
  }
  std::string dict = "{'descr': '" + std::string(type->descr) +
                     "', 'fortran_order': " + (order == NpyOrder::fortran ? "True" : "False") + ", 'shape': (";
  for (std::size_t i = 0; i < array.shape.size(); ++i) {
    if (i != 0) dict += " ";
    dict += std::to_string(array.shape[i]) + (i + 1 < array.shape.size() || array.shape.size() == 1 ? "," : "");
  }
  dict += "), }";
  std::string head = "\x93NUMPY";
  const bool small = dict.size() + 64 + 10 < 65536;
  head += static_cast<char>(small ? 1 : 2);
  head += '\0';
  const std::size_t start = small ? 10 : 12;
  dict.append(63 - (start + dict.size()) % 64, ' ');
  dict += '\n';
  for (std::size_t i = 0; i < start - 8; ++i) head += static_cast<char>(dict.size() >> (8 * i) & 0xFF);
  head += dict;

  std::vector<std::byte> turned;
  std::span<const std::byte> values = array.data;
  if (order == NpyOrder::fortran && array.shape.size() > 1) {
    turned.resize(array.data.size());
    reorder(Direction::row_to_column_major, array.shape, size_of(array.dtype), array.data.data(), turned.data());
    values = turned;
  }
  AtomicFile file(path);
  file.write(head);
  file.write(values);
  file.commit();
}

}  // namespace ng
