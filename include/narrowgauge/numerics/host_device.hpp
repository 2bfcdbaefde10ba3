// SPDX-License-Identifier: Apache-2.0
//
// The one macro that makes a function part of the arithmetic that CPU and GPU share. Such a function is always
// inlined: translation units built for different instruction sets never exchange copies of it.
#pragma once

#if defined(__CUDACC__)
#define NG_HD __host__ __device__ __forceinline__
#else
#define NG_HD inline __attribute__((always_inline))
#endif
