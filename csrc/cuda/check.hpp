// CUDA's status codes as exceptions, and handles that free themselves.
#pragma once

#include <cuda_runtime.h>
#include <memory>
#include <source_location>
#include <type_traits>

namespace predictor {

// Raises OutOfDeviceMemory, DeviceFault for a sticky error, or NativeError.
[[noreturn]] void raise_cuda_error(cudaError_t status, const char* call,
                                   std::source_location where = std::source_location::current());

// Set once the watchdog gave up: freeing would then block for ever, so nothing is freed any more.
void abandon_device() noexcept;
[[nodiscard]] bool device_abandoned() noexcept;

#define CUDA_CHECK(call)                                                                           \
  do {                                                                                             \
    if (const cudaError_t status_ = (call); status_ != cudaSuccess) {                              \
      ::predictor::raise_cuda_error(status_, #call);                                               \
    }                                                                                              \
  } while (false)

struct StreamDeleter {
  void operator()(cudaStream_t stream) const noexcept;
};
struct EventDeleter {
  void operator()(cudaEvent_t event) const noexcept;
};
struct GraphDeleter {
  void operator()(cudaGraph_t graph) const noexcept;
};
struct GraphExecDeleter {
  void operator()(cudaGraphExec_t graph) const noexcept;
};
struct DeviceMemoryDeleter {
  void operator()(void* memory) const noexcept;
};
struct HostMemoryDeleter {
  void operator()(void* memory) const noexcept;
};

using StreamHandle = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDeleter>;
using EventHandle = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>;
using GraphHandle = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphDeleter>;
using GraphExecHandle = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphExecDeleter>;
using DeviceMemory = std::unique_ptr<void, DeviceMemoryDeleter>;
using HostMemory = std::unique_ptr<void, HostMemoryDeleter>;

[[nodiscard]] DeviceMemory allocate_device_memory(std::size_t bytes);

} // namespace predictor
