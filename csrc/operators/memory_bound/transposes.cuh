// Transposes through shared memory, casts to fp8 with the largest magnitude, and both at once.
#pragma once

#include "operators/memory_bound/packs.cuh"

#include <cuda_fp8.h>
#include <type_traits>

namespace predictor::kernels {

inline constexpr int transpose_threads = 256;
inline constexpr int transpose_rows = transpose_threads / warp_threads; // of a tile at a time

using fp8_byte = unsigned char; // an e4m3 number's bits

__host__ __device__ inline fp8_byte to_e4m3(float x) {
  return static_cast<fp8_byte>(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
}

// Raises *to to the largest |x| of the block. Magnitudes order as their bits do.
template <int threads>
__device__ inline void raise_to_block_maximum(float* to, float x) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(all_lanes, x, offset));
  }
  __shared__ float partial[threads / warp_threads];
  __syncthreads();
  if (threadIdx.x % warp_threads == 0) {
    partial[threadIdx.x / warp_threads] = x;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < threads / warp_threads; ++i) {
      x = fmaxf(x, partial[i]);
    }
    atomicMax(reinterpret_cast<int*>(to), __float_as_int(x));
  }
}

// 4 or 8 bytes at once, which `to` is aligned to.
template <std::size_t bytes>
using Bits = std::conditional_t<bytes == 8, std::uint64_t, std::uint32_t>;

template <typename T, int count>
__device__ inline void store_bits(T* to, const T (&values)[count]) {
  Bits<sizeof(values)> raw;
  memcpy(&raw, values, sizeof(values));
  *reinterpret_cast<Bits<sizeof(values)>*>(to) = raw;
}

// A square tile: a warp reads 32 words of 4 bytes of Out.
template <typename Out>
inline constexpr int tile_extent = warp_threads * 4 / static_cast<int>(sizeof(Out));

// transposed[c, r] = in[r, c]; where In is not Out, a cast to e4m3 by `scale`, which also writes
// same[r, c] and raises *amax. Any extents: `aligned` has rows and cols in whole words of Out.
template <typename In, typename Out, bool aligned>
__global__ void __launch_bounds__(transpose_threads)
    transpose_kernel(std::int64_t rows, std::int64_t cols, float scale, const In* in, Out* same,
                     Out* transposed, float* amax) {
  constexpr bool cast = !std::is_same_v<In, Out>;
  constexpr int tile = tile_extent<Out>;
  constexpr int word = tile / warp_threads; // elements
  __shared__ Out held[tile][tile + word];
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int warp = static_cast<int>(threadIdx.x) / warp_threads;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * tile;
  const std::int64_t first_col = static_cast<std::int64_t>(blockIdx.x) * tile;
  float largest = 0.0f;
#pragma unroll 4
  for (int r = warp; r < tile; r += transpose_rows) {
    const std::int64_t row = first_row + r;
    const std::int64_t col = first_col + lane * word;
    if (row >= rows || col >= cols) {
      continue;
    }
    const int count = aligned || cols - col >= word ? word : static_cast<int>(cols - col);
    In values[word];
    if constexpr (aligned) {
      const auto raw = *reinterpret_cast<const Bits<sizeof(values)>*>(in + row * cols + col);
      memcpy(static_cast<void*>(values), &raw, sizeof(values));
    } else {
      for (int e = 0; e < count; ++e) {
        values[e] = in[row * cols + col + e];
      }
    }
    Out converted[word];
#pragma unroll
    for (int e = 0; e < word; ++e) {
      if (e < count) {
        if constexpr (cast) {
          const float x = load_one(values + e);
          largest = fmaxf(largest, fabsf(x));
          converted[e] = to_e4m3(x * scale);
        } else {
          converted[e] = values[e];
        }
        held[r][lane * word + e] = converted[e];
        if (cast && !aligned) {
          same[row * cols + col + e] = converted[e];
        }
      }
    }
    if constexpr (cast && aligned) {
      store_bits(same + row * cols + col, converted);
    }
  }
  __syncthreads();
#pragma unroll 4
  for (int c = warp; c < tile; c += transpose_rows) {
    const std::int64_t col = first_col + c;
    const std::int64_t row = first_row + lane * word;
    if (col >= cols || row >= rows) {
      continue;
    }
    Out* to = transposed + col * rows + row;
    Out values[word];
#pragma unroll
    for (int e = 0; e < word; ++e) {
      values[e] = held[lane * word + e][c];
    }
    if constexpr (aligned) {
      store_bits(to, values);
    } else {
      for (int e = 0; e < word && row + e < rows; ++e) {
        to[e] = values[e];
      }
    }
  }
  if constexpr (cast) {
    raise_to_block_maximum<transpose_threads>(amax, largest);
  }
}

// to[i] = e4m3(from[i]·scale) unless `to` is null; *amax is raised to the largest |from[i]|.
template <bool cast>
__global__ void __launch_bounds__(transpose_threads)
    amax_kernel(std::int64_t count, float scale, const bf16* from, fp8_byte* to, float* amax) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * transpose_threads * pack;
  float largest = 0.0f;
  for (std::int64_t i =
           (static_cast<std::int64_t>(blockIdx.x) * transpose_threads + threadIdx.x) * pack;
       i < count; i += step) {
    float x[pack] = {};
    if (i + pack <= count) {
      load_pack(from + i, x);
    } else {
      for (int e = 0; i + e < count; ++e) {
        x[e] = load_one(from + i + e);
      }
    }
    fp8_byte converted[pack];
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      largest = fmaxf(largest, fabsf(x[e]));
      converted[e] = cast ? to_e4m3(x[e] * scale) : fp8_byte{0};
    }
    if constexpr (cast) {
      if (i + pack <= count) {
        store_bits(to + i, converted);
      } else {
        for (int e = 0; i + e < count; ++e) {
          to[i + e] = converted[e];
        }
      }
    }
  }
  raise_to_block_maximum<transpose_threads>(amax, largest);
}

} // namespace predictor::kernels
