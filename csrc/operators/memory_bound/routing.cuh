// A mixture of experts' router and the moves of its tokens, and sums of squares.
#pragma once

#include "operators/memory_bound/elementwise.cuh"

#include <cmath>

namespace predictor::kernels {

inline constexpr int routing_threads = 128;
inline constexpr int router_top_k = 8;

// A warp a token: softmax over cols experts, of which the highest 8 are kept in
// probabilities[rows, cols] (others 0) and marked in chosen[rows, cols]. cols <= 32·per_lane.
template <int per_lane>
__global__ void __launch_bounds__(routing_threads)
    router_kernel(std::int64_t rows, int cols, const float* logits, float* probabilities,
                  unsigned char* chosen) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (routing_threads / warp_threads) +
      threadIdx.x / warp_threads;
  const bool active = row < rows; // idle warps still take part in the shuffles
  float x[per_lane];
  float highest = -INFINITY;
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    const int col = i * warp_threads + lane;
    x[i] = active && col < cols ? logits[row * cols + col] : -INFINITY;
    highest = fmaxf(highest, x[i]);
  }
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) {
    highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, offset));
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    x[i] = active ? __expf(x[i] - highest) : 0.0f; // exp(-inf) = 0 beyond the last expert
    sum += x[i];
  }
  sum = group_sum<warp_threads>(sum);

  unsigned kept = 0; // a bit for each of the lane's experts
  for (int k = 0; k < router_top_k && k < cols; ++k) {
    float best = -1.0f;
    int best_col = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      const int col = i * warp_threads + lane;
      if ((kept >> i & 1u) == 0 && col < cols && x[i] > best) {
        best = x[i];
        best_col = col;
      }
    }
#pragma unroll
    for (int offset = warp_threads / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(all_lanes, best, offset);
      const int other_col = __shfl_xor_sync(all_lanes, best_col, offset);
      if (other > best || (other == best && other_col < best_col)) {
        best = other;
        best_col = other_col;
      }
    }
    if (best_col % warp_threads == lane) {
      kept |= 1u << (best_col / warp_threads);
    }
  }
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    const int col = i * warp_threads + lane;
    if (active && col < cols) {
      const bool is_chosen = (kept >> i & 1u) != 0;
      probabilities[row * cols + col] = is_chosen ? x[i] / sum : 0.0f;
      chosen[row * cols + col] = is_chosen;
    }
  }
}

// Where copy `item` of tokens·copies goes: a bijection, as `stride` and `rows` have no common
// factor.
__host__ __device__ inline std::int64_t permuted_row(std::int64_t item, std::int64_t stride,
                                                     std::int64_t rows) {
  return item * stride % rows;
}

// A block a token, copied to its places in y[rows, cols].
template <bool packed, int copies>
__global__ void __launch_bounds__(routing_threads)
    permute_kernel(std::int64_t rows, int cols, std::int64_t stride, const bf16* x, bf16* y) {
  constexpr int width = packed ? pack : 1;
  const std::int64_t token = blockIdx.x;
  for (int c = static_cast<int>(threadIdx.x) * width; c < cols; c += routing_threads * width) {
    float values[width];
    load<width>(x + token * cols + c, values);
#pragma unroll
    for (int k = 0; k < copies; ++k) {
      store<width>(y + permuted_row(token * copies + k, stride, rows) * cols + c, values);
    }
  }
}

// y[token] = Σ probabilities[token, k]·x[place of k].
template <bool packed, int copies>
__global__ void __launch_bounds__(routing_threads)
    unpermute_kernel(std::int64_t rows, int cols, std::int64_t stride, const float* probabilities,
                     const bf16* x, bf16* y) {
  constexpr int width = packed ? pack : 1;
  const std::int64_t token = blockIdx.x;
  for (int c = static_cast<int>(threadIdx.x) * width; c < cols; c += routing_threads * width) {
    float sums[width] = {};
#pragma unroll
    for (int k = 0; k < copies; ++k) {
      const std::int64_t item = token * copies + k;
      float values[width];
      load<width>(x + permuted_row(item, stride, rows) * cols + c, values);
#pragma unroll
      for (int e = 0; e < width; ++e) {
        sums[e] += probabilities[item] * values[e];
      }
    }
    store<width>(y + token * cols + c, sums);
  }
}

inline constexpr int sum_threads = 512;

// *sum += Σ x².
template <typename T>
__global__ void __launch_bounds__(sum_threads)
    square_sum_kernel(std::int64_t count, const T* x, float* sum) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * sum_threads * pack;
  float own = 0.0f;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * sum_threads + threadIdx.x) * pack;
       i < count; i += step) {
    float values[pack] = {};
    if (i + pack <= count) {
      load_pack(x + i, values);
    } else {
      for (int e = 0; i + e < count; ++e) {
        values[e] = load_one(x + i + e);
      }
    }
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      own += values[e] * values[e];
    }
  }
  own = group_sum<sum_threads>(own);
  if (threadIdx.x == 0) {
    atomicAdd(sum, own);
  }
}

} // namespace predictor::kernels
