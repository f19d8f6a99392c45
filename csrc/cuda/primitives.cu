#include "cuda/check.hpp"
#include "cuda/primitives.hpp"

#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

namespace predictor {
namespace {

constexpr int block_threads = 256;
constexpr std::int64_t max_blocks = 1 << 16;

unsigned blocks_for(std::int64_t items) {
  const std::int64_t blocks = (items + block_threads - 1) / block_threads;
  return static_cast<unsigned>(std::clamp<std::int64_t>(blocks, 1, max_blocks));
}

// splitmix64 of a counter: stateless, so that a fill needs no memory and no order.
__device__ std::uint64_t random_bits(std::uint64_t seed, std::uint64_t counter) {
  std::uint64_t z = seed * 0xd1342543de82ef95ULL + (counter + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

__device__ float unit_interval(std::uint32_t bits) { // in (0, 1]
  return (static_cast<float>(bits >> 8) + 1.0f) * 0x1.0p-24f;
}

template <typename T>
__device__ T convert(float value) {
  return static_cast<T>(value);
}
template <>
__device__ __nv_bfloat16 convert(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ __half convert(float value) {
  return __float2half_rn(value);
}

// A thread writes the pair of elements 2i and 2i + 1, as Box and Muller's normals come in pairs.
template <typename T>
__global__ void __launch_bounds__(block_threads)
    fill_kernel(T* data, std::int64_t count, Fill how, std::uint64_t seed) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * block_threads;
  for (std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
       2 * pair < count; pair += stride) {
    const std::uint64_t bits = random_bits(seed, static_cast<std::uint64_t>(pair));
    const float u = unit_interval(static_cast<std::uint32_t>(bits));
    const float v = unit_interval(static_cast<std::uint32_t>(bits >> 32));
    T values[2];
    if (how.kind == Fill::Kind::normal) {
      const float radius = static_cast<float>(how.high) * sqrtf(-2.0f * logf(u));
      float sine = 0.0f;
      float cosine = 0.0f;
      sincospif(2.0f * v, &sine, &cosine);
      values[0] = convert<T>(radius * cosine);
      values[1] = convert<T>(radius * sine);
    } else if (how.kind == Fill::Kind::index) {
      const auto range = static_cast<std::uint64_t>(how.high);
      values[0] = static_cast<T>((bits & 0xffffffffULL) * range >> 32);
      values[1] = static_cast<T>((bits >> 32) * range >> 32);
    } else {
      const float low = static_cast<float>(how.low);
      const float width = static_cast<float>(how.high) - low;
      values[0] = convert<T>(low + width * u);
      values[1] = convert<T>(low + width * v);
    }
    data[2 * pair] = values[0];
    if (2 * pair + 1 < count) {
      data[2 * pair + 1] = values[1];
    }
  }
}

template <typename T>
__device__ double to_double(T value) {
  return static_cast<double>(value);
}
template <>
__device__ double to_double(__nv_fp8_e4m3 value) {
  return static_cast<double>(static_cast<float>(value));
}
template <>
__device__ double to_double(__nv_fp8_e5m2 value) {
  return static_cast<double>(static_cast<float>(value));
}
template <>
__device__ double to_double(__nv_bfloat16 value) {
  return static_cast<double>(__bfloat162float(value));
}
template <>
__device__ double to_double(__half value) {
  return static_cast<double>(__half2float(value));
}

template <typename T>
__global__ void read_lines_kernel(const T* data, Lines lines, double* out) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * block_threads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
       i < lines.count * lines.width; i += step) {
    out[i] = to_double(data[lines.start + i / lines.width * lines.stride + i % lines.width]);
  }
}

template <typename T>
__global__ void read_indexed_kernel(const T* data, const std::int64_t* indices, std::int64_t count,
                                    double* out) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * block_threads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
       i < count; i += step) {
    out[i] = to_double(data[indices[i]]);
  }
}

__device__ std::uint64_t device_nanoseconds() {
  std::uint64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void gate_kernel(volatile GateFlags* flags, std::uint32_t ticket,
                            std::uint64_t timeout_nanoseconds) {
  const std::uint64_t begin = device_nanoseconds();
  // The difference, so that tickets may wrap around.
  while (static_cast<std::int32_t>(flags->opened - ticket) < 0) {
    if (device_nanoseconds() - begin > timeout_nanoseconds) {
      flags->expired = ticket;
      __threadfence_system();
      return;
    }
    __nanosleep(200);
  }
}

// Calls `use` with a null pointer of the type that `type` names.
template <typename Use>
void with_type(DataType type, Use use) {
  switch (type) {
  case DataType::bf16:
    return use(static_cast<__nv_bfloat16*>(nullptr));
  case DataType::fp16:
    return use(static_cast<__half*>(nullptr));
  case DataType::fp32:
    return use(static_cast<float*>(nullptr));
  case DataType::e4m3:
    return use(static_cast<__nv_fp8_e4m3*>(nullptr));
  case DataType::e5m2:
    return use(static_cast<__nv_fp8_e5m2*>(nullptr));
  case DataType::int64:
    return use(static_cast<std::int64_t*>(nullptr));
  case DataType::byte:
    return use(static_cast<unsigned char*>(nullptr));
  }
}

} // namespace

void fill(void* data, DataType type, std::int64_t count, const Fill& how, std::uint64_t seed,
          cudaStream_t stream) {
  if (how.kind == Fill::Kind::none || count <= 0) {
    return;
  }
  with_type(type, [&]<typename T>(T*) {
    fill_kernel<T><<<blocks_for((count + 1) / 2), block_threads, 0, stream>>>(static_cast<T*>(data),
                                                                              count, how, seed);
  });
  CUDA_CHECK(cudaGetLastError());
}

void read_lines(const void* data, DataType type, const Lines& lines, double* out,
                cudaStream_t stream) {
  with_type(type, [&]<typename T>(T*) {
    read_lines_kernel<T><<<blocks_for(lines.count * lines.width), block_threads, 0, stream>>>(
        static_cast<const T*>(data), lines, out);
  });
  CUDA_CHECK(cudaGetLastError());
}

void read_indexed(const void* data, DataType type, const std::int64_t* indices, std::int64_t count,
                  double* out, cudaStream_t stream) {
  with_type(type, [&]<typename T>(T*) {
    read_indexed_kernel<T><<<blocks_for(count), block_threads, 0, stream>>>(
        static_cast<const T*>(data), indices, count, out);
  });
  CUDA_CHECK(cudaGetLastError());
}

void launch_gate(GateFlags* flags, std::uint32_t ticket, double timeout_seconds,
                 cudaStream_t stream) {
  gate_kernel<<<1, 1, 0, stream>>>(flags, ticket,
                                   static_cast<std::uint64_t>(timeout_seconds * 1e9));
  CUDA_CHECK(cudaGetLastError());
}

} // namespace predictor
