// SPDX-License-Identifier: Apache-2.0
//
// Claim: the oracle reproduces every comparable number of ml_dtypes, torchao, Transformer Engine and microxcaling, bit
// for bit. So a difference between oracle and program is the program's fault.
// Alone: ctest -R oracle_vs_golden
#include "golden_test.hpp"

namespace ng_golden {
namespace {

TEST(OracleVsGolden, MlDtypesCasts) {
  expect_golden(oracle_subject(), kMlDtypes);
}
TEST(OracleVsGolden, Torchao) {
  expect_golden(oracle_subject(), kTorchao);
}
TEST(OracleVsGolden, TransformerEngine) {
  expect_golden(oracle_subject(), kTransformerEngine);
}
TEST(OracleVsGolden, Microxcaling) {
  expect_golden(oracle_subject(), kMicroxcaling);
}

}  // namespace
}  // namespace ng_golden
