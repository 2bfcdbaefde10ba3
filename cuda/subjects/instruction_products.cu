// SPDX-License-Identifier: Apache-2.0
//
// instruction_products.hpp: one kernel per instruction, addressing and inline PTX only. All operands are rows of bytes
// along k, and the fragments of every type are the same in bytes: 4 per register, 16 or 32 per instruction.
#include "subjects/instruction_products.hpp"

#include <cuda_runtime.h>

#include <string>

#include "narrowgauge/base/error.hpp"
#include "runtime/check.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

/// Addresses of one kernel: k is in bytes.
struct Tiles {
  const std::uint8_t* a;
  const std::uint8_t* b;
  const std::uint32_t* c;
  std::uint32_t* d;
  std::int64_t count;
  int chain;
};

constexpr int kWarpsPerBlock = 4;
constexpr int kMmaRows = 16;
constexpr int kWgmmaRows = 64;
constexpr int kCols = 8;
constexpr int kWgmmaBytes = 32;

__device__ inline std::uint32_t word_at(const std::uint8_t* bytes) {
  return *reinterpret_cast<const std::uint32_t*>(bytes);
}

/// Accumulator registers of one thread: rows g and g + 8, columns 2 t and 2 t + 1. FP16: two columns in a register.
template <StepResult kResult>
struct Accumulators;

template <>
struct Accumulators<StepResult::fp32_toward_zero> {
  float r[4];
  __device__ void load(const std::uint32_t* c, int row, int col) {
    for (int i = 0; i < 4; ++i) r[i] = __uint_as_float(c[(row + i / 2 * 8) * kCols + col + i % 2]);
  }
  __device__ void store(std::uint32_t* d, int row, int col) const {
    for (int i = 0; i < 4; ++i) d[(row + i / 2 * 8) * kCols + col + i % 2] = __float_as_uint(r[i]);
  }
};

template <>
struct Accumulators<StepResult::fp16_nearest_even> {
  std::uint32_t r[2];
  __device__ void load(const std::uint32_t* c, int row, int col) {
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t* const at = c + (row + i * 8) * kCols + col;
      r[i] = (at[0] & 0xffffu) | at[1] << 16;
    }
  }
  __device__ void store(std::uint32_t* d, int row, int col) const {
    for (int i = 0; i < 2; ++i) {
      std::uint32_t* const at = d + (row + i * 8) * kCols + col;
      at[0] = r[i] & 0xffffu;
      at[1] = r[i] >> 16;
    }
  }
};

/// Op: `kBytes` along k of one instruction, `kResult`, and run(acc, a registers, b registers).
template <class Op>
__global__ void mma_kernel(Tiles tiles) {
  const std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (tile >= tiles.count) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4;
  const int t = lane % 4;
  const int row_bytes = tiles.chain * Op::kBytes;
  const std::uint8_t* const a = tiles.a + tile * kMmaRows * row_bytes;
  const std::uint8_t* const b = tiles.b + tile * kCols * row_bytes;
  Accumulators<Op::kResult> acc;
  acc.load(tiles.c + tile * kMmaRows * kCols, g, 2 * t);
  for (int s = 0; s < tiles.chain; ++s) {
    std::uint32_t x[4];
    std::uint32_t y[2];
    for (int h = 0; h < Op::kBytes / 16; ++h) {
      const int at = s * Op::kBytes + h * 16 + 4 * t;
      x[2 * h] = word_at(a + g * row_bytes + at);
      x[2 * h + 1] = word_at(a + (g + 8) * row_bytes + at);
      y[h] = word_at(b + g * row_bytes + at);
    }
    Op::run(acc, x, y);
  }
  acc.store(tiles.d + tile * kMmaRows * kCols, g, 2 * t);
}

/// Descriptor of a K-major operand without swizzle: cores of 8 rows by 16 bytes, the two cores of a row group 128 bytes
/// apart, row groups 256 bytes apart. Addresses and distances in units of 16 bytes.
__device__ inline std::uint64_t descriptor(const void* shared) {
  const std::uint64_t address = static_cast<std::uint64_t>(__cvta_generic_to_shared(shared));
  return ((address & 0x3ffffu) >> 4) | (std::uint64_t{128 >> 4} << 16) | (std::uint64_t{256 >> 4} << 32);
}

/// 16 bytes number `half` of row `row` in that layout.
__device__ inline int core_offset(int row, int half) { return (row / 8 * 2 + half) * 128 + row % 8 * 16; }

/// Op: `kResult` and run(acc, descriptor of A, descriptor of B); 32 bytes along k.
template <class Op>
__global__ void wgmma_kernel(Tiles tiles) {
  __shared__ alignas(128) std::uint8_t sm_a[kWgmmaRows * kWgmmaBytes];
  __shared__ alignas(128) std::uint8_t sm_b[kCols * kWgmmaBytes];
  const std::int64_t tile = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int row_bytes = tiles.chain * kWgmmaBytes;
  const std::uint8_t* const a = tiles.a + tile * kWgmmaRows * row_bytes;
  const std::uint8_t* const b = tiles.b + tile * kCols * row_bytes;
  const int row = thread / 32 * 16 + thread % 32 / 4;
  const int col = thread % 4 * 2;
  Accumulators<Op::kResult> acc;
  acc.load(tiles.c + tile * kWgmmaRows * kCols, row, col);
  for (int s = 0; s < tiles.chain; ++s) {
    __syncthreads();
    *reinterpret_cast<uint4*>(sm_a + core_offset(thread / 2, thread % 2)) =
        *reinterpret_cast<const uint4*>(a + thread / 2 * row_bytes + s * kWgmmaBytes + thread % 2 * 16);
    if (thread < 2 * kCols)
      *reinterpret_cast<uint4*>(sm_b + core_offset(thread / 2, thread % 2)) =
          *reinterpret_cast<const uint4*>(b + thread / 2 * row_bytes + s * kWgmmaBytes + thread % 2 * 16);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    Op::run(acc, descriptor(sm_a), descriptor(sm_b));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  acc.store(tiles.d + tile * kWgmmaRows * kCols, row, col);
}

constexpr auto kF32 = StepResult::fp32_toward_zero;
constexpr auto kF16 = StepResult::fp16_nearest_even;

// The instructions. "+" operands: the accumulator is C and D.
#define NG_MMA_F32_4(NAME, BYTES, TEXT)                                                                          \
  struct NAME {                                                                                                  \
    static constexpr int kBytes = BYTES;                                                                         \
    static constexpr auto kResult = kF32;                                                                        \
    __device__ static void run(Accumulators<kF32>& d, const std::uint32_t (&x)[4], const std::uint32_t (&y)[2]) { \
      asm volatile("mma.sync.aligned." TEXT " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"             \
                   : "+f"(d.r[0]), "+f"(d.r[1]), "+f"(d.r[2]), "+f"(d.r[3])                                      \
                   : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));                          \
    }                                                                                                            \
  };
#define NG_MMA_F16_4(NAME, BYTES, TEXT)                                                                          \
  struct NAME {                                                                                                  \
    static constexpr int kBytes = BYTES;                                                                         \
    static constexpr auto kResult = kF16;                                                                        \
    __device__ static void run(Accumulators<kF16>& d, const std::uint32_t (&x)[4], const std::uint32_t (&y)[2]) { \
      asm volatile("mma.sync.aligned." TEXT " {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"                         \
                   : "+r"(d.r[0]), "+r"(d.r[1])                                                                  \
                   : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));                          \
    }                                                                                                            \
  };
#define NG_MMA_F32_2(NAME, TEXT)                                                                                 \
  struct NAME {                                                                                                  \
    static constexpr int kBytes = 16;                                                                            \
    static constexpr auto kResult = kF32;                                                                        \
    __device__ static void run(Accumulators<kF32>& d, const std::uint32_t (&x)[4], const std::uint32_t (&y)[2]) { \
      asm volatile("mma.sync.aligned." TEXT " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"                      \
                   : "+f"(d.r[0]), "+f"(d.r[1]), "+f"(d.r[2]), "+f"(d.r[3])                                      \
                   : "r"(x[0]), "r"(x[1]), "r"(y[0]));                                                           \
    }                                                                                                            \
  };
#define NG_WGMMA_F32(NAME, TEXT, MODIFIERS)                                                                      \
  struct NAME {                                                                                                  \
    static constexpr auto kResult = kF32;                                                                        \
    __device__ static void run(Accumulators<kF32>& d, std::uint64_t x, std::uint64_t y) {                        \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %6, 0; wgmma.mma_async.sync.aligned." TEXT                    \
                   " {%0,%1,%2,%3}, %4, %5, p" MODIFIERS "; }"                                                   \
                   : "+f"(d.r[0]), "+f"(d.r[1]), "+f"(d.r[2]), "+f"(d.r[3])                                      \
                   : "l"(x), "l"(y), "r"(1));                                                                    \
    }                                                                                                            \
  };
#define NG_WGMMA_F16(NAME, TEXT, MODIFIERS)                                                                      \
  struct NAME {                                                                                                  \
    static constexpr auto kResult = kF16;                                                                        \
    __device__ static void run(Accumulators<kF16>& d, std::uint64_t x, std::uint64_t y) {                        \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %4, 0; wgmma.mma_async.sync.aligned." TEXT                    \
                   " {%0,%1}, %2, %3, p" MODIFIERS "; }"                                                         \
                   : "+r"(d.r[0]), "+r"(d.r[1])                                                                  \
                   : "l"(x), "l"(y), "r"(1));                                                                    \
    }                                                                                                            \
  };

NG_MMA_F32_4(MmaFp16, 32, "m16n8k16.row.col.f32.f16.f16.f32")
NG_MMA_F16_4(MmaFp16Fp16, 32, "m16n8k16.row.col.f16.f16.f16.f16")
NG_MMA_F32_4(MmaBf16, 32, "m16n8k16.row.col.f32.bf16.bf16.f32")
NG_MMA_F32_4(MmaTf32, 32, "m16n8k8.row.col.f32.tf32.tf32.f32")
NG_MMA_F32_2(MmaFp16Half, "m16n8k8.row.col.f32.f16.f16.f32")
NG_MMA_F32_2(MmaBf16Half, "m16n8k8.row.col.f32.bf16.bf16.f32")
NG_MMA_F32_2(MmaTf32Half, "m16n8k4.row.col.f32.tf32.tf32.f32")
NG_MMA_F32_4(MmaE4m3E4m3, 32, "m16n8k32.row.col.f32.e4m3.e4m3.f32")
NG_MMA_F32_4(MmaE4m3E5m2, 32, "m16n8k32.row.col.f32.e4m3.e5m2.f32")
NG_MMA_F32_4(MmaE5m2E4m3, 32, "m16n8k32.row.col.f32.e5m2.e4m3.f32")
NG_MMA_F32_4(MmaE5m2E5m2, 32, "m16n8k32.row.col.f32.e5m2.e5m2.f32")
NG_MMA_F16_4(MmaE4m3E4m3Fp16, 32, "m16n8k32.row.col.f16.e4m3.e4m3.f16")
NG_MMA_F16_4(MmaE4m3E5m2Fp16, 32, "m16n8k32.row.col.f16.e4m3.e5m2.f16")
NG_MMA_F16_4(MmaE5m2E4m3Fp16, 32, "m16n8k32.row.col.f16.e5m2.e4m3.f16")
NG_MMA_F16_4(MmaE5m2E5m2Fp16, 32, "m16n8k32.row.col.f16.e5m2.e5m2.f16")
NG_WGMMA_F32(WgmmaFp16, "m64n8k16.f32.f16.f16", ", 1, 1, 0, 0")
NG_WGMMA_F16(WgmmaFp16Fp16, "m64n8k16.f16.f16.f16", ", 1, 1, 0, 0")
NG_WGMMA_F32(WgmmaBf16, "m64n8k16.f32.bf16.bf16", ", 1, 1, 0, 0")
NG_WGMMA_F32(WgmmaTf32, "m64n8k8.f32.tf32.tf32", ", 1, 1")
NG_WGMMA_F32(WgmmaE4m3E4m3, "m64n8k32.f32.e4m3.e4m3", ", 1, 1")
NG_WGMMA_F32(WgmmaE4m3E5m2, "m64n8k32.f32.e4m3.e5m2", ", 1, 1")
NG_WGMMA_F32(WgmmaE5m2E4m3, "m64n8k32.f32.e5m2.e4m3", ", 1, 1")
NG_WGMMA_F32(WgmmaE5m2E5m2, "m64n8k32.f32.e5m2.e5m2", ", 1, 1")
NG_WGMMA_F16(WgmmaE4m3E4m3Fp16, "m64n8k32.f16.e4m3.e4m3", ", 1, 1")
NG_WGMMA_F16(WgmmaE4m3E5m2Fp16, "m64n8k32.f16.e4m3.e5m2", ", 1, 1")
NG_WGMMA_F16(WgmmaE5m2E4m3Fp16, "m64n8k32.f16.e5m2.e4m3", ", 1, 1")
NG_WGMMA_F16(WgmmaE5m2E5m2Fp16, "m64n8k32.f16.e5m2.e5m2", ", 1, 1")

using Kernel = void (*)(Tiles);
struct Entry {
  Instruction instruction;
  Kernel kernel;
};

constexpr auto kMma = InstructionFamily::mma;
constexpr auto kWgmma = InstructionFamily::wgmma;
using F = FormatId;

const Entry kEntries[] = {
    {{"mma.m16n8k16.f32.f16.f16", kMma, F::fp16, F::fp16, kF32, 16, 8, 16}, mma_kernel<MmaFp16>},
    {{"mma.m16n8k16.f16.f16.f16", kMma, F::fp16, F::fp16, kF16, 16, 8, 16}, mma_kernel<MmaFp16Fp16>},
    {{"mma.m16n8k16.f32.bf16.bf16", kMma, F::bf16, F::bf16, kF32, 16, 8, 16}, mma_kernel<MmaBf16>},
    {{"mma.m16n8k8.f32.tf32.tf32", kMma, F::tf32, F::tf32, kF32, 16, 8, 8}, mma_kernel<MmaTf32>},
    {{"mma.m16n8k8.f32.f16.f16", kMma, F::fp16, F::fp16, kF32, 16, 8, 8}, mma_kernel<MmaFp16Half>},
    {{"mma.m16n8k8.f32.bf16.bf16", kMma, F::bf16, F::bf16, kF32, 16, 8, 8}, mma_kernel<MmaBf16Half>},
    {{"mma.m16n8k4.f32.tf32.tf32", kMma, F::tf32, F::tf32, kF32, 16, 8, 4}, mma_kernel<MmaTf32Half>},
    {{"mma.m16n8k32.f32.e4m3.e4m3", kMma, F::e4m3, F::e4m3, kF32, 16, 8, 32}, mma_kernel<MmaE4m3E4m3>},
    {{"mma.m16n8k32.f32.e4m3.e5m2", kMma, F::e4m3, F::e5m2, kF32, 16, 8, 32}, mma_kernel<MmaE4m3E5m2>},
    {{"mma.m16n8k32.f32.e5m2.e4m3", kMma, F::e5m2, F::e4m3, kF32, 16, 8, 32}, mma_kernel<MmaE5m2E4m3>},
    {{"mma.m16n8k32.f32.e5m2.e5m2", kMma, F::e5m2, F::e5m2, kF32, 16, 8, 32}, mma_kernel<MmaE5m2E5m2>},
    {{"mma.m16n8k32.f16.e4m3.e4m3", kMma, F::e4m3, F::e4m3, kF16, 16, 8, 32}, mma_kernel<MmaE4m3E4m3Fp16>},
    {{"mma.m16n8k32.f16.e4m3.e5m2", kMma, F::e4m3, F::e5m2, kF16, 16, 8, 32}, mma_kernel<MmaE4m3E5m2Fp16>},
    {{"mma.m16n8k32.f16.e5m2.e4m3", kMma, F::e5m2, F::e4m3, kF16, 16, 8, 32}, mma_kernel<MmaE5m2E4m3Fp16>},
    {{"mma.m16n8k32.f16.e5m2.e5m2", kMma, F::e5m2, F::e5m2, kF16, 16, 8, 32}, mma_kernel<MmaE5m2E5m2Fp16>},
    {{"wgmma.m64n8k16.f32.f16.f16", kWgmma, F::fp16, F::fp16, kF32, 64, 8, 16}, wgmma_kernel<WgmmaFp16>},
    {{"wgmma.m64n8k16.f16.f16.f16", kWgmma, F::fp16, F::fp16, kF16, 64, 8, 16}, wgmma_kernel<WgmmaFp16Fp16>},
    {{"wgmma.m64n8k16.f32.bf16.bf16", kWgmma, F::bf16, F::bf16, kF32, 64, 8, 16}, wgmma_kernel<WgmmaBf16>},
    {{"wgmma.m64n8k8.f32.tf32.tf32", kWgmma, F::tf32, F::tf32, kF32, 64, 8, 8}, wgmma_kernel<WgmmaTf32>},
    {{"wgmma.m64n8k32.f32.e4m3.e4m3", kWgmma, F::e4m3, F::e4m3, kF32, 64, 8, 32}, wgmma_kernel<WgmmaE4m3E4m3>},
    {{"wgmma.m64n8k32.f32.e4m3.e5m2", kWgmma, F::e4m3, F::e5m2, kF32, 64, 8, 32}, wgmma_kernel<WgmmaE4m3E5m2>},
    {{"wgmma.m64n8k32.f32.e5m2.e4m3", kWgmma, F::e5m2, F::e4m3, kF32, 64, 8, 32}, wgmma_kernel<WgmmaE5m2E4m3>},
    {{"wgmma.m64n8k32.f32.e5m2.e5m2", kWgmma, F::e5m2, F::e5m2, kF32, 64, 8, 32}, wgmma_kernel<WgmmaE5m2E5m2>},
    {{"wgmma.m64n8k32.f16.e4m3.e4m3", kWgmma, F::e4m3, F::e4m3, kF16, 64, 8, 32}, wgmma_kernel<WgmmaE4m3E4m3Fp16>},
    {{"wgmma.m64n8k32.f16.e4m3.e5m2", kWgmma, F::e4m3, F::e5m2, kF16, 64, 8, 32}, wgmma_kernel<WgmmaE4m3E5m2Fp16>},
    {{"wgmma.m64n8k32.f16.e5m2.e4m3", kWgmma, F::e5m2, F::e4m3, kF16, 64, 8, 32}, wgmma_kernel<WgmmaE5m2E4m3Fp16>},
    {{"wgmma.m64n8k32.f16.e5m2.e5m2", kWgmma, F::e5m2, F::e5m2, kF16, 64, 8, 32}, wgmma_kernel<WgmmaE5m2E5m2Fp16>},
};
constexpr std::size_t kCount = sizeof(kEntries) / sizeof(Entry);

Buffer on_device(const void* data, std::size_t bytes) {
  Buffer buffer = allocate(bytes);
  copy_to_device(buffer.data.get(), data, bytes);
  return buffer;
}

}  // namespace

std::span<const Instruction> instructions() {
  static const std::vector<Instruction> list = [] {
    std::vector<Instruction> all;
    for (const Entry& entry : kEntries) all.push_back(entry.instruction);
    return all;
  }();
  return list;
}

std::vector<std::uint32_t> run_instruction(std::size_t number, std::int64_t tiles, int chain,
                                           std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                                           std::span<const std::uint32_t> c) {
  if (number >= kCount) throw LogicError("no such instruction");
  const Instruction& i = kEntries[number].instruction;
  const std::size_t row = static_cast<std::size_t>(chain) * static_cast<std::size_t>(i.k * operand_bytes(i.a));
  const std::size_t count = static_cast<std::size_t>(tiles);
  const std::size_t results = count * static_cast<std::size_t>(i.m * i.n);
  if (a.size() != count * static_cast<std::size_t>(i.m) * row ||
      b.size() != count * static_cast<std::size_t>(i.n) * row || c.size() != results)
    throw LogicError(std::string("operands of ") + i.name + " have the wrong size");
  const Buffer d_a = on_device(a.data(), a.size());
  const Buffer d_b = on_device(b.data(), b.size());
  const Buffer d_c = on_device(c.data(), c.size_bytes());
  const Buffer d_d = allocate(c.size_bytes());
  const std::int64_t blocks = i.family == kMma ? (tiles + kWarpsPerBlock - 1) / kWarpsPerBlock : tiles;
  if (blocks > 0x7fffffff) throw LogicError("too many tiles for one grid");
  if (blocks > 0) {
    kEntries[number].kernel<<<static_cast<unsigned>(blocks), 32 * kWarpsPerBlock>>>(
        Tiles{d_a.as<std::uint8_t>(), d_b.as<std::uint8_t>(), d_c.as<std::uint32_t>(), d_d.as<std::uint32_t>(), tiles,
              chain});
    NG_CUDA_CHECK(cudaGetLastError());
    NG_CUDA_CHECK(cudaDeviceSynchronize());
  }
  std::vector<std::uint32_t> d(results);
  copy_to_host(d.data(), d_d.data.get(), c.size_bytes());
  return d;
}

}  // namespace ng::cuda
