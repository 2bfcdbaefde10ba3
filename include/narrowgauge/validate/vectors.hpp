// SPDX-License-Identifier: Apache-2.0
//
// Test vectors for other people's kernels and RTL: inputs that go where quantizers and products part, and the
// reference's outputs, as HDF5 (a dump whose groups lack `out`), npy or $readmemh hex, with a manifest. A pure function
// of spec, case set and seed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "narrowgauge/validate/case.hpp"
#include "narrowgauge/validate/verifier.hpp"

namespace ng::validate {

/// `boundary`: every code, every midpoint and its FP32 neighbours, scales where rules part, special values. `random`:
/// Gaussian, with outliers, rows of different size, wide exponents, raw bits. `all`: both, and for casts without scales
/// every BF16 number.
enum class VectorCases : std::uint8_t { boundary, random, all };
enum class VectorForm : std::uint8_t { hdf5, npy, hex };

/// A question without an answer of the kernel, and the reference's: name of the output and its elements.
struct VectorCase {
  Case question;
  std::vector<std::pair<std::string, Array>> expected;
};

/// UserError: a spec that does not parse, or that draws and transforms in a way no vector can carry.
[[nodiscard]] std::vector<VectorCase> quantizer_vectors(const std::string& spec, VectorCases cases, std::uint32_t seed);
/// `product`: the reference of products.
[[nodiscard]] std::vector<VectorCase> product_vectors(const std::string& spec, VectorCases cases, std::uint32_t seed,
                                                      const ProductReference& product);

/// Writes the files and `manifest.json` (cases, shapes, types, SHA-256 of every file) into `folder`, which is made if
/// it is not there. `made_by` goes into every case.
void write_vectors(const std::vector<VectorCase>& cases, VectorForm form, const std::filesystem::path& folder,
                   const std::string& made_by);

}  // namespace ng::validate

namespace ng::enum_tables {

template <>
struct Table<validate::VectorCases> {
  static constexpr std::string_view kType = "VectorCases";
  static constexpr EnumRow<validate::VectorCases> kRows[] = {{validate::VectorCases::boundary, "boundary"},
                                                             {validate::VectorCases::random, "random"},
                                                             {validate::VectorCases::all, "all"}};
};
template <>
struct Table<validate::VectorForm> {
  static constexpr std::string_view kType = "VectorForm";
  static constexpr EnumRow<validate::VectorForm> kRows[] = {
      {validate::VectorForm::hdf5, "hdf5"}, {validate::VectorForm::npy, "npy"}, {validate::VectorForm::hex, "hex"}};
};

}  // namespace ng::enum_tables
