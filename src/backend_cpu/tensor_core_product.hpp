// SPDX-License-Identifier: Apache-2.0
//
// tensor_core_matmul on a pool of threads and a table of kernels that the caller has; for the backend's own products.
#pragma once

#include "kernels/kernels.hpp"
#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"
#include "thread_pool.hpp"

namespace ng::cpu {

void tensor_core_matmul(const CpuKernels& kernels, ThreadPool& pool, const TensorCoreSpec& spec, const ProductMatrix& a,
                        const ProductMatrix& b, const ProductScales& scales, const MatmulSize& size, float* out,
                        std::int64_t ldc);

}  // namespace ng::cpu
