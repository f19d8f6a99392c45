// One step of AdamW over flat arrays or over lists of tensors.
#pragma once

#include "operators/memory_bound/packs.cuh"

namespace predictor::kernels {

inline constexpr int adamw_threads = 256;

// Decoupled weight decay (arXiv:1711.05101, algorithm 2).
struct AdamW {
  float learning_rate = 1e-3f;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float epsilon = 1e-8f;
  float weight_decay = 0.1f;
  float correction1 = 0.1f;  // 1 - beta1^step, at the first step
  float correction2 = 0.05f; // 1 - beta2^step

  __host__ __device__ void step(float& p, float& m, float& v, float g) const {
    m = beta1 * m + (1.0f - beta1) * g;
    v = beta2 * v + (1.0f - beta2) * g * g;
    const float update = (m / correction1) / (sqrtf(v / correction2) + epsilon);
    p -= learning_rate * (update + weight_decay * p);
  }
};

// Parameters, moments and gradients; `copy`, unless null, gets the parameters in bf16 (masters of
// mixed precision).
template <typename Param, typename State>
struct AdamWArrays {
  Param* p;
  State* m;
  State* v;
  const State* g;
  bf16* copy;
};

// Steps the pack at `i`, an aligned one, or what is left of it before `end`.
template <bool copied, typename Param, typename State>
__device__ inline void adamw_pack(const AdamW& adamw, const AdamWArrays<Param, State>& arrays,
                                  std::int64_t i, std::int64_t end) {
  if (i + pack <= end) {
    float p[pack], m[pack], v[pack], g[pack];
    load_pack(arrays.p + i, p);
    load_pack(arrays.m + i, m);
    load_pack(arrays.v + i, v);
    load_pack(arrays.g + i, g);
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      adamw.step(p[e], m[e], v[e], g[e]);
    }
    store_pack(arrays.p + i, p);
    store_pack(arrays.m + i, m);
    store_pack(arrays.v + i, v);
    if constexpr (copied) {
      store_pack(arrays.copy + i, p);
    }
    return;
  }
  for (std::int64_t e = i; e < end; ++e) {
    float p = load_one(arrays.p + e);
    float m = load_one(arrays.m + e);
    float v = load_one(arrays.v + e);
    adamw.step(p, m, v, load_one(arrays.g + e));
    store_one(arrays.p + e, p);
    store_one(arrays.m + e, m);
    store_one(arrays.v + e, v);
    if constexpr (copied) {
      store_one(arrays.copy + e, p);
    }
  }
}

// One flat buffer, in place.
template <bool copied, typename Param, typename State>
__global__ void __launch_bounds__(adamw_threads)
    adamw_kernel(std::int64_t count, AdamW adamw, AdamWArrays<Param, State> arrays) {
  const std::int64_t i =
      (static_cast<std::int64_t>(blockIdx.x) * adamw_threads + threadIdx.x) * pack;
  if (i < count) {
    adamw_pack<copied>(adamw, arrays, i, count);
  }
}

// A launch over many tensors: a block steps one chunk of one of them, as the multi-tensor kernels
// of Apex and Transformer Engine do. The list is an argument of the kernel, which bounds its
// length.
inline constexpr int list_tensors = 36;
inline constexpr int list_chunks = 320;
inline constexpr std::int64_t chunk_elements = 65536;

struct TensorList {
  std::int64_t begin[list_tensors]; // of a tensor, in elements; a multiple of a pack
  std::int64_t end[list_tensors];
  int chunk[list_chunks];            // of the block, counted within its tensor
  unsigned char tensor[list_chunks]; // of the block
};

template <bool copied, typename Param, typename State>
__global__ void __launch_bounds__(adamw_threads)
    adamw_list_kernel(TensorList list, AdamW adamw, AdamWArrays<Param, State> arrays) {
  const int tensor = list.tensor[blockIdx.x];
  const std::int64_t first = list.begin[tensor] + list.chunk[blockIdx.x] * chunk_elements;
  const std::int64_t last = first + chunk_elements;
  const std::int64_t end = last < list.end[tensor] ? last : list.end[tensor];
  for (std::int64_t i = first + static_cast<std::int64_t>(threadIdx.x) * pack; i < end;
       i += adamw_threads * pack) {
    adamw_pack<copied>(adamw, arrays, i, end);
  }
}

} // namespace predictor::kernels
