// Softmax of attention scores over rows of x[rows, cols], a block a row, as stacks without a fused
// attention launch it: scaled, and causal where rows = batch·heads·cols.
//
//   y = softmax(scale·x), dx = scale·y·(dy - Σ dy·y)
#pragma once

#include "operators/memory_bound/online_softmax.cuh"

#include <type_traits>

namespace predictor::kernels {

inline constexpr int softmax_threads = 128;

// Calls use(column, width) for the first `count` columns of a row: whole packs where 16-byte
// accesses reach, single elements before and after them.
template <int threads, typename T, typename Use>
__device__ inline void for_each_column(const T* row, int count, Use use) {
  const RowSpan span = row_span(row, count);
  const int thread = static_cast<int>(threadIdx.x);
  for (int p = thread; p < span.packs; p += threads) {
    use(span.head + p * pack, std::integral_constant<int, pack>());
  }
  const int tail = span.head + span.packs * pack;
  if (thread < span.head) {
    use(thread, std::integral_constant<int, 1>());
  }
  if (tail + thread < count) { // fewer than 8 are left
    use(tail + thread, std::integral_constant<int, 1>());
  }
}

// Columns that a row sees.
template <bool causal>
__device__ inline int seen_columns(std::int64_t row, int cols) {
  return causal ? static_cast<int>(row % cols) + 1 : cols;
}

__device__ inline void clear_from(bf16* row, int first, int cols) {
  for (int c = first + static_cast<int>(threadIdx.x); c < cols; c += softmax_threads) {
    store_one(row + c, 0.0f);
  }
}

// `y` starts at the same remainder of 16 bytes as `x`; so below.
template <bool causal>
__global__ void __launch_bounds__(softmax_threads)
    softmax_kernel(int cols, float scale, const bf16* x, bf16* y) {
  const std::int64_t row = blockIdx.x;
  const bf16* from = x + row * cols;
  bf16* to = y + row * cols;
  const int seen = seen_columns<causal>(row, cols);
  OnlineSoftmax softmax;
  for_each_column<softmax_threads>(from, seen,
                                   [&]<int width>(int col, std::integral_constant<int, width>) {
                                     float values[width];
                                     load<width>(from + col, values);
#pragma unroll
                                     for (int e = 0; e < width; ++e) {
                                       values[e] *= scale;
                                     }
                                     if constexpr (width == pack) {
                                       softmax.add(values);
                                     } else {
                                       softmax.add(values[0]);
                                     }
                                   });
  const OnlineSoftmax total = block_softmax<softmax_threads>(softmax);
  const float inverse = 1.0f / total.sum;
  for_each_column<softmax_threads>(
      from, seen, [&]<int width>(int col, std::integral_constant<int, width>) { // from the cache
        float values[width];
        load<width>(from + col, values);
#pragma unroll
        for (int e = 0; e < width; ++e) {
          values[e] = __expf(values[e] * scale - total.maximum) * inverse;
        }
        store<width>(to + col, values);
      });
  if constexpr (causal) {
    clear_from(to, seen, cols);
  }
}

template <bool causal>
__global__ void __launch_bounds__(softmax_threads)
    softmax_backward_kernel(int cols, float scale, const bf16* dy, const bf16* y, bf16* dx) {
  const std::int64_t row = blockIdx.x;
  const bf16* upstream = dy + row * cols;
  const bf16* from = y + row * cols;
  bf16* to = dx + row * cols;
  const int seen = seen_columns<causal>(row, cols);
  float sum = 0.0f;
  for_each_column<softmax_threads>(from, seen,
                                   [&]<int width>(int col, std::integral_constant<int, width>) {
                                     float p[width], g[width];
                                     load<width>(from + col, p);
                                     load<width>(upstream + col, g);
#pragma unroll
                                     for (int e = 0; e < width; ++e) {
                                       sum += p[e] * g[e];
                                     }
                                   });
  sum = group_sum<softmax_threads>(sum);
  for_each_column<softmax_threads>(from, seen,
                                   [&]<int width>(int col, std::integral_constant<int, width>) {
                                     float p[width], g[width];
                                     load<width>(from + col, p);
                                     load<width>(upstream + col, g);
#pragma unroll
                                     for (int e = 0; e < width; ++e) {
                                       p[e] = scale * p[e] * (g[e] - sum);
                                     }
                                     store<width>(to + col, p);
                                   });
  if constexpr (causal) {
    clear_from(to, seen, cols);
  }
}

} // namespace predictor::kernels
