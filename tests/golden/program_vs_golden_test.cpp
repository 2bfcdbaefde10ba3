// SPDX-License-Identifier: Apache-2.0
//
// Claim: narrowgauge's casts and its CPU backend's quantizers reproduce every comparable number of ml_dtypes, torchao
// (five elements; floor, ceil, even, rceil; both NVFP4 forms), Transformer Engine (1x16, 16x16, Hadamard with and
// without signs, four-over-six; rows and transpose) and microxcaling, bit for bit. Alone: ctest -R program_vs_golden
#include "golden_test.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "program_subject.hpp"

namespace ng_golden {
namespace {

Subject cpu() {
  ng::BackendOptions options;
  options.threads = 2;
  return program_subject(ng::make_cpu_backend(options));
}

TEST(ProgramVsGolden, MlDtypesCasts) {
  expect_golden(cpu(), kMlDtypes);
}
TEST(ProgramVsGolden, Torchao) {
  expect_golden(cpu(), kTorchao);
}
TEST(ProgramVsGolden, TransformerEngine) {
  expect_golden(cpu(), kTransformerEngine);
}
TEST(ProgramVsGolden, Microxcaling) {
  expect_golden(cpu(), kMicroxcaling);
}

}  // namespace
}  // namespace ng_golden
