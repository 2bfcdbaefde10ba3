// SPDX-License-Identifier: Apache-2.0
//
// One question to the verifier: an operation, its spec, what a kernel was given and what it wrote. Read from a dump (an
// HDF5 file, a group a case) or put together from single arrays. Reading checks types, shapes and codes and converts
// layouts; it judges nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/io/array.hpp"
#include "narrowgauge/numerics/gemm_spec.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/tensor/unpacked_tensor.hpp"

namespace ng::validate {

enum class Operation : std::uint8_t { quantize, transpose, recode, matmul, hadamard };

/// How a kernel laid its scales: one row of scales a row of tiles; columns first; or cuBLAS' 128 x 4 swizzle (blocks of
/// 128 rows by 4 scales, padded, byte (r % 32) * 16 + (r / 32) * 4 + c inside one).
enum class ScaleLayout : std::uint8_t { linear, k_major, swizzled_128x4 };
enum class NibbleSide : std::uint8_t { low_first, high_first };
enum class MatrixOrder : std::uint8_t { row_major, column_major };

/// How the kernel's arrays lie, where that is not what their shapes say.
struct OutputLayout {
  ScaleLayout scales = ScaleLayout::linear;
  NibbleSide nibbles = NibbleSide::low_first;
  MatrixOrder order = MatrixOrder::row_major;
  std::int64_t skip_rows = 0;  ///< rows of padding behind the real ones, in codes, values and scales
};

struct Case {
  std::string name;  ///< of the group, or of the output file
  Operation operation = Operation::quantize;
  std::string spec;  ///< as on the command line; JSON or key=value
  std::string made_by;

  // what the kernel was given
  std::vector<float> x;  ///< quantize, hadamard: [rows, cols]
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Orientation axis = Orientation::row;
  std::uint32_t seed = 0, tensor_id = 0, step = 0;
  std::vector<std::uint32_t> draws;       ///< quantize: random bits an element, [rows, cols]
  std::optional<float> tensor_amax;       ///< quantize: given, not measured
  std::optional<UnpackedTensor> source;   ///< transpose, recode
  std::map<std::string, Array> operands;  ///< matmul: everything of the group `in`
  std::vector<std::int64_t> splits;       ///< transpose: extents of groups of rows

  // what it wrote; layouts undone, shapes as in the file
  std::optional<Array> codes;         ///< one code an entry
  std::optional<Array> scales;        ///< u8 codes or f32
  std::optional<Array> tensor_scale;  ///< one f32
  std::optional<Array> dequantized;   ///< f32
  std::optional<Array> result;        ///< f32, bf16, or raw bits (u32, u16)
  OutputLayout layout;
};

/// Cases of a dump, in the order of their names; the root itself when it has attribute `operation`. UserError names
/// file, dataset and what is valid.
[[nodiscard]] std::vector<Case> read_dump(const std::string& path);

/// What `validate` takes without a dump file, as given on the command line; "" where not given.
struct PlainCase {
  std::string operation, spec, in, out_codes, out_scales, out_tensor_scale, out_dequantized, out_result;
  std::string in_scales;                     ///< transpose, recode: codes in `in`
  std::string in_b, in_scale_a, in_scale_b;  ///< matmul: `in` is A
  std::string axis, element, tile;           ///< element, tile: of the source of a transpose or recode
  std::string shape, dtype;                  ///< of raw inputs
  std::string out_shape, out_dtype;          ///< of raw outputs; scales are u8 unless the spec says f32
  std::string splits;                        ///< "128,300"
  std::int64_t seed = 0, tensor_id = 0, step = 0;
  OutputLayout layout;
};
[[nodiscard]] Case plain_case(const PlainCase& given);

/// Extents of "128x4096". UserError with `what` in front.
[[nodiscard]] std::vector<std::int64_t> parse_shape(const std::string& text, const std::string& what);

// ---- layouts, undone on the host

/// The [rows, cols] scales of a swizzled or column-first buffer. UserError when the buffer has another size.
[[nodiscard]] Array linear_scales(const Array& scales, ScaleLayout layout, std::int64_t rows, std::int64_t cols);
/// Scales as a kernel lays them: what linear_scales undoes.
[[nodiscard]] Array laid_scales(const Array& scales, ScaleLayout layout);

/// FP32 numbers of an array: f32, f16, bf16 widened, codes decoded. UserError.
[[nodiscard]] std::vector<float> numbers_of(const Array& array);

}  // namespace ng::validate

namespace ng::enum_tables {

#define NG_ENUM_TABLE(type, ...)                         \
  template <>                                            \
  struct Table<validate::type> {                         \
    using E = validate::type;                            \
    static constexpr std::string_view kType = #type;     \
    static constexpr EnumRow<E> kRows[] = {__VA_ARGS__}; \
  }

NG_ENUM_TABLE(Operation, {E::quantize, "quantize"}, {E::transpose, "transpose"}, {E::recode, "recode"},
              {E::matmul, "matmul"}, {E::hadamard, "hadamard"});
NG_ENUM_TABLE(ScaleLayout, {E::linear, "linear"}, {E::k_major, "k_major"}, {E::swizzled_128x4, "swizzled_128x4"});
NG_ENUM_TABLE(NibbleSide, {E::low_first, "low_first"}, {E::high_first, "high_first"});
NG_ENUM_TABLE(MatrixOrder, {E::row_major, "row_major"}, {E::column_major, "column_major"});

#undef NG_ENUM_TABLE

}  // namespace ng::enum_tables
