#include "operators/gemm/lt_product.hpp"

#include "errors.hpp"

namespace predictor {
namespace {

constexpr float one = 1.0f;
constexpr float zero = 0.0f;

cublasLtEpilogue_t epilogue_of(const LtAddresses& example) {
  if (example.gelu_argument != nullptr) {
    return example.bias != nullptr ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  }
  return example.bias != nullptr ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

} // namespace

LtProduct::LtProduct(const CublasLt& lt, cublasLtHandle_t handle, const GemmProduct& product,
                     const GemmTypes& types, const LtOptions& options, const LtAddresses& example)
    : lt_(lt), handle_(handle), options_(options), operation_(nullptr, lt.desc_destroy),
      a_(product.transpose_a == CUBLAS_OP_T
             ? layout(types.a, product.reduced, product.rows, product.lda)
             : layout(types.a, product.rows, product.reduced, product.lda)),
      b_(product.transpose_b == CUBLAS_OP_T
             ? layout(types.b, product.cols, product.reduced, product.ldb)
             : layout(types.b, product.reduced, product.cols, product.ldb)),
      d_(layout(types.d, product.rows, product.cols, product.ldd)) {
  cublasLtMatmulDesc_t operation = nullptr;
  CUBLAS_CHECK(lt_.desc_create(&operation, types.compute, CUDA_R_32F));
  operation_.reset(operation);
  set(CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_a);
  set(CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_b);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(example));
  if (example.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(types.d));
  }
  if (example.gelu_argument != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, product.ldd);
  }
  if (example.scale_a != nullptr) {
    // As Transformer Engine: gradients accumulate in full precision, the forward product does not.
    const std::int8_t fast = options.kind == GemmKind::forward ? 1 : 0;
    set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast);
  }
  set_addresses(example);
}

template <typename T>
void LtProduct::set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
  CUBLAS_CHECK(lt_.desc_set(operation_.get(), attribute, &value, sizeof(value)));
}

void LtProduct::set_addresses(const LtAddresses& addresses) const {
  if (addresses.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, addresses.bias);
  }
  if (addresses.gelu_argument != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, addresses.gelu_argument);
  }
  if (addresses.scale_a != nullptr) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, addresses.scale_a);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, addresses.scale_b);
  }
}

LtProduct::Layout LtProduct::layout(DataType type, std::int64_t rows, std::int64_t cols,
                                    std::int64_t stride) const {
  cublasLtMatrixLayout_t made = nullptr;
  CUBLAS_CHECK(lt_.layout_create(&made, cuda_type(type), static_cast<std::uint64_t>(rows),
                                 static_cast<std::uint64_t>(cols), stride));
  return {made, lt_.layout_destroy};
}

std::vector<cublasLtMatmulAlgo_t> LtProduct::algorithms(int most,
                                                        std::size_t workspace_bytes) const {
  cublasLtMatmulPreference_t made = nullptr;
  CUBLAS_CHECK(lt_.preference_create(&made));
  const Handle<cublasLtMatmulPreference_t> preference(made, lt_.preference_destroy);
  CUBLAS_CHECK(lt_.preference_set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                  sizeof(workspace_bytes)));
  for (const cublasLtMatmulPreferenceAttributes_t attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    CUBLAS_CHECK(
        lt_.preference_set(made, attribute, &options_.alignment, sizeof(options_.alignment)));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
  int count = 0;
  CUBLAS_CHECK(lt_.heuristic(handle_, operation_.get(), a_.get(), b_.get(), d_.get(), d_.get(),
                             made, most, found.data(), &count));
  found.resize(static_cast<std::size_t>(count));
  std::vector<cublasLtMatmulAlgo_t> chosen;
  for (const auto& each : found) {
    if (each.state == CUBLAS_STATUS_SUCCESS) {
      chosen.push_back(each.algo);
    }
  }
  if (chosen.empty()) {
    throw Unsupported("cuBLASLt has no algorithm for this product");
  }
  return chosen;
}

void LtProduct::enqueue(const LtAddresses& addresses, const cublasLtMatmulAlgo_t& algorithm,
                        const LtWorkspace& workspace, cudaStream_t stream) const {
  set_addresses(addresses);
  CUBLAS_CHECK(lt_.matmul(handle_, operation_.get(), &one, addresses.a, a_.get(), addresses.b,
                          b_.get(), options_.accumulate ? &one : &zero, addresses.d, d_.get(),
                          addresses.d, d_.get(), &algorithm, workspace.data, workspace.bytes,
                          stream));
}

} // namespace predictor
