#include "operators/gemm/libraries.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "operators/registry.hpp"

namespace predictor {
namespace {

EventHandle make_event() { // for order alone
  cudaEvent_t event = nullptr;
  CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return EventHandle(event);
}

} // namespace

SideStreams::SideStreams() : forked_(make_event()) {
  for (std::size_t i = 0; i < count; ++i) {
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    streams[i].reset(stream);
    workspaces[i] = allocate_device_memory(gemm_workspace_bytes);
    joined_[i] = make_event();
  }
}

void SideStreams::fork(cudaStream_t stream) {
  CUDA_CHECK(cudaEventRecord(forked_.get(), stream));
  for (const StreamHandle& side : streams) {
    CUDA_CHECK(cudaStreamWaitEvent(side.get(), forked_.get(), 0));
  }
}

void SideStreams::join(cudaStream_t stream) {
  for (std::size_t i = 0; i < count; ++i) {
    CUDA_CHECK(cudaEventRecord(joined_[i].get(), streams[i].get()));
    CUDA_CHECK(cudaStreamWaitEvent(stream, joined_[i].get(), 0));
  }
}

GemmLibraries::GemmLibraries(CudaDevice& device)
    : stream(device.stream()), workspace(allocate_device_memory(gemm_workspace_bytes)) {}

GemmLibraries::~GemmLibraries() {
  if (device_abandoned()) {
    return;
  }
  if (lt_handle != nullptr) {
    (void)lt->destroy(lt_handle);
  }
  if (blas_handle != nullptr) {
    (void)blas->destroy(blas_handle);
  }
}

const CublasLt& GemmLibraries::open_lt() {
  if (!lt) {
    lt.emplace();
  }
  if (lt_handle == nullptr) {
    CUBLAS_CHECK(lt->create(&lt_handle));
  }
  return *lt;
}

const Cublas& GemmLibraries::open_blas() {
  if (!blas) {
    blas.emplace();
  }
  if (blas_handle == nullptr) {
    CUBLAS_CHECK(blas->create(&blas_handle));
  }
  if (!blas_is_bound) { // again where it failed: on another stream nothing would be timed
    CUBLAS_CHECK(blas->set_stream(blas_handle, stream));
    CUBLAS_CHECK(blas->set_workspace(blas_handle, workspace.get(), gemm_workspace_bytes));
    blas_is_bound = true;
  }
  return *blas;
}

SideStreams& GemmLibraries::open_side_streams() {
  if (!side_streams) {
    side_streams.emplace();
  }
  return *side_streams;
}

GemmLibraries& gemm_libraries_of(CudaDevice& device) {
  if (!device.gemm_libraries) {
    device.gemm_libraries = std::make_shared<GemmLibraries>(device);
  }
  return *device.gemm_libraries;
}

void add_gemm_libraries(CudaDevice& device, std::map<std::string, LibraryInfo>& found) {
  GemmLibraries& libraries = gemm_libraries_of(device);
  try {
    const CublasLt& lt = libraries.open_lt();
    found["cublaslt"] = {.path = lt.library.path(), .version = lt.version(), .error = ""};
  } catch (const LibraryMissing& error) {
    found["cublaslt"].error = error.what();
  }
  try {
    const Cublas& blas = libraries.open_blas();
    int version = 0;
    CUBLAS_CHECK(blas.get_version(libraries.blas_handle, &version));
    found["cublas"] = {.path = blas.library.path(),
                       .version =
                           text(version / 10000, '.', version / 100 % 100, '.', version % 100),
                       .error = ""};
  } catch (const LibraryMissing& error) {
    found["cublas"].error = error.what();
  }
}

} // namespace predictor
