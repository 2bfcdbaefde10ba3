// SPDX-License-Identifier: Apache-2.0
//
// conversion_output.hpp.
#include "conversion_output.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/io/hdf5.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/quantize/decoded.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

// Values of the input that the output holds with other bits, wherever it holds them.
std::int64_t changed_values(const UnpackedTensor& in, const UnpackedTensor& out, const std::vector<float>& decoded,
                            bool turned) {
  const std::vector<float> before = decoded_values(in, DecodeOrder::standard);
  std::int64_t changed = 0;
  for (std::int64_t r = 0; r < in.rows; ++r)
    for (std::int64_t c = 0; c < in.cols; ++c) {
      const float is = decoded[static_cast<std::size_t>(turned ? c * out.cols + r : r * out.cols + c)];
      changed += bits_of(before[static_cast<std::size_t>(r * in.cols + c)]) != bits_of(is) ? 1 : 0;
    }
  return changed;
}

}  // namespace

QuantizedInput read_quantized_input(const std::string& in) {
  std::size_t colon = in.rfind(":/");
  if (std::filesystem::exists(in)) colon = std::string::npos;
  const hdf5::File file(in.substr(0, colon), hdf5::Mode::read);
  const hdf5::Group root = file.root();
  const hdf5::Group group =
      colon == std::string::npos || in.substr(colon + 1) == "/" ? root : root.group(in.substr(colon + 1));
  return {read_quantized(group), quantizer_text_of(group), group.label()};
}

void write_converted(const Arguments& arguments, const QuantizedInput& in, const UnpackedTensor& out,
                     const std::string& quantizer, const std::string& what) {
  const std::vector<float> decoded = decoded_values(out, DecodeOrder::standard);
  throw_if_interrupted("converting; nothing was written");
  const std::string path = arguments.get("out");
  const std::filesystem::path part = path + ".part";
  UnfinishedFile unfinished(part);
  hdf5::File file(part.string(), hdf5::Mode::create);
  hdf5::Group root = file.root();
  write_quantized(root, out, quantizer, decoded, false);
  root.set_attribute("source", in.origin);
  file.close();
  publish_file(part, path);
  unfinished.done();
  const bool turned = what.starts_with("transpose");
  write_stderr(fmt::format("{}: [{}, {}] {}: {}; {} of {} values changed\n", path, out.rows, out.cols, in.origin, what,
                           changed_values(in.tensor, out, decoded, turned), out.codes.size()));
}

}  // namespace ng::cli
