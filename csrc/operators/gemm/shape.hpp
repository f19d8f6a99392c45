// The fields of a GEMM, and the product that the libraries are asked for.
#pragma once

#include "cuda/primitives.hpp"
#include "cuda/workload.hpp"
#include "fields.hpp"

#include <cstdint>
#include <cublas_v2.h>
#include <string>

namespace predictor {

enum class GemmKind { forward, dgrad, wgrad };
enum class GemmFormat { bf16, fp16, tf32, fp8 };
enum class GemmFill { normal, uniform, zeros };

struct GemmFields {
  std::int64_t m, n, k;
  GemmKind kind;
  GemmFormat format;
  GemmFill fill;
  bool best;
  bool accumulate;
  bool bias;
  bool gelu;
};

// Each raises NativeError for a field that is missing, Unsupported for one that is not served.
[[nodiscard]] GemmFields read_gemm_fields(const Fields& fields);
[[nodiscard]] GemmKind read_gemm_kind(const Fields& fields);
[[nodiscard]] GemmFormat read_gemm_format(const Fields& fields);

// What the library reads, multiplies and writes.
struct GemmTypes {
  DataType a, b, d;
  cublasComputeType_t compute;
};

[[nodiscard]] GemmTypes gemm_types(GemmFormat format, GemmKind kind, bool accumulate);
[[nodiscard]] cudaDataType_t cuda_type(DataType type);

// The product as the library sees it: D[rows, cols] = op(A) · op(B), column-major.
struct GemmProduct {
  cublasOperation_t transpose_a, transpose_b;
  std::int64_t rows, cols, reduced;
  std::int64_t lda, ldb, ldd; // as stored
};

[[nodiscard]] GemmProduct product_of(GemmKind kind, GemmFormat format, std::int64_t m,
                                     std::int64_t n, std::int64_t k);

// A matrix that the product reads. fp8 holds numbers scaled so that six standard deviations of a
// normal one reach the largest that the type knows; gemm_scale() undoes it.
[[nodiscard]] Operand gemm_input(std::string name, DataType type, std::int64_t elements,
                                 GemmFill fill = GemmFill::normal);
[[nodiscard]] double gemm_scale(DataType type);
// The scale as an operand, for the library to read.
[[nodiscard]] Operand gemm_scale_operand(std::string name, DataType type);

} // namespace predictor
