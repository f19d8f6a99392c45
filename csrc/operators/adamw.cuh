// One step of AdamW over flat arrays.
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

// Updates p, m and v in place; with `copied`, also writes p in bf16 (masters of mixed precision).
template <typename State, bool copied>
__global__ void __launch_bounds__(adamw_threads)
    adamw_kernel(std::int64_t count, AdamW adamw, State* p, State* m, State* v, const State* g,
                 bf16* copy) {
  const std::int64_t i =
      (static_cast<std::int64_t>(blockIdx.x) * adamw_threads + threadIdx.x) * pack;
  if (i + pack <= count) {
    float ps[pack], ms[pack], vs[pack], gs[pack];
    load_pack(p + i, ps);
    load_pack(m + i, ms);
    load_pack(v + i, vs);
    load_pack(g + i, gs);
#pragma unroll
    for (int e = 0; e < pack; ++e) {
      adamw.step(ps[e], ms[e], vs[e], gs[e]);
    }
    store_pack(p + i, ps);
    store_pack(m + i, ms);
    store_pack(v + i, vs);
    if constexpr (copied) {
      store_pack(copy + i, ps);
    }
    return;
  }
  for (std::int64_t e = i; e < count; ++e) {
    float pe = load_one(p + e);
    float me = load_one(m + e);
    float ve = load_one(v + e);
    adamw.step(pe, me, ve, load_one(g + e));
    store_one(p + e, pe);
    store_one(m + e, me);
    store_one(v + e, ve);
    if constexpr (copied) {
      store_one(copy + e, pe);
    }
  }
}

} // namespace predictor::kernels
