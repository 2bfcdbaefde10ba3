// SPDX-License-Identifier: Apache-2.0
//
// Claim: what the HDF5 layer writes it reads back bit for bit, and files grow, are cut and grow again.
// Alone: ctest --test-dir build -R unit_io_hdf5
#include <bit>
#include <cmath>

#include "io_hdf5_support.hpp"

namespace ng::hdf5 {
namespace {

using test::message_from;
using test::slurp;
using test::TempFolder;

constexpr Dtype kAll[] = {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64, Dtype::u8,  Dtype::u16,
                          Dtype::u32, Dtype::i8,   Dtype::i16, Dtype::i32, Dtype::i64, Dtype::u64};

TEST(Hdf5, TheSameContentGivesTheSameBytes) {
  const TempFolder folder;
  const auto write = [&](const std::string& name) {
    File file(folder / name, Mode::create);
    Group root = file.root();
    root.set_attribute("a", "text");
    (void)root.create("group/values", Array::from<float>({2}, std::vector<float>{1, 2}));
    root.create_growing("rows", Dtype::f64, {}).append(1.5);
    file.close();
    return slurp(folder / name);
  };
  const std::string first = write("first.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times are whole seconds
  EXPECT_EQ(first == write("second.h5"), true);
}

TEST(Hdf5, EveryDtypeComesBackBitForBit) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {7}, {0}, {3, 5}, {2, 3, 257}};
  {
    File file(path, Mode::create);
    Group root = file.root();
    for (const Dtype dtype : kAll) {
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        root.create(std::string(name_of(dtype)) + "/" + std::to_string(i), pattern(dtype, shapes[i]));
      }
    }
    file.close();
  }
  const File file(path, Mode::read);
  for (const Dtype dtype : kAll) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const std::string name = std::string(name_of(dtype)) + "/" + std::to_string(i);
      const Array read = file.root().read(name), written = pattern(dtype, shapes[i]);
      EXPECT_EQ(read.dtype, dtype) << name;
      EXPECT_EQ(read.shape, shapes[i]) << name;
      EXPECT_TRUE(read.data == written.data) << name;
      EXPECT_EQ(read.format, "") << name;
    }
  }
  EXPECT_EQ(file.root().datasets().size(), std::size(kAll) * shapes.size());
  EXPECT_EQ(file.root().group("f32").children().size(), shapes.size());
}

TEST(Hdf5, TextAttributesAndFormats) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    Group root = file.root();
    root.set_attribute("version", 3);
    root.set_attribute("version", 4);
    root.set_attribute("rate", 0.1);
    root.set_attribute("name", "zwölf");
    root.set_attribute("empty", "");
    const float values[] = {1.0f, -0.0f};
    root.set_attribute("table", Array::from<float>({2}, values));
    root.create_text("status", "running", 16);
    root.create_texts("record/site", {"layer.0/fc1", "b", ""});
    Array codes = pattern(Dtype::u8, {4, 4});
    codes.format = "e4m3";
    root.create("codes", codes);
    root.dataset("status").write_text("done");
    file.close();
  }
  const File file(path, Mode::read);
  const Group root = file.root();
  EXPECT_EQ(root.attribute_integer("version"), 4);
  EXPECT_EQ(root.attribute_number("rate"), 0.1);
  EXPECT_EQ(root.attribute_number("version"), 4.0);
  EXPECT_EQ(root.attribute_text("name"), "zwölf");
  EXPECT_EQ(root.attribute_text("empty"), "");
  EXPECT_TRUE(std::signbit(root.attribute_array("table").as<float>()[1]));
  EXPECT_EQ(root.attribute_names(), (std::vector<std::string>{"empty", "name", "rate", "table", "version"}));
  EXPECT_EQ(root.read_text("status"), "done");
  EXPECT_EQ(root.dataset("record/site").read_texts(), (std::vector<std::string>{"layer.0/fc1", "b", ""}));
  EXPECT_EQ(root.read("codes").format, "e4m3");
  EXPECT_NE(message_from([&] { root.read("codes").as_f32(); }).find("e4m3"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("status"); }).find("text"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("nothing"); }).find("record/site"), std::string::npos);
  EXPECT_NE(message_from([&] { root.read("record"); }).find("is a group"), std::string::npos);
  EXPECT_NE(message_from([&] { root.attribute_integer("name"); }).find("a.h5:/@name"), std::string::npos);
  EXPECT_THROW(root.attribute_text("missing"), UserError);
}

TEST(Hdf5, GrowsCutsAndGrowsAgain) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  {
    File file(path, Mode::create);
    Dataset loss = file.root().create_growing("train/loss", Dtype::f64, {});
    Dataset load = file.root().create_growing("moe/load", Dtype::u32, {2, 3});
    for (int step = 0; step < 100; ++step) {
      loss.append(step * 0.5);
      const std::vector<std::uint32_t> row(12, static_cast<std::uint32_t>(step));  // two rows at once
      load.append_rows(std::span<const std::uint32_t>(row));
    }
    EXPECT_EQ(loss.rows(), 100);
    EXPECT_THROW(loss.append(1.0f), LogicError);
    EXPECT_THROW(load.append(std::uint32_t{1}), LogicError);
    file.close();
    EXPECT_THROW(loss.append(1.0), LogicError);
  }
  {
    File file(path, Mode::read_write);
    Dataset loss = file.root().dataset("train/loss");
    loss.truncate_rows(41);
    EXPECT_THROW(loss.truncate_rows(42), LogicError);
    loss.append(-1.0);
    file.close();
  }
  const File file(path, Mode::read);
  const Array loss = file.root().read("/train/loss");
  ASSERT_EQ(loss.count(), 42);
  for (std::size_t i = 0; i < 41; ++i) EXPECT_EQ(loss.as<double>()[i], static_cast<double>(i) * 0.5);
  EXPECT_EQ(loss.as<double>()[41], -1.0);
  const Array rows = file.root().dataset("moe/load").read_rows(39, 2);
  EXPECT_EQ(rows.shape, (std::vector<std::int64_t>{2, 2, 3}));
  EXPECT_EQ(rows.as<std::uint32_t>()[0], 19u);
  EXPECT_EQ(rows.as<std::uint32_t>()[6], 20u);
  EXPECT_EQ(file.root().dataset("moe/load").read_rows(200, 0).count(), 0);
  EXPECT_THROW(file.root().dataset("moe/load").read_rows(199, 2), std::out_of_range);
  EXPECT_THROW(file.root().dataset("moe/load").truncate_rows(1), LogicError);
}

}  // namespace
}  // namespace ng::hdf5
