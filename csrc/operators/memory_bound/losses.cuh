// Cross entropy over rows of logits[rows, cols], cols being the vocabulary.
//
//   logsumexp = max + log Σ exp(x - max), in one pass with a running maximum (arXiv:1805.02867)
//   loss = logsumexp - x[label], dx = (exp(x - logsumexp) - [c = label]) / rows
#pragma once

#include "operators/memory_bound/packs.cuh"

#include <cmath>

namespace predictor::kernels {

inline constexpr int loss_threads = 512;

// Maximum and the sum of exponentials relative to it.
struct OnlineSoftmax {
  float maximum = -INFINITY;
  float sum = 0.0f;

  __device__ void add(float x) {
    if (x > maximum) {
      sum = sum * __expf(maximum - x) + 1.0f; // exp(-inf) = 0 for the first
      maximum = x;
    } else {
      sum += __expf(x - maximum);
    }
  }

  __device__ void add(const float (&x)[pack]) {
    float highest = x[0];
#pragma unroll
    for (int e = 1; e < pack; ++e) {
      highest = fmaxf(highest, x[e]);
    }
    if (highest > maximum) {
      sum *= __expf(maximum - highest);
      maximum = highest;
    }
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      sum += __expf(x[e] - maximum);
    }
  }

  __device__ void merge(const OnlineSoftmax& other) {
    const float highest = fmaxf(maximum, other.maximum);
    if (highest == -INFINITY) {
      return; // both empty: the difference would be no number
    }
    sum = sum * __expf(maximum - highest) + other.sum * __expf(other.maximum - highest);
    maximum = highest;
  }
};

// The part of a row that 16-byte accesses can cover: rows start at any even address.
struct RowSpan {
  int head;  // elements before the first aligned address
  int packs; // aligned packs after them
};

__device__ inline RowSpan row_span(const bf16* row, int cols) {
  const auto misaligned = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16 / 2);
  const int head = misaligned == 0 ? 0 : pack - misaligned;
  const int within = head < cols ? head : cols;
  return {within, (cols - within) / pack};
}

__global__ void __launch_bounds__(loss_threads)
    cross_entropy_kernel(int cols, const bf16* logits, const std::int64_t* labels, float* loss,
                         float* logsumexp) {
  const std::int64_t row = blockIdx.x;
  const bf16* x = logits + row * cols;
  const RowSpan span = row_span(x, cols);
  const int thread = static_cast<int>(threadIdx.x);
  OnlineSoftmax softmax;
#pragma unroll 4
  for (int p = thread; p < span.packs; p += loss_threads) {
    float values[pack];
    load_pack(x + span.head + p * pack, values);
    softmax.add(values);
  }
  const int tail = span.head + span.packs * pack;
  if (thread < span.head) {
    softmax.add(load_one(x + thread));
  }
  if (tail + thread < cols) { // fewer than 8 are left
    softmax.add(load_one(x + tail + thread));
  }

#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) {
    OnlineSoftmax other;
    other.maximum = __shfl_xor_sync(all_lanes, softmax.maximum, offset);
    other.sum = __shfl_xor_sync(all_lanes, softmax.sum, offset);
    softmax.merge(other);
  }
  constexpr int warps = loss_threads / warp_threads;
  __shared__ float maxima[warps];
  __shared__ float sums[warps];
  if (thread % warp_threads == 0) {
    maxima[thread / warp_threads] = softmax.maximum;
    sums[thread / warp_threads] = softmax.sum;
  }
  __syncthreads();
  if (thread == 0) {
    OnlineSoftmax total;
    for (int w = 0; w < warps; ++w) {
      OnlineSoftmax part;
      part.maximum = maxima[w];
      part.sum = sums[w];
      total.merge(part);
    }
    const float lse = total.maximum + logf(total.sum);
    logsumexp[row] = lse;
    loss[row] = lse - load_one(x + labels[row]);
  }
}

__device__ inline float cross_entropy_slope(float x, float lse, bool is_label, float scale) {
  return (__expf(x - lse) - (is_label ? 1.0f : 0.0f)) * scale;
}

// `gradient` starts at the same remainder of 16 bytes as `logits`.
__global__ void __launch_bounds__(loss_threads)
    cross_entropy_backward_kernel(int cols, float scale, const bf16* logits,
                                  const std::int64_t* labels, const float* logsumexp,
                                  bf16* gradient) {
  const std::int64_t row = blockIdx.x;
  const bf16* x = logits + row * cols;
  bf16* dx = gradient + row * cols;
  const RowSpan span = row_span(x, cols);
  const int thread = static_cast<int>(threadIdx.x);
  const int label = static_cast<int>(labels[row]);
  const float lse = logsumexp[row];
#pragma unroll 4
  for (int p = thread; p < span.packs; p += loss_threads) {
    const int col = span.head + p * pack;
    float values[pack];
    load_pack(x + col, values);
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      values[e] = cross_entropy_slope(values[e], lse, col + e == label, scale);
    }
    store_pack(dx + col, values);
  }
  const int tail = span.head + span.packs * pack;
  if (thread < span.head) {
    store_one(dx + thread, cross_entropy_slope(load_one(x + thread), lse, thread == label, scale));
  }
  if (tail + thread < cols) {
    const int col = tail + thread;
    store_one(dx + col, cross_entropy_slope(load_one(x + col), lse, col == label, scale));
  }
}

} // namespace predictor::kernels
