// SPDX-License-Identifier: Apache-2.0
//
// The table of one instruction set.
#include "kernels.hpp"

namespace ng::cpu::NG_ISA {

void fill_kernels(CpuKernels& table) {
  table.isa = NG_ISA_LEVEL >= 3 ? "x86-64-v3" : "baseline";
  table.gemm_chain = gemm_chain;
  add_tensor_core_kernels(table);
  add_quantize_kernels(table);
  add_transform_kernels(table);
  add_row_kernels(table);
  add_softmax_kernels(table);
  add_attention_kernels(table);
  add_optimizer_kernels(table);
}

}  // namespace ng::cpu::NG_ISA
