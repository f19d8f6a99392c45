// cuBLAS and cuBLASLt of one device.
#pragma once

#include "cuda/cuda_device.hpp"
#include "libraries/cublas.hpp"

#include <optional>

namespace predictor {

// What PyTorch gives cuBLAS on Hopper, and what the heuristic may then choose from.
inline constexpr std::size_t gemm_workspace_bytes = std::size_t{32} << 20;

// One handle of each library a device, sharing one workspace: all calls are on one stream.
struct GemmLibraries {
  explicit GemmLibraries(CudaDevice& device);
  ~GemmLibraries();
  GemmLibraries(const GemmLibraries&) = delete;
  GemmLibraries& operator=(const GemmLibraries&) = delete;

  // Opened at first use. Each raises LibraryMissing.
  [[nodiscard]] const CublasLt& open_lt();
  [[nodiscard]] const Cublas& open_blas();

  cudaStream_t stream;
  DeviceMemory workspace;
  std::optional<CublasLt> lt;
  std::optional<Cublas> blas;
  cublasLtHandle_t lt_handle = nullptr;
  cublasHandle_t blas_handle = nullptr;
};

[[nodiscard]] GemmLibraries& gemm_libraries_of(CudaDevice& device);

} // namespace predictor
