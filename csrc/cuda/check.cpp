#include "cuda/check.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <atomic>

namespace predictor {
namespace {

std::atomic<bool> abandoned{false};

// After one of these every later call of the process fails (CUDA runtime API, cudaError_t:
// "the process must be terminated and relaunched").
bool is_sticky(cudaError_t status) {
  switch (status) {
  case cudaErrorECCUncorrectable:
  case cudaErrorNvlinkUncorrectable:
  case cudaErrorIllegalAddress:
  case cudaErrorLaunchTimeout:
  case cudaErrorAssert:
  case cudaErrorHardwareStackError:
  case cudaErrorIllegalInstruction:
  case cudaErrorMisalignedAddress:
  case cudaErrorInvalidAddressSpace:
  case cudaErrorInvalidPc:
  case cudaErrorLaunchFailure:
  case cudaErrorExternalDevice:
  case cudaErrorUnknown:
    return true;
  default:
    return false;
  }
}

} // namespace

void raise_cuda_error(cudaError_t status, const char* call, std::source_location where) {
  (void)cudaGetLastError(); // clears what is not sticky
  const std::string message =
      text("CUDA: ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ") from ", call,
           " at ", where.file_name(), ':', where.line());
  if (status == cudaErrorMemoryAllocation) {
    throw OutOfDeviceMemory(message);
  }
  if (is_sticky(status)) {
    throw DeviceFault(text(message, "; the device is lost to this process: end it"));
  }
  throw NativeError(message);
}

void abandon_device() noexcept {
  abandoned = true;
}

bool device_abandoned() noexcept {
  return abandoned;
}

void StreamDeleter::operator()(cudaStream_t stream) const noexcept {
  if (!abandoned) {
    (void)cudaStreamDestroy(stream);
  }
}

void EventDeleter::operator()(cudaEvent_t event) const noexcept {
  if (!abandoned) {
    (void)cudaEventDestroy(event);
  }
}

void GraphDeleter::operator()(cudaGraph_t graph) const noexcept {
  if (!abandoned) {
    (void)cudaGraphDestroy(graph);
  }
}

void GraphExecDeleter::operator()(cudaGraphExec_t graph) const noexcept {
  if (!abandoned) {
    (void)cudaGraphExecDestroy(graph);
  }
}

void DeviceMemoryDeleter::operator()(void* memory) const noexcept {
  if (!abandoned) {
    (void)cudaFree(memory);
  }
}

void HostMemoryDeleter::operator()(void* memory) const noexcept {
  if (!abandoned) {
    (void)cudaFreeHost(memory);
  }
}

DeviceMemory allocate_device_memory(std::size_t bytes) {
  void* memory = nullptr;
  CUDA_CHECK(cudaMalloc(&memory, bytes));
  return DeviceMemory(memory);
}

} // namespace predictor
