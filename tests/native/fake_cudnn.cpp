// cuDNN's backend without a GPU, for tests of the calls that cudnn-frontend makes to it: every
// graph has one plan, which does nothing, and every call can be made to fail. The few functions of
// the CUDA runtime that cudnn-frontend looks up are here too.
#include "failing.hpp"

#include <cstring>
#include <cuda_runtime.h>
#include <cudnn.h>

namespace {

cudnnStatus_t done(const char* name) {
  return static_cast<cudnnStatus_t>(failing::called(name));
}

// As cuDNN, nothing is done with a descriptor that was not made.
cudnnStatus_t done(const char* name, cudnnBackendDescriptor_t descriptor) {
  const cudnnStatus_t status = done(name);
  return descriptor == nullptr ? CUDNN_STATUS_BAD_PARAM : status;
}

} // namespace

EXPORTED std::size_t cudnnGetVersion() {
  return CUDNN_VERSION;
}
EXPORTED std::size_t cudnnGetCudartVersion() {
  return CUDART_VERSION;
}
EXPORTED const char* cudnnGetErrorString(cudnnStatus_t) {
  return "fake error";
}
EXPORTED void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::strncpy(message, "as asked for", size);
}
EXPORTED cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  static char object = 0;
  const cudnnStatus_t status = done("cudnnCreate");
  *handle = status == CUDNN_STATUS_SUCCESS ? reinterpret_cast<cudnnHandle_t>(&object) : nullptr;
  return status;
}
EXPORTED cudnnStatus_t cudnnDestroy(cudnnHandle_t) {
  return done("cudnnDestroy");
}
EXPORTED cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) {
  return done("cudnnSetStream");
}
EXPORTED cudnnStatus_t cudnnGetStream(cudnnHandle_t, cudaStream_t* stream) {
  *stream = nullptr;
  return done("cudnnGetStream");
}

EXPORTED cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t,
                                                    cudnnBackendDescriptor_t* descriptor) {
  *descriptor = nullptr;
  const cudnnStatus_t status = done("cudnnBackendCreateDescriptor");
  if (status == CUDNN_STATUS_SUCCESS) {
    *descriptor = new char;
  }
  return status;
}
EXPORTED cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete static_cast<char*>(descriptor);
  return done("cudnnBackendDestroyDescriptor");
}
EXPORTED cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                                cudnnBackendAttributeName_t,
                                                cudnnBackendAttributeType_t type,
                                                std::int64_t count, const void* values) {
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR && count > 0 &&
      *static_cast<const cudnnBackendDescriptor_t*>(values) == nullptr) {
    descriptor = nullptr;
  }
  return done("cudnnBackendSetAttribute", descriptor);
}
// One engine by the heuristics, of which nothing is to be said but zeros.
EXPORTED cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor,
                                                cudnnBackendAttributeName_t name,
                                                cudnnBackendAttributeType_t type,
                                                std::int64_t asked, std::int64_t* count,
                                                void* values) {
  const bool number = type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_INT32;
  const bool found =
      number || name == CUDNN_ATTR_ENGINEHEUR_RESULTS || name == CUDNN_ATTR_ENGINECFG_ENGINE;
  if (count != nullptr) {
    *count = found ? 1 : 0;
  }
  if (number && asked > 0 && values != nullptr) {
    std::memset(values, 0, type == CUDNN_TYPE_INT64 ? 8 : 4);
  }
  return done("cudnnBackendGetAttribute", descriptor);
}
EXPORTED cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return done("cudnnBackendFinalize", descriptor);
}
EXPORTED cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan,
                                           cudnnBackendDescriptor_t) {
  return done("cudnnBackendExecute", plan);
}

EXPORTED cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
EXPORTED cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  *found = {};
  found->major = 9;
  found->multiProcessorCount = 132;
  return cudaSuccess;
}
EXPORTED cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}
