// SPDX-License-Identifier: Apache-2.0
//
// Walking through a file and creating its objects. External links are not followed: a file is what it holds.
#include <algorithm>
#include <limits>

#include "hdf5_internal.hpp"
#include "io_common.hpp"

namespace ng::hdf5 {

namespace {

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxListed = 10000;

std::string parent_of(const std::string& path) {
  const std::size_t at = path.rfind('/');
  return at == 0 || at == std::string::npos ? "/" : path.substr(0, at);
}

// True if a hard or soft link stands at an absolute path, whatever it leads to.
bool is_linked(const detail::FileState& file, const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string prefix = path.substr(0, at);
    H5L_info_t link;
    if (H5Lexists(file.id, prefix.c_str(), H5P_DEFAULT) <= 0 ||
        H5Lget_info(file.id, prefix.c_str(), &link, H5P_DEFAULT) < 0 ||
        (link.type != H5L_TYPE_HARD && link.type != H5L_TYPE_SOFT)) {
      return false;
    }
    if (at != std::string::npos) ++at;
  }
  return true;
}

// An identifier of the object at an absolute path, invalid if there is none or the library cannot open it.
Id open_object(const detail::FileState& file, const std::string& path) {
  if (path != "/" && !is_linked(file, path)) return Id();
  return Id(H5Oopen(file.id, path.c_str(), H5P_DEFAULT));
}

// Throws, with the library's reason, if something stands at `path` that cannot be opened.
void require_openable(const detail::FileState& file, const std::string& path) {
  if (is_linked(file, path) && open_object(file, path).get() < 0) throw_unreadable(file, path);
}

Kind kind_of(const Id& object) {
  if (object.get() < 0) return Kind::none;
  const H5I_type_t type = H5Iget_type(object.get());
  return type == H5I_GROUP ? Kind::group : type == H5I_DATASET ? Kind::dataset : Kind::none;
}

std::vector<std::string> names_in(const detail::FileState& file, const std::string& path, hid_t group) {
  H5G_info_t info;
  if (H5Gget_info(group, &info) < 0) throw_unreadable(file, path);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < std::min<hsize_t>(info.nlinks, kMaxListed); ++i) {
    const ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, nullptr, 0, H5P_DEFAULT);
    if (length < 0) throw_unreadable(file, path);
    std::string name(static_cast<std::size_t>(length) + 1, '\0');
    H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size(), H5P_DEFAULT);
    name.resize(static_cast<std::size_t>(length));
    names.push_back(std::move(name));
  }
  return names;
}

void collect_datasets(const detail::FileState& file, const std::string& path, const std::string& shown, int depth,
                      std::vector<std::string>& found) {
  const Id group = open_object(file, path);
  if (depth > kMaxDepth || kind_of(group) != Kind::group) return;
  for (const std::string& name : names_in(file, path, group.get())) {
    if (found.size() >= kMaxListed) return;
    const std::string below = (path == "/" ? "" : path) + "/" + name;
    const std::string text = shown.empty() ? name : shown + "/" + name;
    const Kind kind = kind_of(open_object(file, below));
    if (kind == Kind::dataset) found.push_back(text);
    if (kind == Kind::group) collect_datasets(file, below, text, depth + 1, found);
  }
}

}  // namespace

std::string Group::absolute(const std::string& path) const {
  std::string result = path.starts_with('/') ? "" : path_ == "/" ? "" : path_;
  std::size_t at = 0;
  while (at < path.size()) {  // one '/' between parts, none at the end
    const std::size_t end = std::min(path.find('/', at), path.size());
    if (end > at) result += "/" + path.substr(at, end - at);
    at = end + 1;
  }
  return result.empty() ? "/" : result;
}

Kind Group::kind(const std::string& path) const {
  const Call call;
  require_open(*file_, path_);
  return kind_of(open_object(*file_, absolute(path)));
}

std::vector<std::string> Group::children() const {
  const Call call;
  require_open(*file_, path_);
  return names_in(*file_, path_, id_.get());
}

std::vector<std::string> Group::datasets() const {
  const Call call;
  require_open(*file_, path_);
  std::vector<std::string> found;
  collect_datasets(*file_, path_, "", 0, found);
  return found;
}

Group Group::group(const std::string& path) const {
  const Call call;
  require_open(*file_, path_);
  Group result;
  result.file_ = file_;
  result.path_ = absolute(path);
  result.id_ = open_object(*file_, result.path_);
  switch (kind_of(result.id_)) {
    case Kind::group:
      return result;
    case Kind::dataset:
      throw UserError(result.label() + " is a dataset, needed is a group");
    case Kind::none:
      break;
  }
  require_openable(*file_, result.path_);
  throw UserError(label() + " has no group '" + path + "'; it holds " + io::list_text(children()));
}

Dataset Group::dataset(const std::string& path) const {
  const Call call;
  require_open(*file_, path_);
  Dataset result;
  result.file_ = file_;
  result.path_ = absolute(path);
  result.id_ = open_object(*file_, result.path_);
  switch (kind_of(result.id_)) {
    case Kind::dataset:
      return result;
    case Kind::group:
      throw UserError(result.label() + " is a group, needed is a dataset; it holds " +
                      io::list_text(group(path).datasets()));
    case Kind::none:
      break;
  }
  require_openable(*file_, result.path_);
  throw UserError(label() + " has no dataset '" + path + "'; it holds " + io::list_text(datasets()));
}

Group Group::create_group(const std::string& path) {
  const Call call;
  if (kind(path) == Kind::group) return group(path);
  const std::string name = absolute(path);
  require_creatable(name);
  if (parent_of(name) != "/") (void)create_group(parent_of(name));
  const Id properties(H5Pcreate(H5P_GROUP_CREATE));
  H5Pset_obj_track_times(properties.get(), false);
  const Id created(H5Gcreate2(file_->id, name.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  if (created.get() < 0) throw_unwritable(*file_, name);
  return group(path);
}

void Group::require_creatable(const std::string& name) const {
  require_writable(*file_, name);
  if (file_->swmr) throw LogicError(file_->path + ":" + name + ": nothing is created under SWMR");
  if (exists(name)) throw LogicError(file_->path + ":" + name + " exists already");
  for (std::string parent = parent_of(name); parent != "/"; parent = parent_of(parent)) {
    if (kind(parent) == Kind::dataset) throw LogicError(file_->path + ":" + parent + " is a dataset, not a group");
  }
}

Dataset Group::create_dataset(const std::string& path, std::int64_t type, std::int64_t space, std::int64_t properties) {
  const std::string name = absolute(path);
  require_creatable(name);
  if (parent_of(name) != "/") (void)create_group(parent_of(name));
  // No times in the objects: the same content gives the same bytes.
  const Id timeless(properties == H5P_DEFAULT ? H5Pcreate(H5P_DATASET_CREATE) : H5Pcopy(properties));
  H5Pset_obj_track_times(timeless.get(), false);
  const Id created(H5Dcreate2(file_->id, name.c_str(), type, space, H5P_DEFAULT, timeless.get(), H5P_DEFAULT));
  if (created.get() < 0) throw_unwritable(*file_, name);
  return dataset(path);
}

Dataset Group::create(const std::string& path, const Array& array) {
  const Call call;
  const std::vector<hsize_t> extents(array.shape.begin(), array.shape.end());
  const Id space(extents.empty() ? H5Screate(H5S_SCALAR)
                                 : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
  Dataset dataset = create_dataset(path, memory_type(array.dtype), space.get(), H5P_DEFAULT);
  if (array.dtype == Dtype::bf16) {
    dataset.set_attribute("dtype", "bf16");
  } else if (!array.format.empty()) {
    dataset.set_attribute("dtype", array.format);
  }
  dataset.write(array.dtype, array.data);
  return dataset;
}

Dataset Group::create_text(const std::string& path, std::string_view text, std::size_t capacity) {
  const Call call;
  const Id type = text_type(std::max(text.size(), capacity)), space(H5Screate(H5S_SCALAR));
  Dataset dataset = create_dataset(path, type.get(), space.get(), H5P_DEFAULT);
  dataset.write_text(text);
  return dataset;
}

Dataset Group::create_texts(const std::string& path, const std::vector<std::string>& texts) {
  const Call call;
  std::size_t longest = 1;
  for (const std::string& text : texts) longest = std::max(longest, text.size());
  std::string buffer;
  for (const std::string& text : texts) {
    buffer += text;
    buffer.append(longest - text.size(), '\0');
  }
  const hsize_t count = texts.size();
  const Id type = text_type(longest), space(H5Screate_simple(1, &count, nullptr));
  Dataset dataset = create_dataset(path, type.get(), space.get(), H5P_DEFAULT);
  if (count != 0 && H5Dwrite(dataset.id_.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer.data()) < 0) {
    throw_unwritable(*file_, dataset.path_);
  }
  return dataset;
}

Dataset Group::create_growing(const std::string& path, Dtype dtype, const std::vector<std::int64_t>& row_shape,
                              std::int64_t chunk_rows) {
  const Call call;
  constexpr std::int64_t kMostChunk = std::int64_t{1} << 31;  // the library takes less than 4 GiB
  const std::int64_t row_bytes = checked_bytes(row_shape, size_of(dtype));
  if (chunk_rows < 1 || row_bytes < 1 || row_bytes > kMostChunk / chunk_rows) {
    throw LogicError(path + ": chunks of " + std::to_string(chunk_rows) + " rows of shape " + shape_text(row_shape));
  }
  std::vector<hsize_t> now = {0}, most = {H5S_UNLIMITED}, chunk = {static_cast<hsize_t>(chunk_rows)};
  for (const std::int64_t extent : row_shape) {
    for (auto* list : {&now, &most, &chunk}) list->push_back(static_cast<hsize_t>(extent));
  }
  const Id space(H5Screate_simple(static_cast<int>(now.size()), now.data(), most.data()));
  const Id properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  if (dtype == Dtype::f32 || dtype == Dtype::f64 || dtype == Dtype::f16) {
    H5Pset_fill_value(properties.get(), H5T_IEEE_F64LE, &nan);
  }
  Dataset dataset = create_dataset(path, memory_type(dtype), space.get(), properties.get());
  if (dtype == Dtype::bf16) dataset.set_attribute("dtype", "bf16");
  return dataset;
}

}  // namespace ng::hdf5
