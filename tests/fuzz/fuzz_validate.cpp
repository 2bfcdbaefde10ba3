// SPDX-License-Identifier: Apache-2.0
//
// What `validate` reads: dumps whose groups, types, shapes, attributes and values the input chooses, and raw files with
// layouts it chooses. Every case that is accepted is also judged, explained and printed.
#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz_support.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/validate/verifier.hpp"

namespace ng::fuzz {
namespace {

const char* const kOperations[] = {"quantize", "transpose", "recode", "hadamard", "matmul", "", "qu"};
const char* const kSpecs[] = {"mxfp4",
                              "nvfp4",
                              "e4m3",
                              "fp8_1x128,rule=absmax_pow2",
                              "mxfp4,rounding=stochastic:8",
                              "nvfp4_2d,rule=four_over_six:mae:448",
                              "method=exact",
                              "method=published",
                              "method=requantize,as=mxfp4",
                              "16:te_fixed:bf16",
                              "hadamard=4:none:f32",
                              "{\"method\":\"exact\"}",
                              "{",
                              "a_format=e4m3",
                              "fp4_channel,nan=largest,outlier=0.9:row"};

Array array_of(Choices& c) {
  const Dtype types[] = {Dtype::f32,  Dtype::u8,  Dtype::u16, Dtype::f16,
                         Dtype::bf16, Dtype::u32, Dtype::i64, Dtype::f64};
  Array array;
  array.dtype = types[c.below(std::size(types))];
  std::int64_t count = 1;
  for (std::size_t rank = c.below(4); rank > 0; --rank) {
    const std::int64_t extents[] = {0, 1, 2, 3, 4, 16, 32, 33};
    array.shape.push_back(extents[c.below(std::size(extents))]);
    count *= array.shape.back();
  }
  if (count > 4096) {
    array.shape = {4, 32};
    count = 128;
  }
  const std::uint8_t kind = c.next();
  for (std::size_t i = 0; i < static_cast<std::size_t>(count) * size_of(array.dtype); ++i)
    array.data.push_back(static_cast<std::byte>(kind < 16 ? kind : (i * 37 + kind) % 251 * (i % 7)));
  const char* const formats[] = {"", "", "e4m3", "e2m1", "e8m0", "none"};
  array.format = formats[c.below(std::size(formats))];
  return array;
}

void add_group(hdf5::Group group, Choices& c) {
  const char* const names[] = {"x",      "codes",        "scales", "result", "dequantized", "tensor_scale",
                               "random", "codes_packed", "a",      "b"};
  for (std::size_t n = c.below(4); n > 0; --n) {
    const std::string name = names[c.below(std::size(names))];
    if (!group.exists(name)) (void)group.create(name, array_of(c));
  }
  const char* const texts[] = {"e4m3", "e2m1", "f32", "e8m0", "k_major", "swizzled_128x4", "column", "high_first"};
  const char* const attributes[] = {"element", "scale_format", "axis", "scale_layout", "nibble_order", "order"};
  for (std::size_t n = c.below(4); n > 0; --n)
    group.set_attribute(attributes[c.below(std::size(attributes))], texts[c.below(std::size(texts))]);
  const char* const numbers[] = {"tile_rows", "tile_cols", "rows", "cols", "skip_rows", "splits"};
  for (std::size_t n = c.below(4); n > 0; --n)
    group.set_attribute(numbers[c.below(std::size(numbers))], static_cast<std::int64_t>(c.next()) - 4);
}

void judge(const validate::Case& c) {
  validate::VerifyOptions options;
  options.explain = true;
  options.blind = c.x.size() < 300;
  options.limits.evaluations = 60;
  accepted([&] {
    const validate::Verdict v = validate::verify(c, options);
    for (const validate::PartVerdict& part : v.parts)
      promise(part.compared + part.ignored == part.rows * part.cols && part.differing <= part.compared,
              "every element is compared or means nothing");
    promise(!validate::text_of(v, true).empty(), "a verdict has a text");
    const std::string json = validate::json_of(v).canonical();
    promise(Json::parse(json, "verdict").canonical() == json, "a verdict's JSON reads back");
  });
}

}  // namespace

void dump(Bytes input) {
  Choices c(input);
  const std::string path = file_with("dump.h5", {});
  {
    hdf5::File file(path, hdf5::Mode::create);
    hdf5::Group group = c.below(4) == 0 ? file.root() : file.root().create_group("case");
    group.set_attribute("operation", kOperations[c.below(std::size(kOperations))]);
    if (c.below(8) != 7) group.set_attribute("spec", kSpecs[c.below(std::size(kSpecs))]);
    if (c.below(8) != 7) add_group(group.create_group("in"), c);
    if (c.below(8) != 7) add_group(group.create_group("out"), c);
    file.close();
  }
  accepted([&] {
    for (const validate::Case& found : validate::read_dump(path)) judge(found);
  });
}

// A few choices, then the bytes of the raw files.
void plain(Bytes input) {
  Choices c(input);
  validate::PlainCase given;
  given.operation = kOperations[c.below(4)];
  given.spec = kSpecs[c.below(std::size(kSpecs))];
  const char* const shapes[] = {"1x32", "4x32", "32x4", "2x3x16", "0x4", "65536x65536", "4x", "-1", ""};
  const char* const types[] = {"f32", "u8", "bf16", "f16", "u16", "e4m3", "e2m1", "e8m0", "", "x"};
  given.shape = shapes[c.below(std::size(shapes))];
  given.dtype = types[c.below(std::size(types))];
  given.out_shape = shapes[c.below(std::size(shapes))];
  given.out_dtype = types[c.below(std::size(types))];
  given.element = types[c.below(std::size(types))];
  given.tile = shapes[c.below(std::size(shapes))];
  given.axis = c.below(2) == 0 ? "row" : "column";
  given.splits = c.below(4) == 0 ? "1,2,1" : "";
  given.layout.scales = static_cast<validate::ScaleLayout>(c.below(3));
  given.layout.nibbles = static_cast<validate::NibbleSide>(c.below(2));
  given.layout.order = static_cast<validate::MatrixOrder>(c.below(2));
  given.layout.skip_rows = static_cast<std::int64_t>(c.below(3));
  const Bytes rest = c.rest();
  const std::size_t half = rest.size() * (1 + c.below(3)) / 4;
  given.in = file_with("in.bin", rest.first(half));
  given.in_scales = file_with("in_scales.bin", rest.first(std::min<std::size_t>(half, 16)));
  (c.below(2) == 0 ? given.out_codes : given.out_result) = file_with("out.bin", rest.subspan(half));
  if (c.below(2) == 0) given.out_scales = file_with("out_scales.bin", rest.last(std::min<std::size_t>(rest.size(), 4)));
  accepted([&] { judge(validate::plain_case(given)); });
}

}  // namespace ng::fuzz
