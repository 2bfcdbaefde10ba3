// SPDX-License-Identifier: Apache-2.0
//
// Claim: no damaged or foreign file does worse than a UserError.
// Alone: ctest --test-dir build -R unit_io_hdf5
#include <hdf5.h>

#include <random>

#include "io_hdf5_support.hpp"

// With the leak sanitizer: the library does not free all it allocated when a file is damaged or cannot be created.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:H5FL_\nleak:H5MM_\n";
}
extern "C" const char* __lsan_default_options();
extern "C" const char* __lsan_default_options() {
  return "print_suppressions=0";
}

namespace ng::hdf5 {
namespace {

using test::message_from;
using test::TempFolder;

TEST(Hdf5, TruncatedFiles) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    file.root().create("x", pattern(Dtype::f32, {16, 16}));
    Dataset loss = file.root().create_growing("train/loss", Dtype::f32, {});
    for (int i = 0; i < 200; ++i) loss.append(1.0f);
    file.root().create_text("status", "done");
    file.close();
  }
  const auto read = [](const std::string& name) {
    const File file(name, Mode::read);
    for (const std::string& dataset : file.root().datasets()) {
      if (file.root().dataset(dataset).is_text())
        file.root().read_text(dataset);
      else
        file.root().read(dataset);
    }
  };
  read(path);
  EXPECT_GT(test::sweep_truncations(path, read), 30);
  // The same with the mark of a killed writer, where the length says nothing: a message or what is left, no crash.
  std::string whole = test::slurp(path);
  ASSERT_EQ(whole[8], 3);
  const std::string cut = folder / "cut.h5", marked = folder / "marked.h5";
  in_child([&] {
    File file(marked, Mode::create);
    Dataset loss = file.root().create_growing("loss", Dtype::f32, {});
    file.start_swmr_write();
    for (int i = 0; i < 200; ++i) loss.append(1.0f);
    file.flush();
    ::kill(::getpid(), SIGKILL);
  });
  whole = test::slurp(marked);
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    test::spill(cut, whole.substr(0, length));
    const int status = in_child([&] {
      try {
        File(cut, Mode::read).root().read("loss");
      } catch (const UserError&) {
      }
      try {
        File file(cut, Mode::read_write);
        file.root().dataset("loss").append(1.0f);
        file.close();
      } catch (const UserError&) {
      } catch (const MachineError&) {
      }
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << length;
  }
}

TEST(Hdf5, DamagedBytesGiveAMessageOrValues) {
  const TempFolder folder;
  const std::string path = folder / "a.h5", bad = folder / "bad.h5";
  {
    File file(path, Mode::create);
    file.root().create("x", pattern(Dtype::f32, {8, 8}));
    file.root().create_growing("loss", Dtype::f32, {}).append(1.0f);
    file.root().set_attribute("version", 1);
    file.close();
  }
  const std::string whole = test::slurp(path);
  for (std::size_t at = 0; at < std::min<std::size_t>(whole.size(), 1500); at += 3) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    test::spill(bad, damaged);
    try {
      const File file(bad, Mode::read);
      for (const std::string& dataset : file.root().datasets()) file.root().read(dataset);
    } catch (const UserError&) {
    }
  }
}

// Made with the library itself: what other programs put into files and ours does not.
TEST(Hdf5, FilesOfOthers) {
  const TempFolder folder;
  const std::string path = folder / "theirs.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);  // an old superblock
  const hsize_t three = 3, huge = hsize_t{1} << 34;
  const hid_t scalar = H5Screate(H5S_SCALAR), vector = H5Screate_simple(1, &three, nullptr);
  const hid_t vast = H5Screate_simple(1, &huge, nullptr), null = H5Screate(H5S_NULL);
  const auto create = [&](const char* name, hid_t type, hid_t space, const void* data) {
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_GE(dataset, 0) << name;
    if (data != nullptr) {
      ASSERT_GE(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), 0) << name;
    }
    H5Dclose(dataset);
  };
  const hid_t variable = H5Tcopy(H5T_C_S1);
  H5Tset_size(variable, H5T_VARIABLE);
  const char* words[] = {"one", "", "drei"};
  create("words", variable, vector, words);
  create("word", variable, scalar, words);
  const unsigned char big_endian[] = {0x3F, 0x80, 0x00, 0x00, 0x7F, 0xC0, 0x00, 0x01, 0x80, 0x00, 0x00, 0x00};
  create("big_endian", H5T_IEEE_F32BE, vector, big_endian);
  const hid_t choice = H5Tenum_create(H5T_NATIVE_INT8);
  const signed char yes = 1;
  H5Tenum_insert(choice, "TRUE", &yes);
  create("choice", choice, scalar, &yes);
  create("huge", H5T_IEEE_F32LE, vast, nullptr);
  create("null", H5T_IEEE_F32LE, null, nullptr);
  H5Lcreate_external("/etc/passwd", "/", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/nowhere", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/big_endian", file, "alias", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
  for (const hid_t space : {scalar, vector, vast, null}) H5Sclose(space);
  for (const hid_t type : {variable, choice}) H5Tclose(type);
  H5Fclose(file);

  const File ours(path, Mode::read);
  const Group root = ours.root();
  EXPECT_EQ(root.dataset("words").read_texts(), (std::vector<std::string>{"one", "", "drei"}));
  EXPECT_EQ(root.read_text("word"), "one");
  const Array floats = root.read("alias");
  EXPECT_EQ(floats.as<float>()[0], 1.0f);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(floats.as<float>()[1]), 0x7FC00001u);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(floats.as<float>()[2]), 0x80000000u);
  EXPECT_NE(message_from([&] { root.read("choice"); }).find("enumeration"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("huge"); }).find("more than a file"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("null"); }).find("without a shape"), std::string::npos);
  EXPECT_EQ(root.kind("outside"), Kind::none);
  EXPECT_EQ(root.kind("dangling"), Kind::none);
  EXPECT_EQ(root.kind("loop"), Kind::group);
  EXPECT_FALSE(root.datasets().empty());
}

TEST(Hdf5, MissingForeignAndForbiddenFiles) {
  const TempFolder folder;
  EXPECT_NE(message_from([&] { File(folder / "none.h5", Mode::read); }).find("none.h5"), std::string::npos);
  test::spill(folder / "text.h5", std::string(5000, 'x'));
  EXPECT_NE(message_from([&] { File(folder / "text.h5", Mode::read); }).find("not an HDF5 file"), std::string::npos);
  EXPECT_NE(message_from([&] { File(folder / "text.h5", Mode::read_write); }).find("not an HDF5 file"),
            std::string::npos);
  std::filesystem::create_directory(folder / "dir.h5");
  EXPECT_THROW(File(folder / "dir.h5", Mode::read), UserError);
  EXPECT_THROW(File(folder / "no/such/folder.h5", Mode::create), UserError);
  EXPECT_THROW(File(folder / "dir.h5", Mode::create), UserError);
}

}  // namespace
}  // namespace ng::hdf5
