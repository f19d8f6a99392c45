// Maximum and sum of exponentials of a row in one pass (arXiv:1805.02867), by a block.
#pragma once

#include "operators/memory_bound/packs.cuh"

#include <cmath>

namespace predictor::kernels {

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

// The part of a row that 16-byte accesses can cover: rows start at any address of an element.
struct RowSpan {
  int head;  // elements before the first aligned address
  int packs; // aligned packs after them
};

template <typename T>
__device__ inline RowSpan row_span(const T* row, int cols) {
  const auto misaligned = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16);
  const int head = misaligned == 0 ? 0 : (16 - misaligned) / static_cast<int>(sizeof(T));
  const int within = head < cols ? head : cols;
  return {within, (cols - within) / pack};
}

// The whole block's softmax, known to all threads; every thread must take part.
template <int threads>
__device__ inline OnlineSoftmax block_softmax(OnlineSoftmax softmax) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) {
    OnlineSoftmax other;
    other.maximum = __shfl_xor_sync(all_lanes, softmax.maximum, offset);
    other.sum = __shfl_xor_sync(all_lanes, softmax.sum, offset);
    softmax.merge(other);
  }
  constexpr int warps = threads / warp_threads;
  __shared__ float maxima[warps];
  __shared__ float sums[warps];
  if (threadIdx.x % warp_threads == 0) {
    maxima[threadIdx.x / warp_threads] = softmax.maximum;
    sums[threadIdx.x / warp_threads] = softmax.sum;
  }
  __syncthreads();
  OnlineSoftmax total;
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    OnlineSoftmax part;
    part.maximum = maxima[w];
    part.sum = sums[w];
    total.merge(part);
  }
  return total;
}

} // namespace predictor::kernels
