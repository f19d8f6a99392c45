// Cross entropy over rows of logits[rows, cols], cols being the vocabulary.
//
//   logsumexp = max + log Σ exp(x - max), in one pass with a running maximum (arXiv:1805.02867)
//   loss = logsumexp - x[label], dx = (exp(x - logsumexp) - [c = label]) / rows
#pragma once

#include "operators/memory_bound/online_softmax.cuh"

namespace predictor::kernels {

inline constexpr int loss_threads = 512;

template <typename T>
__global__ void __launch_bounds__(loss_threads)
    cross_entropy_kernel(int cols, const T* logits, const std::int64_t* labels, float* loss,
                         float* logsumexp) {
  const std::int64_t row = blockIdx.x;
  const T* x = logits + row * cols;
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

  const OnlineSoftmax total = block_softmax<loss_threads>(softmax);
  if (thread == 0) {
    const float lse = total.maximum + logf(total.sum);
    logsumexp[row] = lse;
    loss[row] = lse - load_one(x + labels[row]);
  }
}

__device__ inline float cross_entropy_slope(float x, float lse, bool is_label, float scale) {
  return (__expf(x - lse) - (is_label ? 1.0f : 0.0f)) * scale;
}

// `gradient` starts at the same remainder of 16 bytes as `logits`.
template <typename T>
__global__ void __launch_bounds__(loss_threads)
    cross_entropy_backward_kernel(int cols, float scale, const T* logits,
                                  const std::int64_t* labels, const float* logsumexp, T* gradient) {
  const std::int64_t row = blockIdx.x;
  const T* x = logits + row * cols;
  T* dx = gradient + row * cols;
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

// Megatron's loss over a vocabulary that is split over ranks, between its all-reduces (fp32, rows
// any number of elements): the maximum of a row; exponentials in place with their sum and the
// label's logit; the gradient in place.
__global__ void __launch_bounds__(loss_threads)
    vocab_max_kernel(int cols, const float* logits, float* maximum) {
  const std::int64_t row = blockIdx.x;
  const float* x = logits + row * cols;
  OnlineSoftmax softmax; // without its sum
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += loss_threads) {
    softmax.maximum = fmaxf(softmax.maximum, x[c]);
  }
  const OnlineSoftmax total = block_softmax<loss_threads>(softmax);
  if (threadIdx.x == 0) {
    maximum[row] = total.maximum;
  }
}

__global__ void __launch_bounds__(loss_threads)
    vocab_exp_kernel(int cols, const std::int64_t* labels, const float* maximum, float* logits,
                     float* sum, float* label_logit) {
  const std::int64_t row = blockIdx.x;
  float* x = logits + row * cols;
  const float highest = maximum[row];
  const int label = static_cast<int>(labels[row]);
  float own = 0.0f;
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += loss_threads) {
    const float shifted = x[c] - highest;
    if (c == label) {
      label_logit[row] = shifted;
    }
    x[c] = __expf(shifted);
    own += x[c];
  }
  own = group_sum<loss_threads>(own);
  if (threadIdx.x == 0) {
    sum[row] = own;
  }
}

__global__ void __launch_bounds__(loss_threads)
    vocab_gradient_kernel(int cols, const std::int64_t* labels, const float* reciprocal_sum,
                          const float* upstream, float* exponentials) {
  const std::int64_t row = blockIdx.x;
  float* x = exponentials + row * cols;
  const float rsum = reciprocal_sum[row];
  const float g = upstream[row];
  const int label = static_cast<int>(labels[row]);
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += loss_threads) {
    x[c] = (x[c] * rsum - (c == label ? 1.0f : 0.0f)) * g;
  }
}

} // namespace predictor::kernels
