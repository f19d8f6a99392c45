// GEMM through cuBLAS and cuBLASLt, the entry points that frameworks call.
//
// Row-major x[m, k], w[n, k], y[m, n]. The libraries are column-major, so a row-major matrix is
// theirs transposed, and each product is asked for transposed:
//
//   forward  yᵀ[n, m]  = w · xᵀ      op(A) = wᵀ stored [k, n] transposed, B = x stored [k, m]
//   dgrad    dxᵀ[k, m] = wᵀ · dyᵀ    A = w stored [k, n], B = dy stored [n, m]
//   wgrad    dwᵀ[k, n] = xᵀ · dy     A = x stored [k, m], op(B) = dy stored [n, m] transposed
//
// fp8 tensor cores of Hopper want both operands contiguous along the reduced index: op(A) = Aᵀ with
// A stored [reduced, rows], B stored [reduced, cols]. So dgrad reads wᵀ, and wgrad xᵀ and dyᵀ,
// which a stack has stored by kernels of their own.
#include "operators/gemm/shape.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

namespace predictor {
namespace {

constexpr double fp8_deviations = 6.0; // between zero and the largest number
constexpr double largest_e4m3 = 448.0;
constexpr double largest_e5m2 = 57344.0;

// The value of the name that a field holds.
template <typename Value, std::size_t count>
Value named(const Fields& fields, std::string_view field,
            const std::array<std::pair<std::string_view, Value>, count>& names) {
  const std::string& given = fields.text(field);
  std::string known;
  for (const auto& [name, value] : names) {
    if (given == name) {
      return value;
    }
    known += known.empty() ? "" : ", ";
    known += name;
  }
  throw Unsupported(text("gemm: ", field, " '", given, "' is none of ", known));
}

double largest(DataType type) {
  return type == DataType::e4m3 ? largest_e4m3 : largest_e5m2;
}

bool is_fp8(DataType type) {
  return type == DataType::e4m3 || type == DataType::e5m2;
}

void require_served(const GemmFields& gemm) {
  if (std::max({gemm.m, gemm.n, gemm.k}) > std::numeric_limits<int>::max()) {
    throw Unsupported("gemm: m, n and k must stay below 2^31");
  }
  if (gemm.accumulate && gemm.kind != GemmKind::wgrad) {
    throw Unsupported("gemm: accumulate is served for kind wgrad only");
  }
  if ((gemm.bias || gemm.gelu) && gemm.kind != GemmKind::forward) {
    throw Unsupported("gemm: bias and gelu are served for kind forward only");
  }
}

} // namespace

GemmKind read_gemm_kind(const Fields& fields) {
  return named<GemmKind, 3>(
      fields, "kind",
      {{{"forward", GemmKind::forward}, {"dgrad", GemmKind::dgrad}, {"wgrad", GemmKind::wgrad}}});
}

GemmFormat read_gemm_format(const Fields& fields) {
  return named<GemmFormat, 4>(fields, "dtype",
                              {{{"bf16", GemmFormat::bf16},
                                {"fp16", GemmFormat::fp16},
                                {"tf32", GemmFormat::tf32},
                                {"fp8", GemmFormat::fp8}}});
}

GemmFields read_gemm_fields(const Fields& fields) {
  const GemmFields gemm{
      .m = fields.positive("m"),
      .n = fields.positive("n"),
      .k = fields.positive("k"),
      .kind = read_gemm_kind(fields),
      .format = read_gemm_format(fields),
      .fill = named<GemmFill, 3>(fields, "fill",
                                 {{{"normal", GemmFill::normal},
                                   {"uniform", GemmFill::uniform},
                                   {"zeros", GemmFill::zeros}}}),
      .best = named<bool, 2>(fields, "algorithm", {{{"heuristic", false}, {"best", true}}}),
      .accumulate = fields.flag("accumulate", false),
      .bias = fields.flag("bias", false),
      .gelu = fields.flag("gelu", false)};
  require_served(gemm);
  return gemm;
}

GemmTypes gemm_types(GemmFormat format, GemmKind kind, bool accumulate) {
  GemmTypes types{DataType::bf16, DataType::bf16, DataType::bf16, CUBLAS_COMPUTE_32F};
  switch (format) {
  case GemmFormat::bf16:
    break;
  case GemmFormat::fp16:
    types.a = types.b = types.d = DataType::fp16;
    break;
  case GemmFormat::tf32:
    types.a = types.b = types.d = DataType::fp32;
    types.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    break;
  case GemmFormat::fp8: // B is the gradient of dgrad and wgrad
    types.a = DataType::e4m3;
    types.b = kind == GemmKind::forward ? DataType::e4m3 : DataType::e5m2;
    break;
  }
  if (accumulate) {
    types.d = DataType::fp32;
  }
  return types;
}

cudaDataType_t cuda_type(DataType type) {
  switch (type) {
  case DataType::fp16:
    return CUDA_R_16F;
  case DataType::fp32:
    return CUDA_R_32F;
  case DataType::e4m3:
    return CUDA_R_8F_E4M3;
  case DataType::e5m2:
    return CUDA_R_8F_E5M2;
  default:
    return CUDA_R_16BF;
  }
}

GemmProduct product_of(GemmKind kind, GemmFormat format, std::int64_t m, std::int64_t n,
                       std::int64_t k) {
  GemmProduct product{};
  switch (kind) {
  case GemmKind::forward:
    product = {CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, k, k, n};
    break;
  case GemmKind::dgrad:
    product = {CUBLAS_OP_N, CUBLAS_OP_N, k, m, n, k, n, k};
    break;
  case GemmKind::wgrad:
    product = {CUBLAS_OP_N, CUBLAS_OP_T, k, n, m, k, n, k};
    break;
  }
  if (format == GemmFormat::fp8) {
    product.transpose_a = CUBLAS_OP_T;
    product.transpose_b = CUBLAS_OP_N;
    product.lda = product.ldb = product.reduced;
  }
  return product;
}

Operand gemm_input(std::string name, DataType type, std::int64_t elements, GemmFill fill) {
  // The input arena holds bf16 normals; all else is filled into buffers of its own.
  const bool arena = type == DataType::bf16 && fill == GemmFill::normal;
  const double range = is_fp8(type) ? largest(type) : 1.0;
  Operand operand{.name = std::move(name),
                  .type = type,
                  .elements = elements,
                  .role = arena ? Role::input : Role::prepared};
  switch (fill) {
  case GemmFill::normal:
    operand.fill = Fill::normal(is_fp8(type) ? range / fp8_deviations : 1.0);
    break;
  case GemmFill::uniform:
    operand.fill = Fill::uniform(-range, range);
    break;
  case GemmFill::zeros:
    operand.fill = Fill::constant(0.0);
    break;
  }
  return operand;
}

double gemm_scale(DataType type) {
  return is_fp8(type) ? static_cast<float>(fp8_deviations / largest(type)) : 1.0;
}

Operand gemm_scale_operand(std::string name, DataType type) {
  return {.name = std::move(name),
          .type = DataType::fp32,
          .elements = 1,
          .role = Role::prepared,
          .fill = Fill::constant(gemm_scale(type)),
          .shared = true};
}

} // namespace predictor
