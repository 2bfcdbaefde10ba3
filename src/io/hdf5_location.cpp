// SPDX-License-Identifier: Apache-2.0
//
// Attributes, on groups and datasets alike.
#include "hdf5_internal.hpp"
#include "io_common.hpp"

namespace ng::hdf5 {

namespace {

class Attribute {
 public:
  Attribute(const detail::FileState& file, const std::string& object, hid_t location, const std::string& name)
      : file_(file), name_(object + "@" + name) {
    require_open(file, name_);
    if (H5Aexists(location, name.c_str()) <= 0) {
      throw UserError(file.path + ":" + object + " has no attribute '" + name + "'");
    }
    id_ = Id(H5Aopen(location, name.c_str(), H5P_DEFAULT));
    if (id_.get() < 0) throw_unreadable(file, name_);
    type_ = Id(H5Aget_type(id_.get()));
    space_ = Id(H5Aget_space(id_.get()));
    info_ = describe_type(type_.get());
  }

  const TypeInfo& info() const { return info_; }
  hid_t type() const { return type_.get(); }
  hid_t space() const { return space_.get(); }
  std::vector<std::int64_t> shape() const { return shape_of_space(space_.get()); }

  void require_single(const char* what) const {
    if (H5Sget_simple_extent_npoints(space_.get()) != 1) reject(what);
  }
  [[noreturn]] void reject(const std::string& what) const {
    throw UserError(file_.path + ":" + name_ + " holds " + info_.description + " " + shape_text(shape()) +
                    ", needed is " + what);
  }
  void read(hid_t memory, void* to) const {
    if (H5Aread(id_.get(), memory, to) < 0) throw_unreadable(file_, name_);
  }
  std::size_t bytes() const { return believable_bytes(file_, name_, shape(), info_.size); }

 private:
  const detail::FileState& file_;
  std::string name_;
  Id id_, type_, space_;
  TypeInfo info_;
};

void replace_attribute(detail::FileState& file, const std::string& object, hid_t location, const std::string& name,
                       hid_t type, hid_t space, const void* value) {
  require_writable(file, object);
  if (file.swmr) throw LogicError(file.path + ":" + object + "@" + name + ": attributes are fixed under SWMR");
  if (H5Aexists(location, name.c_str()) > 0) H5Adelete(location, name.c_str());
  const Id attribute(H5Acreate2(location, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  if (attribute.get() < 0 || H5Awrite(attribute.get(), type, value) < 0) throw_unwritable(file, object + "@" + name);
}

}  // namespace

Location& Location::operator=(const Location& other) {
  return *this = Location(other);
}

Location& Location::operator=(Location&& other) {
  if (this == &other) return *this;
  release();
  file_ = std::move(other.file_);
  id_ = std::move(other.id_);
  path_ = std::move(other.path_);
  return *this;
}

Location::~Location() {
  release();
}

void Location::release() noexcept {
  if (file_ == nullptr || id_.get() < 0) return;
  const Call call;
  // A dataset that is closed writes what it still holds; that must not fail there (see FileState::give_up).
  if (file_->id >= 0 && file_->mode != Mode::read && !file_->failed && H5Iis_valid(id_.get()) > 0 &&
      H5Iget_type(id_.get()) == H5I_DATASET && H5Dflush(id_.get()) < 0) {
    file_->give_up();
  }
  if (file_->abandoned) id_.forget();
  id_ = detail::Id();
}

std::string Location::label() const {
  return file_->path + ":" + path_;
}

bool Location::has_attribute(const std::string& name) const {
  const Call call;
  require_open(*file_, path_);
  return H5Aexists(id_.get(), name.c_str()) > 0;
}

std::vector<std::string> Location::attribute_names() const {
  const Call call;
  require_open(*file_, path_);
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  hsize_t at = 0;
  if (H5Aiterate2(id_.get(), H5_INDEX_NAME, H5_ITER_INC, &at, visit, &names) < 0) throw_unreadable(*file_, path_);
  return names;
}

std::string Location::attribute_text(const std::string& name) const {
  const Call call;
  const Attribute attribute(*file_, path_, id_.get(), name);
  if (attribute.info().kind != TypeInfo::Class::text) attribute.reject("text");
  attribute.require_single("one text");
  if (attribute.info().variable_length) {
    char* text = nullptr;
    attribute.read(attribute.type(), &text);
    const std::string result = text == nullptr ? "" : text;
    H5Dvlen_reclaim(attribute.type(), attribute.space(), H5P_DEFAULT, &text);
    return result;
  }
  std::string buffer(attribute.bytes(), '\0');
  attribute.read(attribute.type(), buffer.data());
  return trimmed(buffer.data(), buffer.size());
}

std::int64_t Location::attribute_integer(const std::string& name) const {
  const Call call;
  const Attribute attribute(*file_, path_, id_.get(), name);
  if (H5Tget_class(attribute.type()) != H5T_INTEGER) attribute.reject("an integer");
  attribute.require_single("one integer");
  std::int64_t value = 0;
  attribute.read(H5T_NATIVE_INT64, &value);
  return value;
}

double Location::attribute_number(const std::string& name) const {
  const Call call;
  const Attribute attribute(*file_, path_, id_.get(), name);
  if (attribute.info().kind != TypeInfo::Class::number) attribute.reject("a number");
  attribute.require_single("one number");
  double value = 0;
  attribute.read(H5T_NATIVE_DOUBLE, &value);
  return value;
}

Array Location::attribute_array(const std::string& name) const {
  const Call call;
  const Attribute attribute(*file_, path_, id_.get(), name);
  if (attribute.info().kind != TypeInfo::Class::number) attribute.reject("numbers");
  Array array;
  array.dtype = attribute.info().dtype;
  array.shape = attribute.shape();
  array.origin = label() + "@" + name;
  array.data.resize(attribute.bytes());
  attribute.read(memory_type(array.dtype), array.data.data());
  return array;
}

void Location::set_attribute(const std::string& name, std::string_view text) {
  const Call call;
  // Of variable length: h5py gives these as str, and fixed-length ones as bytes.
  const std::string value(text);
  const char* const pointer = value.c_str();
  const Id type = text_type(H5T_VARIABLE), space(H5Screate(H5S_SCALAR));
  replace_attribute(*file_, path_, id_.get(), name, type.get(), space.get(), &pointer);
}

void Location::set_attribute(const std::string& name, const Array& values) {
  const Call call;
  if (values.dtype == Dtype::bf16) throw LogicError("attribute " + name + ": bf16 is for datasets");
  const std::vector<hsize_t> extents(values.shape.begin(), values.shape.end());
  const Id space(extents.empty() ? H5Screate(H5S_SCALAR)
                                 : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
  replace_attribute(*file_, path_, id_.get(), name, memory_type(values.dtype), space.get(), values.data.data());
}

void Location::set_integer(const std::string& name, std::int64_t value) {
  const Call call;
  const Id space(H5Screate(H5S_SCALAR));
  replace_attribute(*file_, path_, id_.get(), name, H5T_STD_I64LE, space.get(), &value);
}

void Location::set_number(const std::string& name, double value) {
  const Call call;
  const Id space(H5Screate(H5S_SCALAR));
  replace_attribute(*file_, path_, id_.get(), name, H5T_IEEE_F64LE, space.get(), &value);
}

}  // namespace ng::hdf5
