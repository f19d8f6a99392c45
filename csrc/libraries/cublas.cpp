#include "libraries/cublas.hpp"

#include "cuda/check.hpp"
#include "errors.hpp"
#include "format_text.hpp"

namespace predictor {
namespace {

#define PREDICTOR_TEXT(symbol) #symbol
#define PREDICTOR_EXPANDED_TEXT(symbol) PREDICTOR_TEXT(symbol)

// The libraries follow the major version of the headers that the calls were compiled against.
Library open(const char* name, const char* variable, const std::string& stem) {
  return Library(
      {name, variable, "nvidia/*/lib", stem + ".so." PREDICTOR_EXPANDED_TEXT(CUBLAS_VER_MAJOR)});
}

const char* status_name(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "not initialized";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "allocation failed";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "invalid value";
  case CUBLAS_STATUS_ARCH_MISMATCH:
    return "architecture mismatch";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "execution failed";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "not supported";
  default:
    return "internal error";
  }
}

} // namespace

void raise_cublas_error(cublasStatus_t status, const char* call, std::source_location where) {
  if (const cudaError_t cuda = cudaGetLastError(); cuda != cudaSuccess) {
    raise_cuda_error(cuda, call, where); // the cause says more than the library does
  }
  const std::string message =
      text("cuBLAS: ", status_name(status), " (status ", static_cast<int>(status), ") from ", call,
           " at ", where.file_name(), ':', where.line());
  switch (status) {
  case CUBLAS_STATUS_ALLOC_FAILED:
    throw OutOfDeviceMemory(message);
  case CUBLAS_STATUS_NOT_SUPPORTED:
  case CUBLAS_STATUS_ARCH_MISMATCH:
    throw Unsupported(message);
  case CUBLAS_STATUS_EXECUTION_FAILED:
    throw DeviceFault(message);
  default:
    throw NativeError(message);
  }
}

CublasLt::CublasLt() : library(open("cublaslt", "PREDICTOR_CUBLASLT", "libcublasLt")) {
  library.bind(create, "cublasLtCreate");
  library.bind(destroy, "cublasLtDestroy");
  library.bind(get_version, "cublasLtGetVersion");
  library.bind(matmul, "cublasLtMatmul");
  library.bind(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  library.bind(desc_create, "cublasLtMatmulDescCreate");
  library.bind(desc_destroy, "cublasLtMatmulDescDestroy");
  library.bind(desc_set, "cublasLtMatmulDescSetAttribute");
  library.bind(layout_create, "cublasLtMatrixLayoutCreate");
  library.bind(layout_destroy, "cublasLtMatrixLayoutDestroy");
  library.bind(preference_create, "cublasLtMatmulPreferenceCreate");
  library.bind(preference_destroy, "cublasLtMatmulPreferenceDestroy");
  library.bind(preference_set, "cublasLtMatmulPreferenceSetAttribute");
}

std::string CublasLt::version() const {
  const std::size_t number = get_version(); // 130100 is 13.1.0
  return text(number / 10000, '.', number / 100 % 100, '.', number % 100);
}

Cublas::Cublas() : library(open("cublas", "PREDICTOR_CUBLAS", "libcublas")) {
  library.bind(create, "cublasCreate_v2");
  library.bind(destroy, "cublasDestroy_v2");
  library.bind(get_version, "cublasGetVersion_v2");
  library.bind(set_stream, "cublasSetStream_v2");
  library.bind(set_workspace, "cublasSetWorkspace_v2");
  library.bind(gemm_ex, "cublasGemmEx");
  if (library.has("cublasGemmGroupedBatchedEx")) {
    library.bind(gemm_grouped_batched_ex, "cublasGemmGroupedBatchedEx");
  }
}

} // namespace predictor
