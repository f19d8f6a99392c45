// cuBLAS and cuBLASLt of one device.
#pragma once

#include "cuda/cuda_device.hpp"
#include "libraries/cublas.hpp"

#include <array>
#include <optional>

namespace predictor {

// What PyTorch gives cuBLAS on Hopper, and what the heuristic may then choose from.
inline constexpr std::size_t gemm_workspace_bytes = std::size_t{32} << 20;

// Streams beside the device's own, each with a workspace, as Transformer Engine spreads the
// products of experts over four.
struct SideStreams {
  static constexpr std::size_t count = 4;

  SideStreams();
  // Lets the side streams wait for `stream`, and `stream` for them.
  void fork(cudaStream_t stream);
  void join(cudaStream_t stream);

  std::array<StreamHandle, count> streams;
  std::array<DeviceMemory, count> workspaces; // of gemm_workspace_bytes

private:
  EventHandle forked_;
  std::array<EventHandle, count> joined_;
};

// One handle of each library a device, sharing one workspace: all calls are on one stream.
struct GemmLibraries {
  explicit GemmLibraries(CudaDevice& device);
  ~GemmLibraries();
  GemmLibraries(const GemmLibraries&) = delete;
  GemmLibraries& operator=(const GemmLibraries&) = delete;

  // Opened at first use. Each raises LibraryMissing.
  [[nodiscard]] const CublasLt& open_lt();
  [[nodiscard]] const Cublas& open_blas();
  [[nodiscard]] SideStreams& open_side_streams();

  cudaStream_t stream;
  DeviceMemory workspace;
  std::optional<CublasLt> lt;
  std::optional<Cublas> blas;
  std::optional<SideStreams> side_streams;
  cublasLtHandle_t lt_handle = nullptr;
  cublasHandle_t blas_handle = nullptr;
  bool blas_is_bound = false; // to the stream and the workspace
};

[[nodiscard]] GemmLibraries& gemm_libraries_of(CudaDevice& device);

} // namespace predictor
