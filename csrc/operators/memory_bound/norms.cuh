// RMS and layer norm, forward and backward, over rows of x[rows, cols].
//
//   x̂ = (x - mean)·rstd, y = x̂·weight + bias           (RMS norm: mean = 0 and no bias)
//   g = dy·weight, dx = rstd·(g - mean(g) - x̂·mean(g·x̂))    (RMS norm: without mean(g))
//   dweight = Σ dy·x̂, dbias = Σ dy over the rows, as partial sums that a second kernel adds up
#pragma once

#include "operators/memory_bound/packs.cuh"

namespace predictor::kernels {

inline constexpr float norm_epsilon = 1e-5f;
inline constexpr int norm_threads = 256; // of a block, unless a row needs more

// A row is held in registers by `threads_per_row` threads with `packs` packs each.
template <int threads_per_row_, int packs_>
struct NormShape {
  static constexpr int threads_per_row = threads_per_row_;
  static constexpr int packs = packs_;
  static constexpr int threads = threads_per_row > norm_threads ? threads_per_row : norm_threads;
  static constexpr int groups = threads / threads_per_row; // rows of a block at a time
  static constexpr int max_cols = threads_per_row * packs * pack;
};

struct NormInputs {
  const bf16* x;
  const bf16* weight;
  const bf16* bias; // layer norm only
};

struct NormOutputs {
  bf16* y;
  float* mean; // layer norm only
  float* rstd;
};

// cols is a multiple of 8 and at most Shape::max_cols.
template <bool layer, typename Shape>
__global__ void __launch_bounds__(Shape::threads)
    norm_kernel(std::int64_t rows, int cols, NormInputs in, NormOutputs out) {
  constexpr int tpr = Shape::threads_per_row;
  const int lane = static_cast<int>(threadIdx.x) % tpr;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * Shape::groups + threadIdx.x / tpr;
  const bool active = row < rows; // idle threads still take part in the sums
  const std::int64_t base = row * cols;
  const float scale = 1.0f / static_cast<float>(cols);

  float x[Shape::packs][pack];
  float sum = 0.0f;
#pragma unroll
  for (int p = 0; p < Shape::packs; ++p) {
    const int col = (p * tpr + lane) * pack;
    if (active && col < cols) {
      load_pack(in.x + base + col, x[p]);
#pragma unroll
      for (int e = 0; e < pack; ++e) {
        sum += layer ? x[p][e] : x[p][e] * x[p][e];
      }
    }
  }
  sum = group_sum<tpr>(sum) * scale;
  const float mean = layer ? sum : 0.0f;
  float variance = sum;
  if constexpr (layer) {
    variance = 0.0f;
#pragma unroll
    for (int p = 0; p < Shape::packs; ++p) {
      if (active && (p * tpr + lane) * pack < cols) {
#pragma unroll
        for (int e = 0; e < pack; ++e) {
          variance += (x[p][e] - mean) * (x[p][e] - mean);
        }
      }
    }
    variance = group_sum<tpr>(variance) * scale;
  }
  const float rstd = rsqrtf(variance + norm_epsilon);
#pragma unroll
  for (int p = 0; p < Shape::packs; ++p) {
    const int col = (p * tpr + lane) * pack;
    if (active && col < cols) {
      float weight[pack];
      float bias[pack] = {};
      load_pack(in.weight + col, weight);
      if constexpr (layer) {
        load_pack(in.bias + col, bias);
      }
#pragma unroll
      for (int e = 0; e < pack; ++e) {
        x[p][e] = (x[p][e] - mean) * rstd * weight[e] + bias[e];
      }
      store_pack(out.y + base + col, x[p]);
    }
  }
  if (active && lane == 0) {
    out.rstd[row] = rstd;
    if constexpr (layer) {
      out.mean[row] = mean;
    }
  }
}

// Any cols: a block a row, which is read three times (twice from the cache).
template <bool layer>
__global__ void __launch_bounds__(norm_threads)
    norm_any_kernel(std::int64_t, int cols, NormInputs in, NormOutputs out) {
  const std::int64_t row = blockIdx.x;
  const bf16* x = in.x + row * cols;
  const float scale = 1.0f / static_cast<float>(cols);
  float mean = 0.0f;
  if constexpr (layer) {
    for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
      mean += load_one(x + c);
    }
    mean = group_sum<norm_threads>(mean) * scale;
  }
  float variance = 0.0f;
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
    const float centred = load_one(x + c) - mean;
    variance += centred * centred;
  }
  const float rstd = rsqrtf(group_sum<norm_threads>(variance) * scale + norm_epsilon);
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
    const float bias = layer ? load_one(in.bias + c) : 0.0f;
    store_one(out.y + row * cols + c,
              (load_one(x + c) - mean) * rstd * load_one(in.weight + c) + bias);
  }
  if (threadIdx.x == 0) {
    out.rstd[row] = rstd;
    if constexpr (layer) {
      out.mean[row] = mean;
    }
  }
}

struct NormBackwardInputs {
  const bf16* dy;
  const bf16* x;
  const bf16* weight;
  const float* mean; // layer norm only
  const float* rstd;
};

// partials[(layer ? 2 : 1), partial_rows, cols]: dweight's, then dbias's.
struct NormBackwardOutputs {
  bf16* dx;
  float* partials;
};

// A block walks over many rows, so that its sums over rows stay in registers. Partial rows: one a
// group, gridDim.x * Shape::groups.
template <bool layer, typename Shape>
__global__ void __launch_bounds__(Shape::threads)
    norm_backward_kernel(std::int64_t rows, int cols, NormBackwardInputs in,
                         NormBackwardOutputs out) {
  constexpr int tpr = Shape::threads_per_row;
  constexpr int bias_packs = layer ? Shape::packs : 1;
  const int lane = static_cast<int>(threadIdx.x) % tpr;
  const int group = static_cast<int>(threadIdx.x) / tpr;
  const float scale = 1.0f / static_cast<float>(cols);
  float dweight[Shape::packs][pack] = {};
  float dbias[bias_packs][pack] = {};

  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * Shape::groups;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * Shape::groups; first < rows;
       first += step) { // the same count for all threads, idle or not
    const std::int64_t row = first + group;
    const bool active = row < rows;
    const std::int64_t base = row * cols;
    const float rstd = active ? in.rstd[row] : 0.0f;
    const float mean = layer && active ? in.mean[row] : 0.0f;
    float normed[Shape::packs][pack]; // x̂
    float g[Shape::packs][pack];
    float sum_g = 0.0f;
    float sum_gx = 0.0f;
#pragma unroll
    for (int p = 0; p < Shape::packs; ++p) {
      const int col = (p * tpr + lane) * pack;
      if (active && col < cols) {
        float weight[pack];
        load_pack(in.x + base + col, normed[p]);
        load_pack(in.dy + base + col, g[p]);
        load_pack(in.weight + col, weight);
#pragma unroll
        for (int e = 0; e < pack; ++e) {
          normed[p][e] = (normed[p][e] - mean) * rstd;
          dweight[p][e] += g[p][e] * normed[p][e];
          if constexpr (layer) {
            dbias[p][e] += g[p][e];
          }
          g[p][e] *= weight[e];
          sum_g += g[p][e];
          sum_gx += g[p][e] * normed[p][e];
        }
      }
    }
    const float mean_g = layer ? group_sum<tpr>(sum_g) * scale : 0.0f;
    const float mean_gx = group_sum<tpr>(sum_gx) * scale;
#pragma unroll
    for (int p = 0; p < Shape::packs; ++p) {
      const int col = (p * tpr + lane) * pack;
      if (active && col < cols) {
#pragma unroll
        for (int e = 0; e < pack; ++e) {
          g[p][e] = rstd * (g[p][e] - mean_g - normed[p][e] * mean_gx);
        }
        store_pack(out.dx + base + col, g[p]);
      }
    }
  }

  const std::int64_t partial_rows = static_cast<std::int64_t>(gridDim.x) * Shape::groups;
  const std::int64_t partial_row = static_cast<std::int64_t>(blockIdx.x) * Shape::groups + group;
#pragma unroll
  for (int p = 0; p < Shape::packs; ++p) {
    const int col = (p * tpr + lane) * pack;
    if (col < cols) {
      store_pack(out.partials + partial_row * cols + col, dweight[p]);
      if constexpr (layer) {
        store_pack(out.partials + (partial_rows + partial_row) * cols + col, dbias[p]);
      }
    }
  }
}

// Any cols: the block's own partial row lives in memory. Partial rows: gridDim.x.
template <bool layer>
__global__ void __launch_bounds__(norm_threads)
    norm_backward_any_kernel(std::int64_t rows, int cols, NormBackwardInputs in,
                             NormBackwardOutputs out) {
  const float scale = 1.0f / static_cast<float>(cols);
  float* dweight = out.partials + static_cast<std::int64_t>(blockIdx.x) * cols;
  float* dbias = dweight + static_cast<std::int64_t>(gridDim.x) * cols;
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
    dweight[c] = 0.0f; // a thread meets only its own columns
    if constexpr (layer) {
      dbias[c] = 0.0f;
    }
  }
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int64_t base = row * cols;
    const float rstd = in.rstd[row];
    const float mean = layer ? in.mean[row] : 0.0f;
    float sum_g = 0.0f;
    float sum_gx = 0.0f;
    for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
      const float dy = load_one(in.dy + base + c);
      const float normed = (load_one(in.x + base + c) - mean) * rstd;
      const float g = dy * load_one(in.weight + c);
      sum_g += g;
      sum_gx += g * normed;
      dweight[c] += dy * normed;
      if constexpr (layer) {
        dbias[c] += dy;
      }
    }
    const float mean_g = layer ? group_sum<norm_threads>(sum_g) * scale : 0.0f;
    const float mean_gx = group_sum<norm_threads>(sum_gx) * scale;
    for (int c = static_cast<int>(threadIdx.x); c < cols; c += norm_threads) {
      const float normed = (load_one(in.x + base + c) - mean) * rstd;
      const float g = load_one(in.dy + base + c) * load_one(in.weight + c);
      store_one(out.dx + base + c, rstd * (g - mean_g - normed * mean_gx));
    }
  }
}

inline constexpr int reduce_columns = 32; // of a block, times 32 threads that share the rows

// first[c] = Σ over partials[0, :, c]; blockIdx.y = 1 does the same for partials[1] and `second`.
__global__ void __launch_bounds__(reduce_columns* warp_threads)
    reduce_partials_kernel(int partial_rows, int cols, const float* partials, bf16* first,
                           bf16* second) {
  __shared__ float sums[warp_threads][reduce_columns + 1];
  const float* from = partials + static_cast<std::int64_t>(blockIdx.y) * partial_rows * cols;
  bf16* to = blockIdx.y == 0 ? first : second;
  const int tx = static_cast<int>(threadIdx.x) % reduce_columns;
  const int ty = static_cast<int>(threadIdx.x) / reduce_columns;
  const int col = static_cast<int>(blockIdx.x) * reduce_columns + tx;
  float sum = 0.0f;
  if (col < cols) {
#pragma unroll 4
    for (int row = ty; row < partial_rows; row += warp_threads) {
      sum += from[static_cast<std::int64_t>(row) * cols + col];
    }
  }
  sums[ty][tx] = sum;
  __syncthreads();
  // Transposed: warp `ty` now adds up column `ty` of the block.
  const float total = group_sum<warp_threads>(sums[tx][ty]);
  const int own = static_cast<int>(blockIdx.x) * reduce_columns + ty;
  if (tx == 0 && own < cols) {
    store_one(to + own, total);
  }
}

} // namespace predictor::kernels
