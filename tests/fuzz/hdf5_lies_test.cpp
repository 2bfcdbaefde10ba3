// SPDX-License-Identifier: Apache-2.0
//
// Claim: an HDF5 file that lies (extents that it cannot hold, types that are no numbers, chunks that were cut off) is
// refused with a UserError or read as far as it is true, and costs less than 160 MB of memory, whatever it promises.
// Alone: build/release/bin/hdf5_lies
#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>

#include <filesystem>
#include <string>
#include <vector>

#include "fuzz_support.hpp"
#include "narrowgauge/io/hdf5.hpp"

namespace ng::fuzz {
namespace {

/// Peak of this process so far, in bytes.
std::size_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

struct Lie {
  std::string name;
  std::vector<hsize_t> extents;
  std::vector<hsize_t> chunk;  ///< empty: contiguous
  bool deflate = false;
};

/// A file with dataset "x" of FP32 that holds nothing of what its extents say.
std::string file_of(const Lie& lie) {
  std::string path = file_with(lie.name + ".h5", {});
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(lie.extents.size()), lie.extents.data(), nullptr);
  const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
  if (!lie.chunk.empty()) H5Pset_chunk(layout, static_cast<int>(lie.chunk.size()), lie.chunk.data());
  if (lie.deflate) H5Pset_deflate(layout, 9);
  const hid_t dataset = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  EXPECT_GE(dataset, 0) << lie.name;
  H5Dclose(dataset);
  H5Pclose(layout);
  H5Sclose(space);
  H5Fclose(file);
  return path;
}

/// The message of the UserError; empty when everything was read.
std::string refusal(const std::string& path) {
  try {
    const ng::hdf5::File file(path, ng::hdf5::Mode::read);
    (void)file.root().read("x").as_f32();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Hdf5Lies, AbsurdExtentsAreRefusedWithoutMemory) {
  const std::size_t before = peak_memory();
  const hsize_t big = hsize_t{1} << 40;
  const Lie lies[] = {{"contiguous", {big, 1024}, {}, false},
                      {"chunked", {big, 1024}, {64, 1024}, false},
                      {"deflated", {big, 1024}, {64, 1024}, true},
                      {"overflow", {hsize_t{1} << 31, hsize_t{1} << 31, 4}, {1, 1, 4}, false},
                      {"deep", {2, 2, 2, 2, 2, 2, 2, big}, {1, 1, 1, 1, 1, 1, 1, 4}, false}};
  for (const Lie& lie : lies) {
    const std::string why = refusal(file_of(lie));
    EXPECT_NE(why.find("claims the shape"), std::string::npos) << lie.name << ": " << why;
    EXPECT_NE(why.find("x"), std::string::npos) << why;
  }
  EXPECT_LT(peak_memory() - before, std::size_t{160} << 20);
}

TEST(Hdf5Lies, TypesThatAreNoNumbersAreRefused) {
  const std::string path = file_with("types.h5", {});
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t extents[] = {4, 8};
  const hid_t space = H5Screate_simple(2, extents, nullptr);
  const hid_t pair = H5Tcreate(H5T_COMPOUND, 8);
  H5Tinsert(pair, "re", 0, H5T_NATIVE_FLOAT);
  H5Tinsert(pair, "im", 4, H5T_NATIVE_FLOAT);
  const hsize_t three[] = {3};
  const hid_t list = H5Tarray_create2(H5T_NATIVE_FLOAT, 1, three), many = H5Tvlen_create(H5T_NATIVE_FLOAT);
  const hid_t blob = H5Tcreate(H5T_OPAQUE, 16), choice = H5Tenum_create(H5T_NATIVE_INT), text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, H5T_VARIABLE);
  const std::pair<const char*, hid_t> types[] = {{"compound", pair},
                                                 {"array", list},
                                                 {"sequence", many},
                                                 {"opaque", blob},
                                                 {"enum", choice},
                                                 {"text", text},
                                                 {"reference", H5T_STD_REF_OBJ}};
  for (const auto& [name, type] : types)
    H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  for (const hid_t type : {pair, list, many, blob, choice, text}) H5Tclose(type);
  H5Sclose(space);
  H5Fclose(file);
  const ng::hdf5::File opened(path, ng::hdf5::Mode::read);
  for (const auto& entry : types) {
    try {
      (void)opened.root().read(entry.first).as_f32();
      ADD_FAILURE() << entry.first << " was read as numbers";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(entry.first), std::string::npos) << error.what();
    }
  }
}

TEST(Hdf5Lies, CutChunksAreRefused) {
  const std::string path = file_with("cut.h5", {});
  const hsize_t extents[] = {4096, 64}, chunk[] = {64, 64};
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(2, extents, nullptr), layout = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(layout, 2, chunk);
  const hid_t dataset = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  const std::vector<float> values(4096 * 64, 1.5F);
  EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  H5Dclose(dataset);
  H5Pclose(layout);
  H5Sclose(space);
  H5Fclose(file);
  EXPECT_EQ(refusal(path), "") << "whole, it is read";
  const std::size_t size = std::filesystem::file_size(path);
  const std::size_t before = peak_memory();
  for (const std::size_t kept : {size - 1, size / 2, size / 16, std::size_t{600}, std::size_t{96}, std::size_t{8}}) {
    std::filesystem::resize_file(path, kept);
    const std::string why = refusal(path);
    EXPECT_NE(why.find("cut.h5"), std::string::npos) << kept << " bytes left: " << why;
  }
  EXPECT_LT(peak_memory() - before, std::size_t{160} << 20);
}

}  // namespace
}  // namespace ng::fuzz
