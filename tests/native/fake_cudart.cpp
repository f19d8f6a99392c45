#include "fake_cudart.hpp"

#include "cuda/primitives.hpp"

#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <map>
#include <random>
#include <vector>

namespace {

struct Work {
  double seconds;
  std::function<void()> run;
};

using Graph = std::vector<Work>;

struct Event {
  double seconds = 0.0;
};

std::map<void*, std::size_t> sizes;
Graph* capturing = nullptr;

void perform(const Work& work) {
  fake::runtime().clock_seconds += work.seconds;
  work.run();
}

cudaError_t query() {
  fake::Runtime& state = fake::runtime();
  if (state.next_error != 0) {
    return static_cast<cudaError_t>(state.next_error);
  }
  return state.hangs ? cudaErrorNotReady : cudaSuccess;
}

} // namespace

fake::Runtime& fake::runtime() {
  static Runtime state;
  return state;
}

void fake::enqueue(double seconds, std::function<void()> work) {
  if (capturing != nullptr) {
    capturing->push_back({seconds, std::move(work)});
  } else {
    perform({seconds, work});
  }
}

// --- the runtime's own functions, as far as the backend calls them
// --------------------------------

extern "C" {

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (bytes > fake::runtime().free_bytes) {
    return cudaErrorMemoryAllocation;
  }
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  sizes[*memory] = bytes;
  fake::runtime().free_bytes -= bytes;
  ++fake::runtime().allocations;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  fake::runtime().free_bytes += sizes[memory];
  --fake::runtime().allocations;
  sizes.erase(memory);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *available = fake::runtime().free_bytes;
  *total = fake::runtime().free_bytes;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = std::calloc(1, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrL2CacheSize ? 1 << 20 : 2;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  std::strcpy(found->name, "fake");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int, int) {
  std::strcpy(id, "0000:00:00.0");
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(std::malloc(1));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::free(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t) {
  return query();
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  return query();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  capturing = new Graph;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(capturing);
  capturing = nullptr;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const Work& work : *reinterpret_cast<Graph*>(executable)) {
    perform(work);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Graph*>(executable);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  reinterpret_cast<Event*>(event)->seconds = fake::runtime().clock_seconds;
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t last) {
  *milliseconds = static_cast<float>(
      1e3 * (reinterpret_cast<Event*>(last)->seconds - reinterpret_cast<Event*>(first)->seconds));
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorFake";
}
const char* cudaGetErrorString(cudaError_t) {
  return "fake";
}

} // extern "C"

// --- the device's own kernels
// ---------------------------------------------------------------------

namespace predictor {
namespace {

double value_of(const void* data, DataType type, std::int64_t i) {
  switch (type) {
  case DataType::bf16:
    return static_cast<double>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]));
  case DataType::fp32:
    return static_cast<double>(static_cast<const float*>(data)[i]);
  case DataType::int64:
    return static_cast<double>(static_cast<const std::int64_t*>(data)[i]);
  default:
    return static_cast<const unsigned char*>(data)[i];
  }
}

} // namespace

void fill(void* data, DataType type, std::int64_t count, const Fill& how, std::uint64_t seed,
          cudaStream_t) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(how.low, how.high);
  // The arenas are large: what a test looks at lies in the first elements.
  for (std::int64_t i = 0; i < std::min<std::int64_t>(count, 1 << 16); ++i) {
    if (type == DataType::bf16) {
      static_cast<__nv_bfloat16*>(data)[i] =
          __float2bfloat16(static_cast<float>(uniform(generator)));
    } else if (type == DataType::fp32) {
      static_cast<float*>(data)[i] = static_cast<float>(uniform(generator));
    }
  }
}

void read_strided(const void* data, DataType type, std::int64_t start, std::int64_t stride,
                  std::int64_t count, double* out, cudaStream_t) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = value_of(data, type, start + i * stride);
  }
}

void read_indexed(const void* data, DataType type, const std::int64_t* indices, std::int64_t count,
                  double* out, cudaStream_t) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = value_of(data, type, indices[i]);
  }
}

void launch_gate(GateFlags*, std::uint32_t, double, cudaStream_t) {}

} // namespace predictor
