// SPDX-License-Identifier: Apache-2.0
//
// The guard around the HDF5 library, its error stack as one sentence, and the mapping of its types.
#include <algorithm>
#include <cstring>

#include "hdf5_internal.hpp"
#include "io_common.hpp"

namespace ng::hdf5 {

namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

herr_t collect(unsigned, const H5E_error2_t* entry, void* data) {
  if (entry->desc != nullptr) static_cast<std::vector<std::string>*>(data)->emplace_back(entry->desc);
  return 0;
}

}  // namespace

Call::Call() : lock_(library_mutex()) {
  // Without this the library would, at exit, try again to flush files whose disk was full.
  // It must come first; where other code has used the library already, its exit handler stays.
  static const bool ready = (H5dont_atexit(), H5open() >= 0);
  if (!ready) throw MachineError("the HDF5 library does not start");
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // kept per thread
  H5Eclear2(H5E_DEFAULT);
}

std::string library_reason() {
  std::vector<std::string> lines;  // innermost first
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect, &lines);
  static constexpr std::string_view kSystem = "error message = '";
  for (const std::string& line : lines) {
    const std::size_t at = line.find(kSystem);
    if (at == std::string::npos) continue;
    const std::size_t begin = at + kSystem.size();
    return line.substr(begin, line.find('\'', begin) - begin);
  }
  return lines.empty() ? "unknown HDF5 error" : lines.front();
}

namespace detail {

Id::Id(const Id& other) : id_(other.id_) {
  const Call call;
  if (id_ >= 0) H5Iinc_ref(id_);
}

Id& Id::operator=(Id other) noexcept {
  std::swap(id_, other.id_);
  return *this;
}

Id::~Id() {
  if (id_ < 0) return;
  const Call call;
  if (H5Iis_valid(id_) > 0) H5Idec_ref(id_);
}

}  // namespace detail

void require_open(const detail::FileState& file, const std::string& object) {
  if (file.id < 0) throw LogicError(file.path + ":" + object + " is used after its file was closed");
}

void require_writable(const detail::FileState& file, const std::string& object) {
  require_open(file, object);
  if (file.mode == Mode::read) throw LogicError(file.path + ":" + object + " is open for reading only");
  if (file.failed) throw MachineError(file.path + ": an earlier write failed; the file cannot be continued");
}

void throw_unreadable(const detail::FileState& file, const std::string& object) {
  throw UserError(file.path + ":" + object + " cannot be read: " + library_reason());
}

void throw_unwritable(detail::FileState& file, const std::string& object) {
  const std::string reason = library_reason();
  file.give_up();
  throw MachineError(file.path + ":" + object + " cannot be written: " + reason);
}

hid_t half_type() {
  static const hid_t type = [] {
    const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    return half;
  }();
  return type;
}

hid_t memory_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return H5T_IEEE_F32LE;
    case Dtype::f64:
      return H5T_IEEE_F64LE;
    case Dtype::f16:
      return half_type();
    case Dtype::u8:
      return H5T_STD_U8LE;
    case Dtype::bf16:
    case Dtype::u16:
      return H5T_STD_U16LE;
    case Dtype::u32:
      return H5T_STD_U32LE;
    case Dtype::u64:
      return H5T_STD_U64LE;
    case Dtype::i8:
      return H5T_STD_I8LE;
    case Dtype::i16:
      return H5T_STD_I16LE;
    case Dtype::i32:
      return H5T_STD_I32LE;
    case Dtype::i64:
      return H5T_STD_I64LE;
  }
  throw LogicError("a Dtype that does not exist");
}

TypeInfo describe_type(hid_t type) {
  TypeInfo info;
  info.size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_STRING:
      info.kind = TypeInfo::Class::text;
      info.variable_length = H5Tis_variable_str(type) > 0;
      info.description = "text";
      return info;
    case H5T_INTEGER: {
      const Dtype all[] = {Dtype::u8, Dtype::u16, Dtype::u32, Dtype::u64,
                           Dtype::i8, Dtype::i16, Dtype::i32, Dtype::i64};
      const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
      info.description = "an unusual integer type";
      if (H5Tget_precision(type) != 8 * info.size) return info;
      for (const Dtype dtype : all) {
        if (size_of(dtype) == info.size && (name_of(dtype)[0] == 'i') == is_signed) {
          info.kind = TypeInfo::Class::number;
          info.dtype = dtype;
          info.description = name_of(dtype);
        }
      }
      return info;
    }
    case H5T_FLOAT: {
      std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
      H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits);
      const std::size_t bias = H5Tget_ebias(type);
      struct Layout {
        std::size_t size, exponent_bits, mantissa_bits, bias;
        Dtype dtype;
      };
      const Layout layouts[] = {{4, 8, 23, 127, Dtype::f32}, {2, 5, 10, 15, Dtype::f16}, {8, 11, 52, 1023, Dtype::f64}};
      info.description = "an unusual floating-point type of " + std::to_string(info.size) + " bytes";
      for (const Layout& l : layouts) {
        if (l.size == info.size && l.exponent_bits == exponent_bits && l.mantissa_bits == mantissa_bits &&
            l.bias == bias && mantissa == 0 && exponent == mantissa_bits && sign == 8 * l.size - 1 &&
            H5Tget_norm(type) == H5T_NORM_IMPLIED) {
          info.kind = TypeInfo::Class::number;
          info.dtype = l.dtype;
          info.description = name_of(l.dtype);
        }
      }
      return info;
    }
    case H5T_ENUM:
      info.description = "an enumeration (as h5py writes booleans)";
      return info;
    case H5T_COMPOUND:
      info.description = "a compound type";
      return info;
    case H5T_REFERENCE:
      info.description = "references";
      return info;
    case H5T_VLEN:
      info.description = "lists of varying length";
      return info;
    case H5T_ARRAY:
      info.description = "an array type";
      return info;
    default:
      info.description = "a type without a name here";
      return info;
  }
}

Id text_type(std::size_t size) {
  Id type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<std::size_t>(size, 1));
  H5Tset_strpad(type.get(), size == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

std::string trimmed(const char* text, std::size_t size) {
  return std::string(text, ::strnlen(text, size));
}

std::vector<std::int64_t> shape_of_space(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank <= 0) return {};
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  return {extents.begin(), extents.end()};
}

std::size_t believable_bytes(const detail::FileState& file, const std::string& object,
                             std::span<const std::int64_t> shape, std::size_t size) {
  // deflate at its best makes 1032 bytes out of one; small arrays that were never written take no space at all.
  constexpr std::uint64_t kBestCompression = 1100, kAlways = std::uint64_t{1} << 26;
  const std::int64_t bytes = checked_bytes(shape, size);
  const std::uint64_t limit = kAlways + kBestCompression * io::file_size(file.path);
  if (bytes < 0 || static_cast<std::uint64_t>(bytes) > limit) {
    throw UserError(file.path + ":" + object + " claims the shape " + shape_text(shape) +
                    ", more than a file of this size can hold");
  }
  return static_cast<std::size_t>(bytes);
}

}  // namespace ng::hdf5
