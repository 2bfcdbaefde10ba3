// SPDX-License-Identifier: Apache-2.0
//
// Test vectors as files.
#include <fmt/format.h>

#include <span>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/sha256.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/npy.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/validate/vectors.hpp"

namespace ng::validate {
namespace {

// Everything of a case as named arrays: "in/x", "expected/codes", ...
std::vector<std::pair<std::string, Array>> arrays_of(const VectorCase& v) {
  std::vector<std::pair<std::string, Array>> arrays;
  const Case& q = v.question;
  if (!q.x.empty()) arrays.emplace_back("in/x", Array::from<float>({q.rows, q.cols}, q.x));
  for (const auto& [name, array] : q.operands) arrays.emplace_back("in/" + name, array);
  for (const auto& [name, array] : v.expected) arrays.emplace_back("expected/" + name, array);
  return arrays;
}

Json entry(const std::string& file, const std::string& array, const Array& content, const std::string& digest) {
  Json shape(Json::Array{});
  for (const std::int64_t extent : content.shape) shape.push_back(extent);
  return Json::object({{"file", file},
                       {"array", array},
                       {"dtype", content.format.empty() ? std::string(name_of(content.dtype)) : content.format},
                       {"shape", shape},
                       {"sha256", digest}});
}

// One element a line, bits in hexadecimal, most significant digit first: what $readmemh takes.
std::string hex_text(const Array& array) {
  const std::size_t size = size_of(array.dtype);
  std::string text;
  for (std::size_t at = 0; at < array.data.size(); at += size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value |= static_cast<std::uint64_t>(std::to_integer<std::uint8_t>(array.data[at + i])) << (8 * i);
    text += fmt::format("{:0{}x}\n", value, 2 * size);
  }
  return text;
}

Json case_json(const VectorCase& v, const std::string& made_by) {
  const Case& q = v.question;
  return Json::object({{"name", q.name},
                       {"operation", std::string(name_of(q.operation))},
                       {"spec", q.spec},
                       {"made_by", made_by},
                       {"axis", std::string(name_of(q.axis))},
                       {"seed", q.seed},
                       {"tensor_id", q.tensor_id},
                       {"step", q.step}});
}

void write_dump(const std::vector<VectorCase>& cases, const std::filesystem::path& path, const std::string& made_by) {
  const std::filesystem::path part = path.string() + ".part";
  try {
    hdf5::File file(part.string(), hdf5::Mode::create);
    hdf5::Group root = file.root();
    for (const VectorCase& v : cases) {
      const Case& q = v.question;
      hdf5::Group group = root.create_group(q.name);
      group.set_attribute("operation", std::string(name_of(q.operation)));
      group.set_attribute("spec", q.spec);
      group.set_attribute("expected_by", made_by);
      group.set_attribute("axis", std::string(name_of(q.axis)));
      group.set_attribute("seed", q.seed);
      group.set_attribute("tensor_id", q.tensor_id);
      group.set_attribute("step", q.step);
      for (const auto& [name, array] : arrays_of(v)) (void)group.create(name, array);
    }
    file.close();
    publish_file(part, path);
  } catch (...) {
    std::error_code error;
    std::filesystem::remove(part, error);
    throw;
  }
}

}  // namespace

void write_vectors(const std::vector<VectorCase>& cases, VectorForm form, const std::filesystem::path& folder,
                   const std::string& made_by) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_file_error("create folder", folder, error.value());
  Json manifest = Json::object({{"form", std::string(name_of(form))}, {"made_by", made_by}});
  manifest["cases"] = Json(Json::Array{});
  if (form == VectorForm::hdf5) write_dump(cases, folder / "vectors.h5", made_by);
  const std::string dump_digest = form == VectorForm::hdf5 ? sha256_hex(read_file(folder / "vectors.h5")) : "";
  for (const VectorCase& v : cases) {
    Json one = case_json(v, made_by);
    one["arrays"] = Json(Json::Array{});
    for (const auto& [name, array] : arrays_of(v)) {
      if (form == VectorForm::hdf5) {
        one["arrays"].push_back(entry("vectors.h5", v.question.name + "/" + name, array, dump_digest));
        continue;
      }
      std::string file = v.question.name + "." + name + (form == VectorForm::npy ? ".npy" : ".hex");
      for (char& c : file)
        if (c == '/') c = '.';
      if (form == VectorForm::npy) {
        Array bits = array;
        if (bits.dtype == Dtype::bf16) bits.dtype = Dtype::u16;  // npy has no BF16
        write_npy((folder / file).string(), bits);
      } else {
        write_file(folder / file, hex_text(array));
      }
      one["arrays"].push_back(entry(file, name, array, sha256_hex(read_file(folder / file))));
    }
    manifest["cases"].push_back(std::move(one));
  }
  write_file(folder / "manifest.json", manifest.pretty() + "\n");
}

}  // namespace ng::validate
