// One GEMM an expert, in the ways that training stacks run them.
#include "backends.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/gemm/libraries.hpp"
#include "operators/gemm/reference.hpp"
#include "operators/grouped_gemm/workload.hpp"
#include "operators/registry.hpp"

#include <set>
#include <utility>

namespace predictor {
namespace {

constexpr std::int64_t checked_across = 8;
constexpr std::size_t checked_experts = 4;

std::unique_ptr<Workload> prepare_cublaslt_grouped(CudaDevice& device) {
  const CublasLt& lt = gemm_libraries_of(device).open_lt();
  const bool there = lt.library.has("cublasLtGroupedMatrixLayoutInit_internal") ||
                     lt.library.has("cublasLtGroupedMatrixLayoutCreate");
  throw Unsupported(there
                        ? text("grouped_gemm: the headers of this build, ", CUBLAS_VER_MAJOR, '.',
                               CUBLAS_VER_MINOR, ", lack what cuBLASLt ", lt.version(), " has")
                        : text("grouped_gemm: cuBLASLt ", lt.version(), " has no grouped matmul"));
}

} // namespace

GroupedWorkload::GroupedWorkload(CudaDevice& device, const Request& request, GroupedFields fields)
    : CudaWorkload(device, request), fields_(std::move(fields)),
      types_(gemm_types(fields_.format, fields_.kind, fields_.accumulate)),
      products_(expert_products(fields_)) {}

void GroupedWorkload::place_operands(const Request& request, std::int64_t workspace_bytes) {
  const GroupedExtents extents = grouped_extents(fields_);
  place({gemm_input("a", types_.a, extents.a),
         gemm_input("b", types_.b, extents.b),
         {.name = "d",
          .type = types_.d,
          .elements = extents.d,
          .role = fields_.accumulate ? Role::state : Role::output},
         gemm_scale_operand("scale_a", types_.a),
         gemm_scale_operand("scale_b", types_.b),
         {.name = "workspace",
          .type = DataType::byte,
          .elements = workspace_bytes,
          .role = Role::scratch,
          .shared = true}},
        request);
}

// The first expert, the last, and some between.
std::vector<Expected> GroupedWorkload::reference(const Inspector& inspector) {
  const double scale = gemm_scale(types_.a) * gemm_scale(types_.b);
  const std::size_t last = products_.size() - 1;
  std::set<std::size_t> chosen;
  for (std::size_t i = 0; i < checked_experts; ++i) {
    chosen.insert(i * last / (checked_experts - 1));
  }
  Expected d(g_d);
  for (const std::size_t which : chosen) {
    const ExpertProduct& expert = products_[which];
    const ProductPlace place{.a = g_a,
                             .b = g_b,
                             .a_start = expert.a_start,
                             .b_start = expert.b_start,
                             .d_start = expert.d_start};
    for (const auto& each : sampled_product(inspector, expert.product, place, checked_across)) {
      d.add(each.index, scale * each.value);
    }
  }
  if (fields_.accumulate) {
    const std::vector<double> before = inspector.read(g_d, d.indices);
    for (std::size_t i = 0; i < before.size(); ++i) {
      d.values[i] += before[i];
    }
  }
  return {std::move(d)};
}

std::byte* GroupedWorkload::address(const Buffers& buffers, GroupedOperands operand,
                                    std::int64_t element) const {
  const DataType type = operand == g_a ? types_.a : operand == g_b ? types_.b : types_.d;
  return buffers.get<std::byte>(operand) + element * static_cast<std::int64_t>(size_of(type));
}

std::unique_ptr<Workload> prepare_grouped_gemm(CudaDevice& device, const Request& request) {
  const GroupedFields fields = read_grouped_fields(request.fields);
  const std::string& impl = request.fields.text("impl");
  if (impl == "looped" || impl == "multi_stream") {
    return prepare_looped(device, request, fields, impl == "multi_stream");
  }
  if (impl == "cublas_grouped") {
    return prepare_cublas_grouped(device, request, fields);
  }
  if (impl == "cublaslt_grouped") {
    return prepare_cublaslt_grouped(device);
  }
  if (impl == "cudnn_moe") {
    return prepare_cudnn_moe(device, request, fields);
  }
  throw Unsupported(text("grouped_gemm: impl '", impl, "' is none of looped, multi_stream, ",
                         "cublas_grouped, cublaslt_grouped, cudnn_moe"));
}

#if !PREDICTOR_WITH_ATTENTION
std::unique_ptr<Workload> prepare_cudnn_moe(CudaDevice&, const Request&, const GroupedFields&) {
  throw Unsupported("grouped_gemm: this build found no headers of cuDNN and cudnn-frontend; "
                    "install the wheels nvidia-cudnn-cu13 and nvidia-cudnn-frontend and build "
                    "again");
}
#endif

} // namespace predictor
