// cuBLAS and cuBLASLt, opened at run time. Types come from the headers, code from the libraries.
#pragma once

#include "libraries/loader.hpp"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>

namespace predictor {

// Raises Unsupported, OutOfDeviceMemory, DeviceFault (for a launch that failed) or NativeError.
[[noreturn]] void raise_cublas_error(cublasStatus_t status, const char* call,
                                     std::source_location where = std::source_location::current());

#define CUBLAS_CHECK(call)                                                                         \
  do {                                                                                             \
    if (const cublasStatus_t status_ = (call); status_ != CUBLAS_STATUS_SUCCESS) {                 \
      ::predictor::raise_cublas_error(status_, #call);                                             \
    }                                                                                              \
  } while (false)

// The functions that this project calls, by their own names.
struct CublasLt {
  CublasLt();

  Library library;
  decltype(&::cublasLtCreate) create = nullptr;
  decltype(&::cublasLtDestroy) destroy = nullptr;
  decltype(&::cublasLtGetVersion) get_version = nullptr;
  decltype(&::cublasLtMatmul) matmul = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&::cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;

  [[nodiscard]] std::string version() const;
};

struct Cublas {
  // Spelt out, as the header overloads the name.
  using GemmEx = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                const void*, const void*, cudaDataType, int, const void*,
                                cudaDataType, int, const void*, void*, cudaDataType, int,
                                cublasComputeType_t, cublasGemmAlgo_t);
  using GemmGroupedBatchedEx = cublasStatus_t(cublasHandle_t, const cublasOperation_t*,
                                              const cublasOperation_t*, const int*, const int*,
                                              const int*, const void*, const void* const*,
                                              cudaDataType_t, const int*, const void* const*,
                                              cudaDataType_t, const int*, const void*, void* const*,
                                              cudaDataType_t, const int*, int, const int*,
                                              cublasComputeType_t);

  Cublas();

  Library library;
  decltype(&::cublasCreate_v2) create = nullptr;
  decltype(&::cublasDestroy_v2) destroy = nullptr;
  decltype(&::cublasGetVersion_v2) get_version = nullptr;
  decltype(&::cublasSetStream_v2) set_stream = nullptr;
  decltype(&::cublasSetWorkspace_v2) set_workspace = nullptr;
  GemmEx* gemm_ex = nullptr;
  GemmGroupedBatchedEx* gemm_grouped_batched_ex = nullptr; // null before cuBLAS 12.5
};

} // namespace predictor
