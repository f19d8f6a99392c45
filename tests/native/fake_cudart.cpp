#include "fake_cudart.hpp"

#include "cuda/primitives.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <map>
#include <mutex>
#include <random>
#include <utility>
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

// The arenas are large: what a test looks at lies at their beginnings.
constexpr std::size_t touched_bytes = std::size_t{4} << 20;

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

// Counts a call; the error that it is to report.
cudaError_t called(const char* name) {
  static std::mutex counting; // plans are built in a thread of their own
  const std::lock_guard<std::mutex> lock(counting);
  fake::Runtime& state = fake::runtime();
  const bool due = ++state.calls[name] == state.fail_at && state.fail_call == name;
  return due ? static_cast<cudaError_t>(state.fail_with) : cudaSuccess;
}

#define FAILS_ON_DEMAND(name)                                                                      \
  if (const cudaError_t due = called(#name); due != cudaSuccess)                                   \
  return due

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
  FAILS_ON_DEMAND(cudaMalloc);
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
  return called("cudaFree");
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  FAILS_ON_DEMAND(cudaMemGetInfo);
  *available = fake::runtime().free_bytes;
  *total = fake::runtime().free_bytes;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  FAILS_ON_DEMAND(cudaHostAlloc);
  *memory = std::calloc(1, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return called("cudaFreeHost");
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  FAILS_ON_DEMAND(cudaHostGetDevicePointer);
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  FAILS_ON_DEMAND(cudaMemcpy);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  FAILS_ON_DEMAND(cudaMemcpyAsync);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  FAILS_ON_DEMAND(cudaMemsetAsync);
  std::memset(memory, value, std::min(bytes, touched_bytes));
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
  FAILS_ON_DEMAND(cudaSetDevice);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  FAILS_ON_DEMAND(cudaGetDeviceCount);
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  FAILS_ON_DEMAND(cudaDeviceGetAttribute);
  *value = attribute == cudaDevAttrL2CacheSize ? 1 << 20 : 2;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  FAILS_ON_DEMAND(cudaGetDeviceProperties);
  std::strcpy(found->name, "fake");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int, int) {
  FAILS_ON_DEMAND(cudaDeviceGetPCIBusId);
  std::strcpy(id, "0000:00:00.0");
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  FAILS_ON_DEMAND(cudaDriverGetVersion);
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  FAILS_ON_DEMAND(cudaRuntimeGetVersion);
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  FAILS_ON_DEMAND(cudaStreamCreateWithFlags);
  *stream = reinterpret_cast<cudaStream_t>(std::malloc(1));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::free(stream);
  return called("cudaStreamDestroy");
}

cudaError_t cudaStreamQuery(cudaStream_t) {
  FAILS_ON_DEMAND(cudaStreamQuery);
  return query();
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  FAILS_ON_DEMAND(cudaEventQuery);
  return query();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  FAILS_ON_DEMAND(cudaStreamBeginCapture);
  capturing = new Graph;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  auto* captured = std::exchange(capturing, nullptr); // the capture is over either way
  if (const cudaError_t due = called("cudaStreamEndCapture"); due != cudaSuccess) {
    delete captured;
    *graph = nullptr;
    return due;
  }
  *graph = reinterpret_cast<cudaGraph_t>(captured);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  FAILS_ON_DEMAND(cudaGraphInstantiate);
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  FAILS_ON_DEMAND(cudaGraphLaunch);
  for (const Work& work : *reinterpret_cast<Graph*>(executable)) {
    perform(work);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return called("cudaGraphDestroy");
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Graph*>(executable);
  return called("cudaGraphExecDestroy");
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  FAILS_ON_DEMAND(cudaEventCreate);
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  FAILS_ON_DEMAND(cudaEventCreateWithFlags);
  return cudaEventCreate(event);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  FAILS_ON_DEMAND(cudaStreamWaitEvent);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return called("cudaEventDestroy");
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  FAILS_ON_DEMAND(cudaEventRecord);
  reinterpret_cast<Event*>(event)->seconds = fake::runtime().clock_seconds;
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t last) {
  FAILS_ON_DEMAND(cudaEventElapsedTime);
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
  for (std::int64_t i = 0; i < std::min<std::int64_t>(count, 1 << 16); ++i) {
    if (type == DataType::bf16) {
      static_cast<__nv_bfloat16*>(data)[i] =
          __float2bfloat16(static_cast<float>(uniform(generator)));
    } else if (type == DataType::fp32) {
      static_cast<float*>(data)[i] = static_cast<float>(uniform(generator));
    }
  }
}

void read_lines(const void* data, DataType type, const Lines& lines, double* out, cudaStream_t) {
  for (std::int64_t i = 0; i < lines.count; ++i) {
    for (std::int64_t j = 0; j < lines.width; ++j) {
      out[i * lines.width + j] = value_of(data, type, lines.start + i * lines.stride + j);
    }
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
