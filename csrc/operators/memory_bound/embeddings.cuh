// Rows of a table by index, and their gradients scattered back.
#pragma once

#include "operators/memory_bound/packs.cuh"

namespace predictor::kernels {

inline constexpr int embedding_threads = 128; // a block a token

// y[r] = table[ids[r]]
template <bool packed>
__global__ void __launch_bounds__(embedding_threads)
    embedding_kernel(int cols, const bf16* table, const std::int64_t* ids, bf16* y) {
  constexpr int width = packed ? pack : 1;
  const std::int64_t row = blockIdx.x;
  const bf16* from = table + ids[row] * cols;
  bf16* to = y + row * cols;
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x) * width; c < cols; c += embedding_threads * width) {
    if constexpr (packed) {
      *reinterpret_cast<uint4*>(to + c) = *reinterpret_cast<const uint4*>(from + c);
    } else {
      to[c] = from[c];
    }
  }
}

__device__ inline void add_pack(float* to, const float (&x)[pack]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  (void)atomicAdd(reinterpret_cast<float4*>(to), make_float4(x[0], x[1], x[2], x[3]));
  (void)atomicAdd(reinterpret_cast<float4*>(to) + 1, make_float4(x[4], x[5], x[6], x[7]));
#else
#pragma unroll
  for (int e = 0; e < pack; ++e) {
    (void)atomicAdd(to + e, x[e]);
  }
#endif
}

// dtable[ids[r]] += dy[r], by atomics as tokens repeat.
template <bool packed>
__global__ void __launch_bounds__(embedding_threads)
    embedding_backward_kernel(int cols, const bf16* dy, const std::int64_t* ids, float* dtable) {
  constexpr int width = packed ? pack : 1;
  const std::int64_t row = blockIdx.x;
  const bf16* from = dy + row * cols;
  float* to = dtable + ids[row] * cols;
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x) * width; c < cols; c += embedding_threads * width) {
    if constexpr (packed) {
      float x[pack];
      load_pack(from + c, x);
      add_pack(to + c, x);
    } else {
      (void)atomicAdd(to + c, load_one(from + c));
    }
  }
}

} // namespace predictor::kernels
