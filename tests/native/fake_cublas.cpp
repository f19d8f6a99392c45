// cuBLAS and cuBLASLt without a GPU, for tests of the calls that are made to them: nothing is
// multiplied, and every call can be made to fail.
#include "failing.hpp"

#include <cublasLt.h>
#include <cublas_v2.h>

namespace {

// What a handle or a descriptor points at.
template <typename Pointer>
cublasStatus_t made(const char* name, Pointer* out) {
  static char object = 0;
  const int due = failing::called(name);
  *out = due == 0 ? reinterpret_cast<Pointer>(&object) : nullptr;
  return static_cast<cublasStatus_t>(due);
}

cublasStatus_t done(const char* name) {
  return static_cast<cublasStatus_t>(failing::called(name));
}

} // namespace

// --- cuBLAS
EXPORTED cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  return made("cublasCreate_v2", handle);
}
EXPORTED cublasStatus_t cublasDestroy_v2(cublasHandle_t) {
  return done("cublasDestroy_v2");
}
EXPORTED cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  *version = 130100;
  return done("cublasGetVersion_v2");
}
EXPORTED cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) {
  return done("cublasSetStream_v2");
}
EXPORTED cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, std::size_t) {
  return done("cublasSetWorkspace_v2");
}
EXPORTED cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                     int, const void*, const void*, cudaDataType, int, const void*,
                                     cudaDataType, int, const void*, void*, cudaDataType, int,
                                     cublasComputeType_t, cublasGemmAlgo_t) {
  return done("cublasGemmEx");
}
EXPORTED cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t, const cublasOperation_t*,
                                                   const cublasOperation_t*, const int*, const int*,
                                                   const int*, const void*, const void* const*,
                                                   cudaDataType_t, const int*, const void* const*,
                                                   cudaDataType_t, const int*, const void*,
                                                   void* const*, cudaDataType_t, const int*, int,
                                                   const int*, cublasComputeType_t) {
  return done("cublasGemmGroupedBatchedEx");
}

// --- cuBLASLt
EXPORTED cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return made("cublasLtCreate", handle);
}
EXPORTED cublasStatus_t cublasLtDestroy(cublasLtHandle_t) {
  return done("cublasLtDestroy");
}
EXPORTED std::size_t cublasLtGetVersion() {
  return 130100;
}
EXPORTED cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made_, cublasComputeType_t,
                                                 cudaDataType_t) {
  return made("cublasLtMatmulDescCreate", made_);
}
EXPORTED cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t) {
  return done("cublasLtMatmulDescDestroy");
}
EXPORTED cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t,
                                                       cublasLtMatmulDescAttributes_t, const void*,
                                                       std::size_t) {
  return done("cublasLtMatmulDescSetAttribute");
}
EXPORTED cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made_, cudaDataType,
                                                   std::uint64_t, std::uint64_t, std::int64_t) {
  return made("cublasLtMatrixLayoutCreate", made_);
}
EXPORTED cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t) {
  return done("cublasLtMatrixLayoutDestroy");
}
EXPORTED cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made_) {
  return made("cublasLtMatmulPreferenceCreate", made_);
}
EXPORTED cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) {
  return done("cublasLtMatmulPreferenceDestroy");
}
EXPORTED cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                             cublasLtMatmulPreferenceAttributes_t,
                                                             const void*, std::size_t) {
  return done("cublasLtMatmulPreferenceSetAttribute");
}
EXPORTED cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int most,
    cublasLtMatmulHeuristicResult_t found[], int* count) {
  *count = most < 2 ? most : 2;
  for (int i = 0; i < *count; ++i) {
    found[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return done("cublasLtMatmulAlgoGetHeuristic");
}
EXPORTED cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*,
                                       const void*, cublasLtMatrixLayout_t, const void*,
                                       cublasLtMatrixLayout_t, const void*, const void*,
                                       cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t*, void*, std::size_t,
                                       cudaStream_t) {
  return done("cublasLtMatmul");
}
