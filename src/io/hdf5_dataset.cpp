// SPDX-License-Identifier: Apache-2.0
//
// Reading, overwriting, growing and shrinking of one dataset.
#include <algorithm>

#include "hdf5_internal.hpp"
#include "io_common.hpp"

namespace ng::hdf5 {

namespace {

struct Described {
  Id type, space;
  TypeInfo info;
  std::vector<std::int64_t> shape;
};

Described describe(const detail::FileState& file, const std::string& path, hid_t dataset) {
  require_open(file, path);
  Described d;
  d.type = Id(H5Dget_type(dataset));
  d.space = Id(H5Dget_space(dataset));
  if (d.type.get() < 0 || d.space.get() < 0) throw_unreadable(file, path);
  d.info = describe_type(d.type.get());
  if (H5Sget_simple_extent_type(d.space.get()) == H5S_NULL) {
    throw UserError(file.path + ":" + path + " is an empty dataset without a shape");
  }
  d.shape = shape_of_space(d.space.get());
  return d;
}

[[noreturn]] void reject_type(const std::string& label, const Described& d, const char* needed) {
  throw UserError(label + " holds " + d.info.description + " " + shape_text(d.shape) + ", needed is " + needed);
}

constexpr const char* kNumbers =
    "numbers: float32, float16, bf16 (as uint16 with attribute dtype), float64 or integers";

// Selects rows [first, first + count) in the file and the like block in memory.
std::pair<Id, Id> select_rows(const Described& d, std::int64_t first, std::int64_t count) {
  std::vector<hsize_t> start(d.shape.size(), 0), block(d.shape.begin(), d.shape.end());
  start[0] = static_cast<hsize_t>(first);
  block[0] = static_cast<hsize_t>(count);
  Id file_space(H5Scopy(d.space.get()));
  H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, block.data(), nullptr);
  Id memory_space(H5Screate_simple(static_cast<int>(block.size()), block.data(), nullptr));
  return {std::move(file_space), std::move(memory_space)};
}

}  // namespace

bool Dataset::is_text() const {
  const Call call;
  return describe(*file_, path_, id_.get()).info.kind == TypeInfo::Class::text;
}

Dtype Dataset::dtype() const {
  const Call call;
  const Described d = describe(*file_, path_, id_.get());
  if (d.info.kind != TypeInfo::Class::number) reject_type(label(), d, kNumbers);
  if (d.info.dtype == Dtype::u16 && has_attribute("dtype") && attribute_text("dtype") == "bf16") return Dtype::bf16;
  return d.info.dtype;
}

std::vector<std::int64_t> Dataset::shape() const {
  const Call call;
  return describe(*file_, path_, id_.get()).shape;
}

std::int64_t Dataset::rows() const {
  const auto extents = shape();
  return extents.empty() ? 1 : extents.front();
}

Array Dataset::read() const {
  return read_block(0, -1);
}

Array Dataset::read_rows(std::int64_t first, std::int64_t count) const {
  if (count < 0) throw std::out_of_range(label() + ": a negative number of rows");
  return read_block(first, count);
}

Array Dataset::read_block(std::int64_t first, std::int64_t count) const {
  const Call call;
  const Described d = describe(*file_, path_, id_.get());
  if (d.info.kind != TypeInfo::Class::number) reject_type(label(), d, kNumbers);
  Array array;
  array.dtype = d.info.dtype;
  array.shape = d.shape;
  array.origin = label();
  if (has_attribute("dtype")) {
    const std::string name = attribute_text("dtype");
    if (array.dtype == Dtype::u16 && name == "bf16") {
      array.dtype = Dtype::bf16;
    } else if (name != name_of(array.dtype)) {
      array.format = name;
    }
  }
  Id file_space, memory_space;
  if (count >= 0) {
    if (d.shape.empty()) throw UserError(label() + " is a scalar and has no rows");
    if (first < 0 || first > d.shape[0] || count > d.shape[0] - first) {
      throw std::out_of_range(label() + ": rows " + std::to_string(first) + " to " + std::to_string(first + count) +
                              " of " + std::to_string(d.shape[0]));
    }
    array.shape[0] = count;
    std::tie(file_space, memory_space) = select_rows(d, first, count);
  }
  array.data.resize(believable_bytes(*file_, path_, array.shape, size_of(array.dtype)));
  if (array.data.empty()) return array;
  const hid_t all = H5S_ALL;
  if (H5Dread(id_.get(), memory_type(array.dtype), count >= 0 ? memory_space.get() : all,
              count >= 0 ? file_space.get() : all, H5P_DEFAULT, array.data.data()) < 0) {
    throw_unreadable(*file_, path_);
  }
  return array;
}

std::string Dataset::read_text() const {
  const Call call;
  const Described d = describe(*file_, path_, id_.get());
  if (d.info.kind != TypeInfo::Class::text || H5Sget_simple_extent_npoints(d.space.get()) != 1) {
    reject_type(label(), d, "one text");
  }
  return read_texts().front();
}

std::vector<std::string> Dataset::read_texts() const {
  const Call call;
  const Described d = describe(*file_, path_, id_.get());
  if (d.info.kind != TypeInfo::Class::text) reject_type(label(), d, "text");
  const std::size_t bytes = believable_bytes(*file_, path_, d.shape, d.info.size), count = bytes / d.info.size;
  std::vector<std::string> texts;
  if (count == 0) return texts;
  if (d.info.variable_length) {
    std::vector<char*> pointers(count, nullptr);
    if (H5Dread(id_.get(), d.type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0) {
      throw_unreadable(*file_, path_);
    }
    for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
    H5Dvlen_reclaim(d.type.get(), d.space.get(), H5P_DEFAULT, pointers.data());
    return texts;
  }
  std::string buffer(bytes, '\0');
  if (H5Dread(id_.get(), d.type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer.data()) < 0) {
    throw_unreadable(*file_, path_);
  }
  for (std::size_t i = 0; i < count; ++i) texts.push_back(trimmed(buffer.data() + i * d.info.size, d.info.size));
  return texts;
}

void Dataset::write(Dtype dtype, std::span<const std::byte> bytes) {
  const Call call;
  require_writable(*file_, path_);
  const std::int64_t expected = checked_bytes(shape(), size_of(dtype));
  if (dtype != this->dtype() || expected < 0 || static_cast<std::uint64_t>(expected) != bytes.size()) {
    throw LogicError(label() + ": written with " + std::to_string(bytes.size()) + " bytes of " +
                     std::string(name_of(dtype)));
  }
  if (bytes.empty()) return;
  if (H5Dwrite(id_.get(), memory_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0) {
    throw_unwritable(*file_, path_);
  }
}

void Dataset::write_text(std::string_view text) {
  const Call call;
  require_writable(*file_, path_);
  const Described d = describe(*file_, path_, id_.get());
  if (d.info.kind != TypeInfo::Class::text || d.info.variable_length || text.size() > d.info.size) {
    throw LogicError(label() + ": no room for a text of " + std::to_string(text.size()) + " bytes");
  }
  std::string buffer(text);
  buffer.resize(d.info.size, '\0');
  if (H5Dwrite(id_.get(), d.type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer.data()) < 0) {
    throw_unwritable(*file_, path_);
  }
}

void Dataset::append_bytes(Dtype dtype, std::span<const std::byte> bytes) {
  const Call call;
  require_writable(*file_, path_);
  Described d = describe(*file_, path_, id_.get());
  const std::vector<std::int64_t> row(d.shape.begin() + (d.shape.empty() ? 0 : 1), d.shape.end());
  const std::int64_t row_bytes = checked_bytes(row, size_of(dtype));
  if (d.shape.empty() || dtype != this->dtype() || row_bytes <= 0 ||
      bytes.size() % static_cast<std::size_t>(row_bytes) != 0) {
    throw LogicError(label() + " " + shape_text(d.shape) + ": appended " + std::to_string(bytes.size()) + " bytes of " +
                     std::string(name_of(dtype)));
  }
  if (bytes.empty()) return;
  const std::int64_t first = d.shape[0], count = static_cast<std::int64_t>(bytes.size()) / row_bytes;
  d.shape[0] += count;
  const std::vector<hsize_t> extents(d.shape.begin(), d.shape.end());
  if (H5Dset_extent(id_.get(), extents.data()) < 0) throw_unwritable(*file_, path_);
  d.space = Id(H5Dget_space(id_.get()));
  const auto [file_space, memory_space] = select_rows(d, first, count);
  if (H5Dwrite(id_.get(), memory_type(dtype), memory_space.get(), file_space.get(), H5P_DEFAULT, bytes.data()) < 0) {
    throw_unwritable(*file_, path_);
  }
}

void Dataset::truncate_rows(std::int64_t n) {
  const Call call;
  require_writable(*file_, path_);
  if (file_->swmr) throw LogicError(label() + ": rows are cut off before SWMR writing starts");
  const auto now = shape();
  if (now.empty() || n < 0 || n > now[0]) {
    throw LogicError(label() + " " + shape_text(now) + ": cut to " + std::to_string(n) + " rows");
  }
  std::vector<hsize_t> extents(now.begin(), now.end());
  extents[0] = static_cast<hsize_t>(n);
  if (H5Dset_extent(id_.get(), extents.data()) < 0) throw_unwritable(*file_, path_);
}

void Dataset::refresh() {
  const Call call;
  require_open(*file_, path_);
  if (H5Drefresh(id_.get()) < 0) throw_unreadable(*file_, path_);
}

void Dataset::flush() {
  const Call call;
  require_writable(*file_, path_);
  if (H5Dflush(id_.get()) < 0) throw_unwritable(*file_, path_);
}

}  // namespace ng::hdf5
