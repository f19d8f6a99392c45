// GEMM through cuBLAS and cuBLASLt, the entry points that frameworks call.
//
// Row-major x[m, k], w[n, k], y[m, n]. The libraries are column-major, so a row-major matrix is
// theirs transposed, and each product is asked for transposed:
//
//   forward  yᵀ[n, m]  = w · xᵀ      op(A) = wᵀ stored [k, n] transposed, B = x stored [k, m]
//   dgrad    dxᵀ[k, m] = wᵀ · dyᵀ    A = w stored [k, n], B = dy stored [n, m]
//   wgrad    dwᵀ[k, n] = xᵀ · dy     A = x stored [k, m], op(B) = dy stored [n, m] transposed
#include "operators/gemm/shape.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace predictor {
namespace {

GemmKind kind_of(const std::string& name) {
  if (name == "forward") {
    return GemmKind::forward;
  }
  if (name == "dgrad") {
    return GemmKind::dgrad;
  }
  if (name == "wgrad") {
    return GemmKind::wgrad;
  }
  throw Unsupported(text("gemm: kind '", name, "' is none of forward, dgrad, wgrad"));
}

DataType type_of(const std::string& name) {
  if (name == "bf16") {
    return DataType::bf16;
  }
  if (name == "fp16") {
    return DataType::fp16;
  }
  throw Unsupported(text("gemm: dtype '", name, "' is neither bf16 nor fp16"));
}

} // namespace

GemmFields read_gemm_fields(const Fields& fields) {
  const std::string& algorithm = fields.text("algorithm");
  if (algorithm != "heuristic" && algorithm != "best") {
    throw Unsupported(text("gemm: algorithm '", algorithm, "' is neither heuristic nor best"));
  }
  const GemmFields gemm{.m = fields.positive("m"),
                        .n = fields.positive("n"),
                        .k = fields.positive("k"),
                        .kind = kind_of(fields.text("kind")),
                        .type = type_of(fields.text("dtype")),
                        .best = algorithm == "best",
                        .accumulate = fields.flag("accumulate", false),
                        .bias = fields.flag("bias", false)};
  if (std::max({gemm.m, gemm.n, gemm.k}) > std::numeric_limits<int>::max()) {
    throw Unsupported("gemm: m, n and k must stay below 2^31");
  }
  if (gemm.accumulate && gemm.kind != GemmKind::wgrad) {
    throw Unsupported("gemm: accumulate is served for kind wgrad only");
  }
  if (gemm.bias && gemm.kind != GemmKind::forward) {
    throw Unsupported("gemm: bias is served for kind forward only");
  }
  return gemm;
}

GemmProduct product_of(const GemmFields& f) {
  switch (f.kind) {
  case GemmKind::forward:
    return {CUBLAS_OP_T, CUBLAS_OP_N, f.n, f.m, f.k, f.k, f.k, f.n};
  case GemmKind::dgrad:
    return {CUBLAS_OP_N, CUBLAS_OP_N, f.k, f.m, f.n, f.k, f.n, f.k};
  case GemmKind::wgrad:
    return {CUBLAS_OP_N, CUBLAS_OP_T, f.k, f.n, f.m, f.k, f.n, f.k};
  }
  return {};
}

} // namespace predictor
