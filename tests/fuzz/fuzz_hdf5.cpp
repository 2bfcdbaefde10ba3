// SPDX-License-Identifier: Apache-2.0
//
// HDF5 within the bounds of our own checks. The library itself does not stand damaged files well, so raw bytes go only
// to the superblock code that we wrote; everything behind it gets files that the library made, of types, shapes,
// attributes and layouts that the input chooses.
#include <hdf5.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "fuzz_support.hpp"
#include "narrowgauge/io/hdf5.hpp"

namespace ng::fuzz {
namespace {

hid_t type_of(std::uint8_t choice) {
  const hid_t made[] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_U8LE,  H5T_STD_I8LE,  H5T_STD_U16LE,
                        H5T_STD_I16LE,  H5T_STD_U32LE,  H5T_STD_I32LE, H5T_STD_U64LE, H5T_STD_I64LE,
                        H5T_IEEE_F32BE, H5T_STD_U16BE,  H5T_STD_B8LE,  H5T_C_S1,      H5T_STD_REF_OBJ};
  hid_t type = H5Tcopy(made[choice % std::size(made)]);
  if ((choice & 0x80) != 0 && H5Tget_class(type) == H5T_STRING) {
    H5Tset_size(type, (choice & 0x40) != 0 ? H5T_VARIABLE : 5);
  } else if ((choice & 0x80) != 0 && H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 4) {  // half precision
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_ebias(type, 15);
    H5Tset_size(type, 2);
  } else if ((choice & 0x80) != 0 && H5Tget_class(type) == H5T_INTEGER) {
    H5Tset_precision(type, 3);  // fewer bits than bytes
  }
  return type;
}

hid_t space_of(Choices& choices) {
  const int rank = choices.next() % 6;
  if (rank == 5) return H5Screate(H5S_NULL);
  if (rank == 0) return H5Screate(H5S_SCALAR);
  hsize_t extents[4] = {};
  for (int d = 0; d < rank; ++d) {
    const std::uint8_t extent = choices.next();
    extents[d] = extent < 250 ? extent % 5 : hsize_t{1} << (extent - 245) * 6;  // up to 2^60: never allocated
  }
  return H5Screate_simple(rank, extents, nullptr);
}

// One dataset or group with attributes, never written to: reading gives fill values.
void add_object(hid_t file, const std::string& name, Choices& choices) {
  const hid_t type = type_of(choices.next()), space = space_of(choices);
  const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
  if (choices.next() % 3 == 0) H5Pset_layout(layout, H5D_COMPACT);
  hid_t object = H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  if (object < 0) object = H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  const char* const names[] = {"dtype", "element", "rows", "scale_format"};
  for (int n = choices.next() % 4; n > 0; --n) {
    const hid_t attribute_type = type_of(choices.next()), attribute_space = space_of(choices);
    const hid_t attribute =
        H5Acreate2(object, names[choices.next() % 4], attribute_type, attribute_space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0) {
      if (H5Tis_variable_str(attribute_type) == 0 && H5Sget_simple_extent_npoints(attribute_space) == 1) {
        char value[8] = {};
        for (char& c : value) c = static_cast<char>(choices.next());
        H5Awrite(attribute, attribute_type, value);
      }
      H5Aclose(attribute);
    }
    H5Sclose(attribute_space);
    H5Tclose(attribute_type);
  }
  H5Oclose(object);
  H5Pclose(layout);
  H5Sclose(space);
  H5Tclose(type);
}

void read_attributes(const ng::hdf5::Location& at) {
  for (const std::string& name : at.attribute_names()) {
    accepted([&] { (void)at.attribute_text(name); });
    accepted([&] { (void)at.attribute_integer(name); });
    accepted([&] { (void)at.attribute_number(name); });
    accepted([&] { (void)at.attribute_array(name); });
  }
}

void read_all(const std::string& path) {
  const ng::hdf5::File file(path, ng::hdf5::Mode::read);
  const ng::hdf5::Group root = file.root();
  read_attributes(root);
  for (const std::string& name : root.children()) {
    if (root.kind(name) == ng::hdf5::Kind::group) accepted([&] { read_attributes(root.group(name)); });
    accepted([&] {
      const ng::hdf5::Dataset dataset = root.dataset(name);
      read_attributes(dataset);
      accepted([&] { (void)dataset.dtype(); });
      accepted([&] { (void)dataset.read_texts(); });
      accepted([&] { (void)dataset.read_text(); });
      accepted([&] {
        const Array array = dataset.read();
        promise(checked_bytes(array.shape, size_of(array.dtype)) == static_cast<std::int64_t>(array.data.size()),
                "an array holds what its shape says");
        accepted([&] { (void)array.as_f32(); });
        if (!array.shape.empty()) {
          const Array rows = dataset.read_rows(array.shape[0] / 2, array.shape[0] - array.shape[0] / 2);
          promise(rows.data.size() <= array.data.size() &&
                      std::equal(rows.data.rbegin(), rows.data.rend(), array.data.rbegin()),
                  "rows are those of the whole");
        }
      });
    });
  }
}

}  // namespace

void hdf5(Bytes input) {
  const std::string raw = file_with("raw.h5", input);
  accepted([&] { (void)ng::hdf5::marked_as_open(raw); });
  accepted([&] { ng::hdf5::clear_open_mark(raw); });

  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const std::string path = file_with("made.h5", {});
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  promise(file >= 0, "HDF5 can make a file");
  Choices choices(input);
  for (int i = 0; i < 4 && !choices.empty(); ++i) add_object(file, "object" + std::to_string(i), choices);
  H5Fclose(file);
  accepted([&] { read_all(path); });
}

}  // namespace ng::fuzz
