// SPDX-License-Identifier: Apache-2.0
//
// library_probes.hpp: the operands of `validate --probe` through cuBLASLt, and what the fit makes of the answers.
#include <sstream>
#include <vector>

#include "library_model.hpp"
#include "library_probes.hpp"
#include "narrowgauge/validate/accumulator_fit.hpp"
#include "subject_model.hpp"
#include "subjects/instruction_products.hpp"

namespace ng_silicon {

using namespace ng;
using cuda::LibraryCompute;
using cuda::LibraryOutput;
using cuda::LibraryProduct;

void fit_library(std::ostream& out) {
  using F = FormatId;
  struct Kind {
    F a, b;
    bool fast;
    LibraryOutput output;
    LibraryCompute compute;
  };
  const auto f32 = LibraryOutput::f32;
  const auto whole = LibraryCompute::fp32;
  const Kind kinds[] = {{F::e4m3, F::e4m3, false, f32, whole},
                        {F::e4m3, F::e4m3, true, f32, whole},
                        {F::e4m3, F::e5m2, false, f32, whole},
                        {F::e5m2, F::e4m3, true, f32, whole},
                        {F::bf16, F::bf16, false, f32, whole},
                        {F::fp16, F::fp16, false, f32, whole},
                        {F::tf32, F::tf32, false, f32, whole},
                        {F::e4m3, F::e4m3, false, LibraryOutput::bf16, whole},
                        {F::fp16, F::fp16, false, LibraryOutput::fp16, LibraryCompute::fp16}};
  for (const Kind& kind : kinds) {
    validate::ProbeTypes types;
    types.a = kind.a, types.b = kind.b;
    types.output = kind.output == f32                   ? ProductOutput::f32
                   : kind.output == LibraryOutput::bf16 ? ProductOutput::bf16
                                                        : ProductOutput::f16;
    const validate::ProbeSet probes = validate::make_probes(types);
    LibraryProduct p{};
    p.a = kind.a, p.b = kind.b, p.fast = kind.fast, p.output = kind.output, p.compute = kind.compute;
    p.m = p.n = probes.count;
    p.k = probes.k;
    const Array a = probes.codes(false), b = probes.codes(true);
    const auto bytes = [](const Array& x) {
      return std::span(reinterpret_cast<const std::uint8_t*>(x.data.data()), x.data.size());
    };
    const cuda::LibraryResult result = cuda::run_library_product(p, {bytes(a), bytes(b), {}, {}, {}});
    out << described(p) << ": ";
    if (!result.offered) {
      out << "not offered\n";
      continue;
    }
    std::vector<std::uint32_t> diagonal;
    for (std::int64_t i = 0; i < probes.count; ++i)
      diagonal.push_back(result.d[static_cast<std::size_t>(i * probes.count + i)]);
    out << result.algorithm << "\n" << validate::fit_accumulator(probes, diagonal).text(types) << "  results";
    std::ostringstream hex;
    for (const std::uint32_t bits : diagonal) hex << ' ' << std::hex << bits;
    out << hex.str() << "\n";
  }
}

}  // namespace ng_silicon
