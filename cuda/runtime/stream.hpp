// SPDX-License-Identifier: Apache-2.0
//
// A queue of work on the GPU, named without CUDA's headers; nullptr is the one that everything uses unless it says so.
#pragma once

struct CUstream_st;

namespace ng::cuda {

using Stream = CUstream_st*;

}  // namespace ng::cuda
