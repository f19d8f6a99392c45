// Maps with a bias a column: dropout, alone and fused with bias and residual, and bias with GELU.
#pragma once

#include "operators/memory_bound/elementwise.cuh"

namespace predictor::kernels {

// An element is dropped where its random byte is below this: with probability 26/256.
inline constexpr unsigned dropped_bytes = 26;
inline constexpr float dropout_scale = 256.0f / (256.0f - dropped_bytes);

// Eight random bytes, those of the elements 8·index …; splitmix64 of the counter.
__host__ __device__ inline std::uint64_t dropout_bytes(std::uint64_t index) {
  std::uint64_t z = (index + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

__host__ __device__ inline bool is_kept(std::uint64_t bytes, std::uint64_t element) {
  return (bytes >> (8 * (element % 8)) & 0xff) >= dropped_bytes;
}

// y = dropout(x), or residual + dropout(x + bias) where fused; mask[rows, cols] is 1 where kept.
template <bool packed, bool fused>
__global__ void __launch_bounds__(map_threads)
    dropout_kernel(std::uint32_t rows, std::uint32_t cols, const bf16* x, const bf16* bias,
                   const bf16* residual, bf16* y, unsigned char* mask) {
  constexpr int width = packed ? pack : 1;
  const Place place = place_of<width>(rows, cols);
  if (!place.valid) {
    return;
  }
  const std::int64_t at = static_cast<std::int64_t>(place.row) * cols + place.col;
  float values[width], shift[width], base[width];
  load<width>(x + at, values);
  if constexpr (fused) {
    load<width>(bias + place.col, shift);
    load<width>(residual + at, base);
  }
  const std::uint64_t bytes = dropout_bytes(static_cast<std::uint64_t>(at) / 8);
  std::uint64_t kept_bytes = 0;
#pragma unroll
  for (int e = 0; e < width; ++e) {
    const bool kept = is_kept(bytes, static_cast<std::uint64_t>(at + e));
    kept_bytes |= static_cast<std::uint64_t>(kept) << (8 * e);
    const float input = fused ? values[e] + shift[e] : values[e];
    values[e] = (kept ? input * dropout_scale : 0.0f) + (fused ? base[e] : 0.0f);
  }
  store<width>(y + at, values);
  if constexpr (packed) {
    *reinterpret_cast<std::uint64_t*>(mask + at) = kept_bytes;
  } else {
    mask[at] = static_cast<unsigned char>(kept_bytes);
  }
}

template <bool packed>
__global__ void __launch_bounds__(map_threads)
    dropout_backward_kernel(std::uint32_t rows, std::uint32_t cols, const bf16* dy,
                            const unsigned char* mask, bf16* dx) {
  constexpr int width = packed ? pack : 1;
  const Place place = place_of<width>(rows, cols);
  if (!place.valid) {
    return;
  }
  const std::int64_t at = static_cast<std::int64_t>(place.row) * cols + place.col;
  float values[width];
  load<width>(dy + at, values);
  std::uint64_t kept_bytes = 0;
  if constexpr (packed) {
    kept_bytes = *reinterpret_cast<const std::uint64_t*>(mask + at);
  } else {
    kept_bytes = mask[at];
  }
#pragma unroll
  for (int e = 0; e < width; ++e) {
    values[e] = (kept_bytes >> (8 * e) & 0xff) != 0 ? values[e] * dropout_scale : 0.0f;
  }
  store<width>(dx + at, values);
}

// y = gelu(x + bias), or dx = dy·gelu'(x + bias).
template <bool packed, bool backward>
__global__ void __launch_bounds__(map_threads)
    bias_gelu_kernel(std::uint32_t rows, std::uint32_t cols, const bf16* dy, const bf16* x,
                     const bf16* bias, bf16* out) {
  constexpr int width = packed ? pack : 1;
  const Place place = place_of<width>(rows, cols);
  if (!place.valid) {
    return;
  }
  const std::int64_t at = static_cast<std::int64_t>(place.row) * cols + place.col;
  float values[width], shift[width], upstream[width];
  load<width>(x + at, values);
  load<width>(bias + place.col, shift);
  if constexpr (backward) {
    load<width>(dy + at, upstream);
  }
#pragma unroll
  for (int e = 0; e < width; ++e) {
    const float input = values[e] + shift[e];
    if constexpr (backward) {
      values[e] = GeluBackward::apply({upstream[e], input});
    } else {
      values[e] = Gelu::apply({input});
    }
  }
  store<width>(out + at, values);
}

} // namespace predictor::kernels
