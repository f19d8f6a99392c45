// Maps over arrays: activations and their gradients, casts, copies, sums, rotary embedding.
#pragma once

#include "operators/memory_bound/packs.cuh"

namespace predictor::kernels {

inline constexpr int map_threads = 256;
inline constexpr int map_unroll = 2; // packs a thread, so that more loads are in flight
inline constexpr std::int64_t map_block_elements = map_threads * map_unroll * pack;

struct Identity {
  static __device__ float apply(const float (&x)[1]) { return x[0]; }
};

struct Add {
  static __device__ float apply(const float (&x)[2]) { return x[0] + x[1]; }
};

struct Halve {
  static __device__ float apply(const float (&x)[1]) { return 0.5f * x[0]; }
};

// The tanh form, 0.5 x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³)  (arXiv:1606.08415).
inline constexpr float gelu_scale = 0.7978845608028654f;
inline constexpr float gelu_cubic = 0.044715f;

struct Gelu {
  static __device__ float apply(const float (&x)[1]) {
    const float u = gelu_scale * (x[0] + gelu_cubic * x[0] * x[0] * x[0]);
    return 0.5f * x[0] * (1.0f + tanhf(u));
  }
};

struct GeluBackward { // x[0] = dy, x[1] = x
  static __device__ float apply(const float (&x)[2]) {
    const float square = x[1] * x[1];
    const float t = tanhf(gelu_scale * (x[1] + gelu_cubic * x[1] * square));
    const float slope = gelu_scale * (1.0f + 3.0f * gelu_cubic * square);
    return x[0] * 0.5f * (1.0f + t + x[1] * (1.0f - t * t) * slope);
  }
};

// out[i] = Op(in[i]...); the output may be one of the inputs. All aligned to 16 bytes.
template <typename Op, typename Out, typename... In>
__global__ void __launch_bounds__(map_threads)
    map_kernel(std::int64_t count, Out* out, const In*... in) {
  constexpr int inputs = sizeof...(In);
  const std::int64_t first = blockIdx.x * map_block_elements + threadIdx.x * pack;
  float x[map_unroll][inputs][pack];
#pragma unroll
  for (int u = 0; u < map_unroll; ++u) {
    const std::int64_t i = first + u * (map_threads * pack);
    if (i + pack <= count) {
      int k = 0;
      (load_pack(in + i, x[u][k++]), ...);
    }
  }
#pragma unroll
  for (int u = 0; u < map_unroll; ++u) {
    const std::int64_t i = first + u * (map_threads * pack);
    if (i + pack <= count) {
      float y[pack];
#pragma unroll
      for (int e = 0; e < pack; ++e) {
        float arguments[inputs];
#pragma unroll
        for (int k = 0; k < inputs; ++k) {
          arguments[k] = x[u][k][e];
        }
        y[e] = Op::apply(arguments);
      }
      store_pack(out + i, y);
    } else {
      for (std::int64_t e = i; e < count; ++e) { // the tail, by one thread
        const float arguments[inputs] = {load_one(in + e)...};
        store_one(out + e, Op::apply(arguments));
      }
    }
  }
}

__device__ inline float sigmoid(float x) {
  return 1.0f / (1.0f + __expf(-x));
}

__device__ inline float silu_mul(float gate, float up) {
  return gate * sigmoid(gate) * up;
}

struct GateGradients {
  float gate;
  float up;
};

__device__ inline GateGradients silu_mul_gradients(float dy, float gate, float up) {
  const float s = sigmoid(gate);
  return {dy * up * s * (1.0f + gate * (1.0f - s)), dy * gate * s};
}

// Where a thread works on a matrix of rows × cols whose elements are below 2^32: `width` columns.
struct Place {
  std::uint32_t row;
  std::uint32_t col;
  bool valid;
};

template <int width>
__device__ inline Place place_of(std::uint32_t rows, std::uint32_t cols) {
  const std::uint32_t per_row = cols / width;
  const std::uint64_t item = static_cast<std::uint64_t>(blockIdx.x) * map_threads + threadIdx.x;
  const std::uint32_t row = static_cast<std::uint32_t>(item) / per_row;
  const std::uint32_t col = (static_cast<std::uint32_t>(item) - row * per_row) * width;
  return {row, col, item < static_cast<std::uint64_t>(rows) * per_row};
}

// gate_up[rows, 2·cols] holds the gates in its left half; y[rows, cols]. Where `weighted`, a row of
// y is multiplied by its probability.
template <bool packed, bool weighted>
__global__ void __launch_bounds__(map_threads)
    silu_mul_kernel(std::uint32_t rows, std::uint32_t cols, const bf16* gate_up,
                    const float* probabilities, bf16* y) {
  constexpr int width = packed ? pack : 1;
  const Place place = place_of<width>(rows, cols);
  if (!place.valid) {
    return;
  }
  const bf16* gate = gate_up + 2 * static_cast<std::int64_t>(place.row) * cols + place.col;
  const float weight = weighted ? probabilities[place.row] : 1.0f;
  float g[width], u[width];
  load<width>(gate, g);
  load<width>(gate + cols, u);
#pragma unroll
  for (int e = 0; e < width; ++e) {
    g[e] = weight * silu_mul(g[e], u[e]);
  }
  store<width>(y + static_cast<std::int64_t>(place.row) * cols + place.col, g);
}

template <bool packed>
__global__ void __launch_bounds__(map_threads)
    silu_mul_backward_kernel(std::uint32_t rows, std::uint32_t cols, const bf16* dy,
                             const bf16* gate_up, bf16* dgate_up) {
  constexpr int width = packed ? pack : 1;
  const Place place = place_of<width>(rows, cols);
  if (!place.valid) {
    return;
  }
  const std::int64_t at = 2 * static_cast<std::int64_t>(place.row) * cols + place.col;
  float d[width], g[width], u[width];
  load<width>(dy + static_cast<std::int64_t>(place.row) * cols + place.col, d);
  load<width>(gate_up + at, g);
  load<width>(gate_up + at + cols, u);
#pragma unroll
  for (int e = 0; e < width; ++e) {
    const GateGradients gradients = silu_mul_gradients(d[e], g[e], u[e]);
    g[e] = gradients.gate;
    u[e] = gradients.up;
  }
  store<width>(dgate_up + at, g);
  store<width>(dgate_up + at + cols, u);
}

// The backward pass of the weighted form, a block a row, which sums the probability's gradient.
template <bool packed>
__global__ void __launch_bounds__(map_threads)
    silu_mul_probs_backward_kernel(int cols, const bf16* dy, const bf16* gate_up,
                                   const float* probabilities, bf16* dgate_up,
                                   float* dprobabilities) {
  constexpr int width = packed ? pack : 1;
  const std::int64_t row = blockIdx.x;
  const float weight = probabilities[row];
  float sum = 0.0f;
  for (int c = static_cast<int>(threadIdx.x) * width; c < cols; c += map_threads * width) {
    const std::int64_t at = 2 * row * cols + c;
    float d[width], g[width], u[width];
    load<width>(dy + row * cols + c, d);
    load<width>(gate_up + at, g);
    load<width>(gate_up + at + cols, u);
#pragma unroll
    for (int e = 0; e < width; ++e) {
      sum += d[e] * silu_mul(g[e], u[e]);
      const GateGradients gradients = silu_mul_gradients(d[e] * weight, g[e], u[e]);
      g[e] = gradients.gate;
      u[e] = gradients.up;
    }
    store<width>(dgate_up + at, g);
    store<width>(dgate_up + at + cols, u);
  }
  sum = group_sum<map_threads>(sum);
  if (threadIdx.x == 0) {
    dprobabilities[row] = sum;
  }
}

// Rotates the pairs (x[c], x[c + cols/2]) of a head (arXiv:2104.09864, in the half-split layout of
// Llama). Tables cosine, sine[positions, cols/2]; `heads` neighbouring rows are one position.
template <bool packed>
__global__ void __launch_bounds__(map_threads)
    rotary_kernel(std::uint32_t rows, std::uint32_t cols, std::uint32_t heads,
                  std::uint32_t positions, const bf16* x, const float* cosine, const float* sine,
                  bf16* y) {
  constexpr int width = packed ? pack : 1;
  const std::uint32_t half = cols / 2;
  const Place place = place_of<width>(rows, half);
  if (!place.valid) {
    return;
  }
  const std::int64_t at = static_cast<std::int64_t>(place.row) * cols + place.col;
  const std::int64_t table =
      static_cast<std::int64_t>(place.row / heads % positions) * half + place.col;
  float a[width], b[width], c[width], s[width], left[width], right[width];
  load<width>(x + at, a);
  load<width>(x + at + half, b);
  load<width>(cosine + table, c);
  load<width>(sine + table, s);
#pragma unroll
  for (int e = 0; e < width; ++e) {
    left[e] = a[e] * c[e] - b[e] * s[e];
    right[e] = b[e] * c[e] + a[e] * s[e];
  }
  store<width>(y + at, left);
  store<width>(y + at + half, right);
}

} // namespace predictor::kernels
