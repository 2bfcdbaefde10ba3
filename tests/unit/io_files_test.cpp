// SPDX-License-Identifier: Apache-2.0
//
// Claim: npy and safetensors files come back bit for bit in every type and order, files made by NumPy and by the
// safetensors library's rules are read, and a cut or damaged file gives a UserError that names it.
// Alone: ctest --test-dir build -R unit_io_files
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <cmath>

#include "io_support.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/io/safetensors.hpp"

namespace ng {
namespace {

using test::message_from;
using test::TempFolder;

constexpr Dtype kAll[] = {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64, Dtype::u8,  Dtype::u16,
                          Dtype::u32, Dtype::i8,   Dtype::i16, Dtype::i32, Dtype::i64, Dtype::u64};

Array pattern(Dtype dtype, std::vector<std::int64_t> shape) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(checked_bytes(shape, size_of(dtype))));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 167 + i / 256) & 0xFF);
  return Array::from_bytes(dtype, std::move(shape), bytes);
}

Array from_floats(std::vector<std::int64_t> shape, std::vector<float> values) {
  return Array::from<float>(std::move(shape), std::span<const float>(values));
}

// FP16 by its definition, in double.
double half_value(std::uint32_t code) {
  const int exponent = static_cast<int>(code >> 10 & 31), mantissa = static_cast<int>(code & 1023);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return code & 0x8000u ? -magnitude : magnitude;
}

TEST(Array, WidensEveryHalfExactly) {
  std::vector<std::uint16_t> codes(65536);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint16_t>(i);
  const std::vector<float> f16 = Array::from_bytes(Dtype::f16, {65536}, std::as_bytes(std::span(codes))).as_f32();
  const std::vector<float> bf16 = Array::from_bytes(Dtype::bf16, {65536}, std::as_bytes(std::span(codes))).as_f32();
  for (std::uint32_t i = 0; i < 65536; ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16[i]), i << 16);
    if ((i >> 10 & 31) != 31) {
      ASSERT_EQ(static_cast<double>(f16[i]), half_value(i)) << i;
      ASSERT_EQ(std::signbit(f16[i]), (i & 0x8000u) != 0) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(f16[i]), (i & 0x8000u) << 16 | 0x7F800000u | (i & 1023u) << 13) << i;
    }
  }
}

TEST(Array, ViewsAndRefusals) {
  EXPECT_EQ(pattern(Dtype::u8, {2, 3, 4}).rows(), 6);
  EXPECT_EQ(pattern(Dtype::u8, {2, 3, 4}).cols(), 4);
  EXPECT_EQ(pattern(Dtype::u8, {5}).rows(), 1);
  EXPECT_EQ(pattern(Dtype::u8, {}).rows(), 1);
  EXPECT_EQ(pattern(Dtype::u8, {}).cols(), 1);
  Array wide = pattern(Dtype::f64, {2});
  wide.origin = "w.npy";
  const std::string message = message_from([&] { wide.as_f32(); });
  EXPECT_NE(message.find("w.npy"), std::string::npos);
  EXPECT_NE(message.find("f32, f16 and bf16"), std::string::npos);
  EXPECT_THROW(pattern(Dtype::i32, {2}).as_f32(), UserError);
  EXPECT_THROW(wide.as<float>(), UserError);
  EXPECT_THROW(Array::from_bytes(Dtype::f32, {3}, {}), LogicError);
  const std::int64_t large[] = {std::int64_t{1} << 31, std::int64_t{1} << 31, 4}, negative[] = {-1};
  EXPECT_EQ(checked_bytes(large, 4), -1);
  EXPECT_EQ(checked_bytes(negative, 4), -1);
}

TEST(Npy, RoundTripsEveryTypeShapeAndOrder) {
  const TempFolder folder;
  for (const Dtype dtype : kAll) {
    if (dtype == Dtype::bf16) {
      EXPECT_THROW(write_npy(folder / "b.npy", pattern(dtype, {2})), UserError);
      continue;
    }
    for (const auto& shape :
         std::vector<std::vector<std::int64_t>>{{}, {5}, {0}, {3, 4}, {2, 3, 5}, {4, 0, 2}, {1, 1, 1, 7}}) {
      for (const NpyOrder order : {NpyOrder::c, NpyOrder::fortran}) {
        const Array written = pattern(dtype, shape);
        write_npy(folder / "a.npy", written, order);
        const Array read = read_npy(folder / "a.npy");
        EXPECT_EQ(read.dtype, dtype);
        EXPECT_EQ(read.shape, shape);
        EXPECT_TRUE(read.data == written.data) << name_of(dtype) << shape_text(shape);
      }
    }
  }
}

std::string npy(const std::string& version, const std::string& dict, const std::string& data) {
  std::string text = "\x93NUMPY" + version;
  for (std::size_t i = 0; i < (version[0] == 1 ? 2u : 4u); ++i)
    text += static_cast<char>(dict.size() >> (8 * i) & 0xFF);
  return text + dict + data;
}

TEST(Npy, ReadsWhatNumpyWrites) {
  const TempFolder folder;
  const std::string path = folder / "a.npy",
                    data("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc0\x40", 24);
  // numpy.save of np.arange(1, 7, dtype='f4').reshape(2, 3), versions 1.0, 2.0 and 3.0.
  const std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + std::string(58, ' ') + "\n";
  for (const char major : {'\1', '\2', '\3'}) {
    test::spill(path, npy(std::string{major, '\0'}, dict, data));
    const Array read = read_npy(path);
    EXPECT_EQ(read.shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(read.as_f32(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  }
  // The same bytes in Fortran order are the columns.
  test::spill(path, npy(std::string("\1\0", 2), "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", data));
  EXPECT_EQ(read_npy(path).as_f32(), (std::vector<float>{1, 3, 5, 2, 4, 6}));
}

TEST(Npy, TruncatedAndDamaged) {
  const TempFolder folder;
  const std::string path = folder / "a.npy";
  write_npy(path, pattern(Dtype::f32, {13, 17}));
  EXPECT_GT(test::sweep_truncations(path, [](const std::string& name) { read_npy(name); }), 10);
  const std::string v1("\1\0", 2), f4(4, 'x');
  const std::pair<std::string, std::string> bad[] = {
      {npy(std::string("\4\0", 2), "{}", ""), "version 4.0"},
      {npy(v1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", f4), "big endian"},
      {npy(v1, "{'descr': '<V2', 'fortran_order': False, 'shape': (2,)}", f4), "bfloat16"},
      {npy(v1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", f4), "'|O'"},
      {npy(v1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", f4), "structured"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", f4), "extent"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296)}", f4),
       "truncated"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", f4), "too large"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", f4), "truncated"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", f4 + "x"), "after the data"},
      {npy(v1, "{'descr': '<f4', 'shape': (1,)}", f4), "missing"},
      {npy(v1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", f4), "repeated"},
      {npy(v1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", f4), "after the dict"},
      {"hello", "not an npy file"},
  };
  for (const auto& [content, expected] : bad) {
    test::spill(path, content);
    const std::string message = message_from([&] { read_npy(path); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_NE(message.find(path), std::string::npos) << message;
  }
}

std::string safetensors(const std::string& header, const std::string& data) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i) & 0xFF);
  return text + header + data;
}

TEST(Safetensors, RoundTripsEveryType) {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  std::vector<std::pair<std::string, Array>> tensors;
  for (const Dtype dtype : kAll) tensors.emplace_back("layer/" + std::string(name_of(dtype)), pattern(dtype, {3, 5}));
  tensors.emplace_back("scalar", pattern(Dtype::f32, {}));
  tensors.emplace_back("empty", pattern(Dtype::f32, {0, 4}));
  Array codes = pattern(Dtype::u8, {16});
  for (const char* format : {"e4m3", "e5m2", "e2m1"}) {
    codes.format = format;
    tensors.emplace_back(std::string("codes:") + format, codes);
  }
  write_safetensors(path, tensors, {{"made_by", "\"us\"\n"}});
  const std::string first = test::slurp(path);
  EXPECT_EQ(static_cast<unsigned char>(first[0]) % 8, 0);  // the header is padded
  for (const auto& [name, array] : tensors) {
    const Array read = read_safetensors(path, name);
    EXPECT_EQ(read.dtype, array.dtype) << name;
    EXPECT_EQ(read.shape, array.shape) << name;
    EXPECT_TRUE(read.data == array.data) << name;
    EXPECT_EQ(read.format, array.format == "e2m1" ? "" : array.format) << name;
  }
  const SafetensorsIndex index = list_safetensors(path);
  EXPECT_EQ(index.entries.size(), tensors.size());
  EXPECT_EQ(index.metadata.at("made_by"), "\"us\"\n");
  write_safetensors(path, tensors, {{"made_by", "\"us\"\n"}});
  EXPECT_EQ(test::slurp(path), first);
  const std::string message = message_from([&] { read_safetensors(path, "layer/f33"); });
  EXPECT_NE(message.find("layer/f32"), std::string::npos) << message;
}

TEST(Safetensors, TruncatedAndDamaged) {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, {{"a", pattern(Dtype::f32, {20, 20})}, {"b", pattern(Dtype::u8, {3})}});
  EXPECT_GT(test::sweep_truncations(path, [](const std::string& name) { read_safetensors(name, "a"); }), 15);
  const std::string four(4, 'x'), deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  const auto entry = [](const std::string& type, const std::string& shape, const std::string& offsets) {
    return "{\"a\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  const std::pair<std::string, std::string> bad[] = {
      {safetensors(entry("F32", "[2]", "[0,4]"), four), "is not 4 bytes"},
      {safetensors(entry("F32", "[1]", "[0,8]"), four), "truncated"},
      {safetensors(entry("F32", "[1]", "[4,0]"), four), "data_offsets"},
      {safetensors(entry("F32", "[-1]", "[0,4]"), four), "whole numbers"},
      {safetensors(entry("F32", "[1152921504606846976,1152921504606846976]", "[0,4]"), four), "is not 4 bytes"},
      {safetensors(entry("F33", "[1]", "[0,4]"), four), "unknown dtype F33"},
      {safetensors(entry("U8", "[3]", "[1,4]"), four), "hole"},
      {safetensors(entry("U8", "[3]", "[0,3]"), four), "after the last"},
      {safetensors(entry("BOOL", "[4]", "[0,4]"), four), "BOOL"},
      {safetensors("{\"a\":1}", ""), "lacks"},
      {safetensors("[]", ""), "not a safetensors file"},
      {safetensors("{\"a\":", ""), "not a JSON object"},
      {safetensors("{\"__metadata__\":{\"a\":1}}", ""), "__metadata__"},
      {safetensors(
           "{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"x\":{\"dtype\":\"U8\",\"shape\":[0],"
           "\"data_offsets\":[0,0]}}",
           ""),
       "twice"},
      {safetensors(deep, ""), "deeply"},
      {std::string(8, '\xff'), "not a safetensors file"},
  };
  for (const auto& [content, expected] : bad) {
    test::spill(path, content);
    const std::string message = message_from([&] { read_safetensors(path, "a"); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_NE(message.find(path), std::string::npos) << message;
  }
}

TEST(ReadTensor, FindsFileAndName) {
  const TempFolder folder;
  const Array values = from_floats({2, 2}, {1, 2, 3, 4});
  write_npy(folder / "a:b.npy", values);
  write_safetensors(folder / "w.safetensors", {{"layer.0:fc1", values}});
  {
    hdf5::File file(folder / "t.h5", hdf5::Mode::create);
    file.root().create("g/x", values);
    file.close();
  }
  for (const std::string spec : {"a:b.npy", "w.safetensors:layer.0:fc1", "t.h5:/g/x", "t.h5:g/x"}) {
    EXPECT_EQ(read_tensor(folder / spec).as_f32(), values.as_f32()) << spec;
  }
  const std::pair<std::string, std::string> bad[] = {
      {"t.h5", "g/x"},
      {"t.h5:/g/y", "g/x"},
      {"t.h5:/g", "is a group"},
      {"w.safetensors", "layer.0:fc1"},
      {"w.safetensors:fc1", "layer.0:fc1"},
      {"a:b.npy:x", "no name"},
      {"none.npy", "none.npy"},
      {"none.h5:/x", "none.h5"},
      {"none.safetensors:x", "none.safetensors"},
      {"plain.txt", "valid are FILE.h5:/dataset"},
      {"", "regular file"},
  };
  test::spill(folder / "plain.txt", "text");
  for (const auto& [spec, expected] : bad) {
    const std::string message = message_from([&, &name = spec] { read_tensor(folder / name); });
    EXPECT_NE(message.find(expected), std::string::npos) << spec << ": " << message;
  }
}

TEST(ReadTensor, AFileWithoutPermissionOrRoomForItsOutput) {
  const TempFolder folder;
  const Array values = pattern(Dtype::f32, {64, 64});
  EXPECT_THROW(write_npy(folder / "no/such/folder.npy", values), UserError);
  EXPECT_THROW(write_safetensors(folder / "no/such/folder.safetensors", {{"a", values}}), UserError);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  rlimit small = old;
  small.rlim_cur = 4096;
  auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string first = message_from<MachineError>([&] { write_npy(folder / "full.npy", values); });
  const std::string second = message_from<MachineError>([&] {
    write_safetensors(folder / "full.safetensors", {{"a", values}});
  });
  ::setrlimit(RLIMIT_FSIZE, &old);
  ::signal(SIGXFSZ, handler);
  EXPECT_NE(first.find("full.npy"), std::string::npos) << first;
  EXPECT_NE(second.find("full.safetensors"), std::string::npos) << second;
  EXPECT_FALSE(std::filesystem::exists(folder / "full.npy"));
  EXPECT_FALSE(std::filesystem::exists(folder / "full.npy.part"));
}

}  // namespace
}  // namespace ng
