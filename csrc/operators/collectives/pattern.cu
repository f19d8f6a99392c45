#include "cuda/check.hpp"
#include "errors.hpp"
#include "operators/collectives/pattern.hpp"

#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace predictor {
namespace {

constexpr int block_threads = 256;
constexpr std::int64_t max_blocks = 1 << 16;

unsigned blocks_for(std::int64_t items) {
  const std::int64_t blocks = (items + block_threads - 1) / block_threads;
  return static_cast<unsigned>(std::clamp<std::int64_t>(blocks, 1, max_blocks));
}

template <typename T>
__global__ void __launch_bounds__(block_threads)
    write_kernel(T* data, std::int64_t count, Pattern pattern, int rank) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * block_threads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
       i < count; i += stride) {
    data[i] = static_cast<T>(static_cast<float>(pattern_value(pattern, rank, i)));
  }
}

template <typename T>
__global__ void __launch_bounds__(block_threads)
    compare_kernel(const T* data, Pattern pattern, Arrangement arrangement,
                   unsigned long long* mismatches) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * block_threads;
  unsigned long long found = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
       i < arrangement.count; i += stride) {
    const auto expected = static_cast<float>(expected_value(pattern, arrangement, i));
    found += static_cast<float>(data[i]) == expected ? 0 : 1; // poison is a NaN, equal to nothing
  }
  if (found > 0) {
    atomicAdd(mismatches, found);
  }
}

template <typename Use>
void with_float_type(DataType type, Use use) {
  switch (type) {
  case DataType::bf16:
    return use(static_cast<__nv_bfloat16*>(nullptr));
  case DataType::fp16:
    return use(static_cast<__half*>(nullptr));
  case DataType::fp32:
    return use(static_cast<float*>(nullptr));
  default:
    throw Unsupported("patterns of collectives are bf16, fp16 or fp32");
  }
}

} // namespace

void write_pattern(void* data, DataType type, std::int64_t count, const Pattern& pattern, int rank,
                   cudaStream_t stream) {
  with_float_type(type, [&]<typename T>(T*) {
    write_kernel<T><<<blocks_for(count), block_threads, 0, stream>>>(static_cast<T*>(data), count,
                                                                     pattern, rank);
  });
  CUDA_CHECK(cudaGetLastError());
}

void count_mismatches(const void* data, DataType type, const Pattern& pattern,
                      const Arrangement& arrangement, unsigned long long* mismatches,
                      cudaStream_t stream) {
  with_float_type(type, [&]<typename T>(T*) {
    compare_kernel<T><<<blocks_for(arrangement.count), block_threads, 0, stream>>>(
        static_cast<const T*>(data), pattern, arrangement, mismatches);
  });
  CUDA_CHECK(cudaGetLastError());
}

} // namespace predictor
