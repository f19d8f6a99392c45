// The fields of a GEMM, and the product that the libraries are asked for.
#pragma once

#include "cuda/primitives.hpp"
#include "fields.hpp"

#include <cstdint>
#include <cublas_v2.h>

namespace predictor {

enum class GemmKind { forward, dgrad, wgrad };

struct GemmFields {
  std::int64_t m, n, k;
  GemmKind kind;
  DataType type;
  bool best;
  bool accumulate;
  bool bias;
};

// Raises NativeError for a field that is missing, Unsupported for one that is not served.
[[nodiscard]] GemmFields read_gemm_fields(const Fields& fields);

// The product as the library sees it: D[rows, cols] = op(A) · op(B), column-major.
struct GemmProduct {
  cublasOperation_t transpose_a, transpose_b;
  std::int64_t rows, cols, reduced;
  std::int64_t lda, ldb, ldd; // as stored
};

[[nodiscard]] GemmProduct product_of(const GemmFields& fields);

} // namespace predictor
