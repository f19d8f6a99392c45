// One product through cuBLASLt: its description and the algorithms that the library offers for it.
#pragma once

#include "libraries/cublas.hpp"
#include "operators/gemm/shape.hpp"

#include <memory>
#include <type_traits>
#include <vector>

namespace predictor {

// Addresses on the device. Null where the product has no such operand.
struct LtAddresses {
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  const void* bias = nullptr;
  void* gelu_argument = nullptr;
  const void* scale_a = nullptr; // fp32, of fp8 operands
  const void* scale_b = nullptr;
};

struct LtWorkspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

struct LtOptions {
  GemmKind kind = GemmKind::forward;
  bool accumulate = false;
  // Of every address that the product will be given, in bytes.
  std::uint32_t alignment = 256;
};

class LtProduct {
public:
  // Bias, GELU and scales are part of the product if `example` has addresses for them.
  LtProduct(const CublasLt& lt, cublasLtHandle_t handle, const GemmProduct& product,
            const GemmTypes& types, const LtOptions& options, const LtAddresses& example);

  // The library's first choices, at most `most`. Raises Unsupported where it has none.
  [[nodiscard]] std::vector<cublasLtMatmulAlgo_t> algorithms(int most,
                                                             std::size_t workspace_bytes) const;

  void enqueue(const LtAddresses& addresses, const cublasLtMatmulAlgo_t& algorithm,
               const LtWorkspace& workspace, cudaStream_t stream) const;

private:
  template <typename T>
  using Handle = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;
  using Layout = Handle<cublasLtMatrixLayout_t>;

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const;
  void set_addresses(const LtAddresses& addresses) const;
  [[nodiscard]] Layout layout(DataType type, std::int64_t rows, std::int64_t cols,
                              std::int64_t stride) const;

  const CublasLt& lt_;
  cublasLtHandle_t handle_;
  LtOptions options_;
  Handle<cublasLtMatmulDesc_t> operation_;
  Layout a_;
  Layout b_;
  Layout d_;
};

} // namespace predictor
