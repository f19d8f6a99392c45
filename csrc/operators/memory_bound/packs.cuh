// Eight consecutive elements at a time: 16-byte loads and stores, arithmetic in fp32.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace predictor::kernels {

using bf16 = __nv_bfloat16;

inline constexpr int pack = 8; // elements
inline constexpr int warp_threads = 32;
inline constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline float as_float(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

__device__ inline std::uint32_t two_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

// `from` and `to` are aligned to 16 bytes.
__device__ inline void load_pack(const bf16* from, float (&x)[pack]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = as_float(words[i] << 16);
    x[2 * i + 1] = as_float(words[i] & 0xffff0000u);
  }
}

__device__ inline void load_pack(const float* from, float (&x)[pack]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

__device__ inline void store_pack(bf16* to, const float (&x)[pack]) {
  *reinterpret_cast<uint4*>(to) = make_uint4(two_bf16(x[0], x[1]), two_bf16(x[2], x[3]),
                                             two_bf16(x[4], x[5]), two_bf16(x[6], x[7]));
}

__device__ inline void store_pack(float* to, const float (&x)[pack]) {
  reinterpret_cast<float4*>(to)[0] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ inline float load_one(const bf16* from) {
  return __bfloat162float(*from);
}
__device__ inline float load_one(const float* from) {
  return *from;
}
__device__ inline void store_one(bf16* to, float x) {
  *to = __float2bfloat16_rn(x);
}
__device__ inline void store_one(float* to, float x) {
  *to = x;
}

// A pack, aligned as above, or a single element.
template <int width, typename T>
__device__ inline void load(const T* from, float (&x)[width]) {
  static_assert(width == pack || width == 1);
  if constexpr (width == pack) {
    load_pack(from, x);
  } else {
    x[0] = load_one(from);
  }
}

template <int width, typename T>
__device__ inline void store(T* to, const float (&x)[width]) {
  static_assert(width == pack || width == 1);
  if constexpr (width == pack) {
    store_pack(to, x);
  } else {
    store_one(to, x[0]);
  }
}

// Sum over groups of `threads` neighbouring threads, known to all of them. Every thread of the
// block must take part; above a warp, the group is the block.
template <int threads>
__device__ inline float group_sum(float x) {
  constexpr int within_warp = threads < warp_threads ? threads : warp_threads;
#pragma unroll
  for (int offset = within_warp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(all_lanes, x, offset);
  }
  if constexpr (threads > warp_threads) {
    constexpr int warps = threads / warp_threads;
    __shared__ float partial[warps];
    __syncthreads(); // the sums of the call before have been read
    if (threadIdx.x % warp_threads == 0) {
      partial[threadIdx.x / warp_threads] = x;
    }
    __syncthreads();
    x = 0.0f;
#pragma unroll
    for (int i = 0; i < warps; ++i) {
      x += partial[i];
    }
  }
  return x;
}

} // namespace predictor::kernels
