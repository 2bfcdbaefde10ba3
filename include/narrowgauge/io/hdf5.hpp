// SPDX-License-Identifier: Apache-2.0
//
// A small RAII layer over the HDF5 C API (1.10 and later, file bounds V110): files, groups, datasets that grow,
// attributes, SWMR, and the recovery of a file whose writer was killed. Every call is serialized by one lock.
//
// Errors, always one message with file and object: UserError for what a file holds or lacks (missing, truncated,
// not HDF5, wrong type or shape, written by another process), MachineError for a failed write (full disk).
// Destructors never throw; after a failed write the file is closed without another word and its content is void.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/io/array.hpp"

namespace ng::hdf5 {

enum class Mode {
  read,        // a closed file; one being written in SWMR mode, or left so by a killed writer, as it stands
  read_write,  // for going on: clears the flag of a killed writer; refuses a file with a living one
  create,      // new file; an old one of that name is replaced
};

enum class Kind { none, group, dataset };

namespace detail {
struct FileState;

// Reference-counted HDF5 identifier.
class Id {
 public:
  Id() = default;
  explicit Id(std::int64_t id) : id_(id) {}
  Id(const Id& other);
  Id(Id&& other) noexcept : id_(other.id_) { other.id_ = -1; }
  Id& operator=(Id other) noexcept;
  ~Id();
  std::int64_t get() const { return id_; }
  void forget() { id_ = -1; }  // without closing

 private:
  std::int64_t id_ = -1;
};
}  // namespace detail

// What groups and datasets share: a name for messages and attributes. Attributes must not change under SWMR.
class Location {
 public:
  std::string label() const;                         // "run.h5:/train/loss"
  const std::string& path() const { return path_; }  // "/train/loss"

  bool has_attribute(const std::string& name) const;
  std::vector<std::string> attribute_names() const;

  std::string attribute_text(const std::string& name) const;  // fixed or variable length
  std::int64_t attribute_integer(const std::string& name) const;
  double attribute_number(const std::string& name) const;  // integer or floating
  Array attribute_array(const std::string& name) const;    // numeric, any rank

  // Replace the attribute if it is there.
  void set_attribute(const std::string& name, std::string_view text);
  void set_attribute(const std::string& name, const char* text) { set_attribute(name, std::string_view(text)); }
  void set_attribute(const std::string& name, const Array& values);
  template <std::integral T>
  void set_attribute(const std::string& name, T value) {
    set_integer(name, static_cast<std::int64_t>(value));
  }
  template <std::floating_point T>
  void set_attribute(const std::string& name, T value) {
    set_number(name, static_cast<double>(value));
  }

 protected:
  Location() = default;
  Location(const Location&) = default;
  Location(Location&&) = default;
  Location& operator=(const Location& other);
  Location& operator=(Location&& other);
  ~Location();
  void release() noexcept;
  void set_integer(const std::string& name, std::int64_t value);
  void set_number(const std::string& name, double value);

  std::shared_ptr<detail::FileState> file_;
  detail::Id id_;
  std::string path_;  // absolute
};

class Dataset : public Location {
 public:
  Dtype dtype() const;                      // UserError for text and types without a Dtype
  std::vector<std::int64_t> shape() const;  // as of the last open, append or refresh
  std::int64_t rows() const;                // first dimension; 1 for a scalar
  bool is_text() const;

  // Whole dataset; u16 with attribute dtype="bf16" comes as bf16, other values of that attribute as `format`.
  Array read() const;
  // Rows [first, first + count) of the leading dimension.
  Array read_rows(std::int64_t first, std::int64_t count) const;

  std::string read_text() const;                // scalar string
  std::vector<std::string> read_texts() const;  // any rank, flattened

  // Overwrite all elements (the same shape). Allowed under SWMR.
  void write(Dtype dtype, std::span<const std::byte> bytes);
  // Overwrite a scalar text; Text longer than its capacity is a std::logic_error.
  void write_text(std::string_view text);

  // Grow the leading dimension. bytes: whole rows of the dataset's own dtype. Allowed under SWMR.
  void append_bytes(Dtype dtype, std::span<const std::byte> bytes);
  template <class T>
  void append_rows(std::span<const T> values) {
    append_bytes(dtype_of<T>(), std::as_bytes(values));
  }
  template <class T>
  void append(T value) {
    append_rows(std::span<const T>(&value, 1));
  }

  // Shrink the leading dimension to n rows. Not under SWMR (readers may stand in the rows cut off).
  void truncate_rows(std::int64_t n);

  void refresh();  // see what a SWMR writer has added since
  void flush();

 private:
  friend class Group;
  Dataset() = default;
  Array read_block(std::int64_t first, std::int64_t count) const;  // count < 0: everything
};

class Group : public Location {
 public:
  // Paths below are relative to this group ("loss", "train/loss") or absolute.
  Kind kind(const std::string& path) const;
  bool exists(const std::string& path) const { return kind(path) != Kind::none; }
  std::vector<std::string> children() const;  // by name
  std::vector<std::string> datasets() const;  // all below, as paths from here, by name

  Group group(const std::string& path) const;      // UserError lists what is there
  Dataset dataset(const std::string& path) const;  // UserError lists what is there

  Group create_group(const std::string& path);  // with its parents; opens it if it is there

  // Fixed size, contiguous, written at once. bf16 is stored as u16 with attribute dtype = "bf16", a nonempty
  // `format` as attribute dtype. Parents are created. std::logic_error when the name is taken.
  Dataset create(const std::string& path, const Array& array);
  // Scalar text of fixed length: `capacity` bytes, at least the text's own.
  Dataset create_text(const std::string& path, std::string_view text, std::size_t capacity = 0);
  // 1-D fixed-length strings.
  Dataset create_texts(const std::string& path, const std::vector<std::string>& texts);
  // Zero rows of `row_shape` each (empty: numbers), growing, chunks of `chunk_rows`; unwritten floats are NaN.
  Dataset create_growing(const std::string& path, Dtype dtype, const std::vector<std::int64_t>& row_shape,
                         std::int64_t chunk_rows = 16);

  Array read(const std::string& path) const { return dataset(path).read(); }
  std::string read_text(const std::string& path) const { return dataset(path).read_text(); }

 private:
  friend class File;
  Group() = default;
  std::string absolute(const std::string& path) const;
  void require_creatable(const std::string& name) const;
  Dataset create_dataset(const std::string& path, std::int64_t type, std::int64_t space, std::int64_t properties);
};

class File {
 public:
  File(const std::string& path, Mode mode);
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();  // closes, silently

  const std::string& path() const;
  Group root() const;

  // From here on readers may follow; no object and no attribute may be created any more.
  void start_swmr_write();
  // Everything written so far reaches the operating system. MachineError.
  void flush();
  // Flush and close; every Group and Dataset of this file is closed too. MachineError.
  void close();
  // After rename(2) of the open file: the name used in messages from now on.
  void renamed(const std::string& path);

 private:
  std::shared_ptr<detail::FileState> state_;
};

// True if the file's flags say that a writer has it open, or had when it was killed. UserError: not HDF5.
bool marked_as_open(const std::string& path);

// Clears that mark (what `h5clear -s` does) and repairs the recorded length after a kill. Mode::read_write does
// it by itself. UserError when another process of ours is writing the file.
void clear_open_mark(const std::string& path);

}  // namespace ng::hdf5
